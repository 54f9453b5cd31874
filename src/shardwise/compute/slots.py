"""Executors whose workers are processes, here or elsewhere: a queue of jobs, and a slot with a thread for each worker.

An engine says in a `Slot` how a message reaches a worker and how its answer comes back; all else is the same for all.
"""

import queue
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from shardwise.compute.ceiling import cpu_quota, tree_memory_bytes
from shardwise.compute.messages import Caller, read_answer
from shardwise.core.errors import OverBudget, TaskFailed
from shardwise.core.units import format_size

T = TypeVar("T")
R = TypeVar("R")


def threads_per_worker(workers: int) -> int:
    """Threads that each of `workers` may use so that together they fill the machine, or the container.

    >>> threads_per_worker(10_000)
    1
    """
    return max(1, cpu_quota() // max(1, workers))


@dataclass
class Job:
    """A task on its way: the message, and the future that waits for the answer."""

    message: bytes
    future: Future[Any]
    context: dict[str, Any]


class Slot(ABC):
    """One worker at a time, and the thread that feeds it."""

    def __init__(self, closed: threading.Event) -> None:
        self.closed = closed
        self.busy = False
        self.future: Future[Any] | None = None  # of the task that it runs, or ran last
        self.ended_for: OverBudget | None = None  # why the watch ended the worker, until its task hears of it

    @abstractmethod
    def ask(self, message: bytes) -> bytes:
        """Start a worker if there is none, send it the message, wait for the answer.

        Raises `WorkerLost` when the worker died, and other errors of a `TaskFailed` where the engine fails.
        """

    @abstractmethod
    def kill(self) -> None:
        """End the worker, if there is one; `ask` returns soon. Called from any thread."""

    def pid(self) -> int | None:
        """The worker's process, where it runs on this machine."""
        return None

    def end_for_memory(self, used_bytes: int, limit_bytes: int) -> None:
        """End the worker where it runs on this machine; its task becomes an `OverBudget`. Called from any thread."""
        if self.busy and self.pid() is not None:
            self.ended_for = over_budget(used_bytes, limit_bytes)
            self.kill()

    def memory_bytes(self) -> int:
        """Physical memory of the worker; 0 where none runs a task, or on another machine."""
        pid = self.pid() if self.busy else None
        return 0 if pid is None else tree_memory_bytes(pid)

    def serve(self, jobs: "queue.SimpleQueue[Job | None]") -> None:
        """Work off jobs until there comes None."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited by a worker until it ignores Ctrl-C
        while (job := jobs.get()) is not None:
            if job.future.set_running_or_notify_cancel():
                self.busy, self.future = True, job.future
                try:
                    result = self._run(job)
                except Exception as error:
                    self.busy = False
                    job.future.set_exception(error)
                else:
                    self.busy = False
                    job.future.set_result(result)
        self.kill()

    def _run(self, job: Job) -> Any:
        self.ended_for = None
        try:
            if self.closed.is_set():
                raise TaskFailed("the worker was not started")
            reply = self.ask(job.message)
        except TaskFailed as error:
            if self.closed.is_set():
                raise TaskFailed("the executor was closed before the task ended", **job.context) from error
            if self.ended_for is not None:
                raise self.ended_for from error
            error.context = {**job.context, **error.context}
            raise
        return read_answer(reply)


class SlotExecutor:
    """Runs tasks on the workers of its slots; what an engine's executor inherits.

    Errors of a task keep their type and carry the worker's traceback as a note. What cannot be pickled, and a result or
    an item above the caller's limit, is a `TaskFailed`.
    """

    threads: int

    def __init__(self, slots: Sequence[Slot], closed: threading.Event, caller: Caller) -> None:
        self.slots = len(slots)
        self._slots = slots
        self._closed = closed
        self._caller = caller
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=slot.serve, args=(self._jobs,), name=f"slot-{number}", daemon=True)
            for number, slot in enumerate(slots)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, task: Callable[[T], R], item: T) -> Future[R]:
        """Queue the task; raises `TaskFailed` when the executor is closed."""
        if self._closed.is_set():
            raise TaskFailed("the executor is closed", hint="Make a new one.")
        future: Future[R] = Future()
        try:
            message = self._caller.message(task, item)
        except TaskFailed as error:
            future.set_exception(error)
            return future
        self._jobs.put(Job(message, future, {"task": _name(task), "item": _shorten(item)}))
        return future

    def shed(self, used_bytes: int, limit_bytes: int) -> None:
        """End the largest worker, as the process tree uses more than it may; its task becomes an `OverBudget`."""
        largest = max(self._slots, key=Slot.memory_bytes)
        largest.end_for_memory(used_bytes, limit_bytes)

    def interrupt(self) -> None:
        """End the workers that run a task; their tasks become a `WorkerLost`, and new workers take their places."""
        for slot in self._slots:
            if slot.busy:
                slot.kill()

    def busy_pids(self) -> list[int]:
        """Processes of this machine that run a task."""
        pids = [slot.pid() for slot in self._slots if slot.busy]
        return [pid for pid in pids if pid is not None]

    def worker_bytes(self) -> int | None:
        """None: workers of this machine share its memory."""
        return None

    def pid_of(self, future: "Future[Any]") -> int | None:
        """The process of this machine that runs the task of a future; None where it is not known, or not started."""
        return next((slot.pid() for slot in self._slots if slot.busy and slot.future is future), None)

    def retire(self) -> None:
        """End the workers that are idle, to free their memory; they are started again when they are needed."""
        for slot in self._slots:
            if not slot.busy:
                slot.kill()

    def close(self) -> None:
        """Kill the workers; tasks that had not ended fail with `TaskFailed`. Safe to call from any thread, twice."""
        self._closed.set()
        for slot in self._slots:
            slot.kill()
            self._jobs.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ClusterExecutor(SlotExecutor, ABC):
    """Runs tasks on workers that belong to a cluster, which starts and ends them by itself."""

    def retire(self) -> None:
        """Does nothing: idle workers are the cluster's."""

    @abstractmethod
    def worker_bytes(self) -> int | None:
        """What a worker may use, as the cluster tells it; None where it does not."""

    def close(self) -> None:
        """Give up what runs, and end the cluster if it is ours; tasks that had not ended fail with `TaskFailed`."""
        super().close()
        for thread in self._threads:
            thread.join()
        self.leave()

    @abstractmethod
    def leave(self) -> None:
        """End what this executor has started of the cluster, and nothing else."""


def over_budget(used_bytes: int | None, limit_bytes: int) -> OverBudget:
    """The outcome of a task whose worker was ended for its memory; `used_bytes` is None when the kernel did it."""
    used = "more" if used_bytes is None else format_size(used_bytes)
    return OverBudget(
        f"a worker was ended: {format_size(limit_bytes)} of memory are allowed, {used} was used",
        hint="Give more --memory, or fewer --workers.",
    )


def _name(task: Callable[..., Any]) -> str:
    return getattr(task, "__qualname__", None) or type(task).__name__


def _shorten(item: object, length: int = 200) -> str:
    text = repr(item)
    return text if len(text) <= length else text[: length - 3] + "..."
