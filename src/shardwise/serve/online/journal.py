"""What a server tells of itself: a JSON object a line on standard error, for people and for collectors of logs."""

import datetime
import json
import os
import sys
import threading
from typing import Any, TextIO

from shardwise.core.plain import finite


class Journal:
    """Writes lines; may be shared by threads."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()

    def tell(self, event: str, **details: Any) -> None:
        """One line: the time in UTC, the process, the event, and its details."""
        time = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        told = {"time": time, "pid": os.getpid(), "event": event, **details}
        line = json.dumps(finite(told), default=str)
        with self._lock:
            print(line, file=self._stream, flush=True)
