"""Gangs of processes of this machine."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from shardwise.compute.gang.desk import StarGang
from shardwise.compute.local import ProcessExecutor


class ProcessLauncher:
    """Starts members in the worker processes of an executor of their own, which live from one run to the next."""

    host = "127.0.0.1"

    def __init__(self, workers: int, threads: int | None = None, memory_bytes: int | None = None) -> None:
        self._executor = ProcessExecutor(workers, threads=threads, memory_bytes=memory_bytes)
        self._futures: list[Future[Any]] = []

    def room(self) -> int:
        return self._executor.slots

    def launch(self, messages: list[tuple[Callable[[Any], Any], Any]]) -> "list[Future[Any]]":
        self._futures = [self._executor.submit(task, item) for task, item in messages]
        return self._futures

    def pid(self, rank: int) -> int | None:
        return self._executor.pid_of(self._futures[rank])

    def pids(self) -> list[int]:
        """Processes of the members that run."""
        return self._executor.busy_pids()

    def end(self) -> None:
        """Kill the processes that run something; new ones take their place."""
        self._executor.interrupt()

    def close(self) -> None:
        self._executor.close()


def process_gang(workers: int, *, threads: int | None = None, memory_bytes: int | None = None) -> StarGang:
    """Gangs of up to `workers` processes, of `threads` each (default: their share of the CPUs); `memory_bytes` is what
    they may use together."""
    return StarGang(ProcessLauncher(workers, threads, memory_bytes))
