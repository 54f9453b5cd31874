"""Several processes that share ports: each accepts connections of its own (SO_REUSEPORT); one that dies is replaced.

This process only watches. It keeps the ports bound without listening, so that they stay ours while workers come and go.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from shardwise.serve.online.assembly import METRICS_FOLDER
from shardwise.serve.online.journal import Journal
from shardwise.serve.online.server import listen
from shardwise.serve.online.settings import ServeConfig
from shardwise.serve.online.signals import ENDING, handled

_LOOK_S = 0.1
_SHORT_S = 2.0  # a worker that lived no longer has not begun to serve
_MOST_SHORT = 5  # so many of them one after the other: it never will


def serve_with_workers(words: Sequence[str], config: ServeConfig) -> int:
    """Run `config.workers` processes of the command line `words`, until a signal ends them; the exit code."""
    ports = {"--port": config.port}
    if config.grpc_port is not None:
        ports["--grpc-port"] = config.grpc_port
    folder = tempfile.mkdtemp(prefix="shardwise-metrics-")
    with contextlib.ExitStack() as held:
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        told = list(words)
        for option, port in ports.items():
            sock = held.enter_context(listen(config.host, port, shared=True))
            told += [option, str(sock.getsockname()[1])]
        return Workers([*told, "--worker"], config, folder).run()


class Workers:
    """The processes; `run` starts them, replaces those that die, and ends when all have ended."""

    def __init__(self, words: Sequence[str], config: ServeConfig, folder: str) -> None:
        self._command = [sys.executable, "-m", "shardwise", *words]
        self._config = config
        self._environment = {**os.environ, METRICS_FOLDER: folder}
        self._folder = folder
        self._journal = Journal()
        self._running: dict[subprocess.Popen[bytes], float] = {}
        self._ending, self._code = False, 0
        self._short = 0

    def run(self) -> int:
        with handled(ENDING, self._told):
            for _ in range(self._config.workers):
                self._start()
            while self._running:
                self._look()
                time.sleep(_LOOK_S)
        return self._code

    def _start(self) -> None:
        process = subprocess.Popen(self._command, env=self._environment, stdin=subprocess.DEVNULL)  # noqa: S603 - our own
        self._running[process] = time.monotonic()

    def _look(self) -> None:
        for process in [process for process in self._running if process.poll() is not None]:
            lived_s = time.monotonic() - self._running.pop(process)
            mark_process_dead(process.pid, self._folder)  # type: ignore[no-untyped-call]
            if self._ending:
                continue
            self._short = self._short + 1 if lived_s < _SHORT_S else 0
            self._journal.tell("worker_died", worker=process.pid, code=process.returncode)
            if self._short >= _MOST_SHORT:
                self._journal.tell("gave_up", reason=f"{_MOST_SHORT} workers died before they served")
                self._end(4)
            elif process.returncode == 2:  # bad input, which was told: another try would end the same
                self._end(2)
            else:
                self._start()

    def _told(self, kind: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the interface of signals
        self._end(0)

    def _end(self, code: int) -> None:
        self._ending, self._code = True, code
        for process in self._running:
            process.send_signal(signal.SIGTERM)
