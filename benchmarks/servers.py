"""`shardwise serve` as a process of its own, for benchmarks that ask it."""

import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from common import shardwise_command

_PATIENCE_S = 60.0


class Server:
    """`shardwise serve`; `events` are the lines that it told so far."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(shardwise_command("serve", *words, "--port", "0"), stderr=subprocess.PIPE,
                                        text=True)  # fmt: skip
        self.events: list[tuple[float, dict[str, Any]]] = []
        threading.Thread(target=self._read, daemon=True).start()
        self.url = str(self.wait_for("serving")["url"])

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.startswith("{"):
                self.events.append((time.perf_counter(), json.loads(line)))

    def told(self, event: str) -> list[tuple[float, dict[str, Any]]]:
        return [each for each in self.events if each[1]["event"] == event]

    def wait_for(self, event: str, count: int = 1) -> dict[str, Any]:
        end = time.monotonic() + _PATIENCE_S
        while len(self.told(event)) < count:
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the server told no {event!r}: {self.events[-3:]}")
            time.sleep(0.005)
        return self.told(event)[count - 1][1]


@contextmanager
def serving(*words: str) -> Iterator[Server]:
    server = Server(*words)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait()


@contextmanager
def written(bodies: list[str]) -> Iterator[str]:
    """The name of a file with a body a line."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write("\n".join(bodies))
        file.flush()
        yield file.name
