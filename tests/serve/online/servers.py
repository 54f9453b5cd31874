"""`shardwise serve` as a process: started on a free port, talked to, and ended."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

for name in ("uvicorn", "httptools", "orjson", "prometheus_client", "httpx"):
    pytest.importorskip(name, reason="the extra `serve` is not installed")

PATIENCE_S = 60.0


class Running:
    """A server; `events` are the lines that it told so far, `url` where it listens."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-m", "shardwise", "serve", *words, "--port", "0"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"})
        self.events: list[dict] = []
        self.lines: list[str] = []
        self._change = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.url = self.wait_for("serving")["url"]
        except BaseException:
            self.process.kill()
            self.ended()
            self.process.stderr.close()
            raise

    def _read(self) -> None:
        for line in self.process.stderr:
            with self._change:
                self.lines.append(line)
                if line.startswith("{") and line.endswith("}\n"):  # who is killed may leave half a line
                    self.events.append(json.loads(line))
                self._change.notify_all()
        with self._change:
            self._change.notify_all()

    def wait_for(self, event: str, count: int = 1) -> dict:
        """The `count`-th line of a kind, when it is there."""

        def found() -> list[dict]:
            return [line for line in self.events if line["event"] == event]

        with self._change:
            self._change.wait_for(lambda: len(found()) >= count or not self._reader.is_alive(), PATIENCE_S)
            assert len(found()) >= count, f"no {event!r} was told:\n{''.join(self.lines)}"
            return found()[count - 1]

    def end(self, kind: int = signal.SIGTERM) -> int:
        self.process.send_signal(kind)
        return self.ended()

    def ended(self) -> int:
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code


@contextmanager
def serving(*words: str) -> Iterator[Running]:
    server = Running(*words)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.end()
        server.ended()  # the reader reads to the end before its pipe is closed
        server.process.stderr.close()


def until(true, what: str) -> None:
    """Wait until something holds."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def make_certificate(folder: Path) -> Path:
    """`cert` and `key` of localhost in a folder, which is given back; skips where openssl is missing."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes a certificate, is not installed")
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -days 2"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", folder / "key", "-out", folder / "cert"]
    subprocess.run(["openssl", *words.split(), *names], check=True, capture_output=True)
    return folder
