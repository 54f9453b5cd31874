"""What a server tells of itself: a JSON object a line on standard error, for people and for collectors of logs."""

import datetime
import json
import os
import sys
import threading
import traceback
from contextlib import suppress
from typing import Any, TextIO

from shardwise.core.plain import finite


class Journal:
    """Writes lines; may be shared by threads. What cannot be written, as on a full disk, is not told, and serving goes
    on."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()

    def tell(self, event: str, **details: Any) -> None:
        """One line: the time in UTC, the process, the event, and its details."""
        time = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        told = {"time": time, "pid": os.getpid(), "event": event, **details}
        self._write(json.dumps(finite(told), default=str))

    def trace(self, error: Exception) -> None:
        """Where an error came from, as Python tells it."""
        self._write("".join(traceback.format_exception(error)).rstrip())

    def _write(self, text: str) -> None:
        with self._lock, suppress(OSError):
            print(text, file=self._stream, flush=True)
