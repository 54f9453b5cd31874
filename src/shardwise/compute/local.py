"""Executors on this machine: in the calling thread, in threads, or in processes that may die without harm to others."""

import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self, TypeVar

from shardwise.compute import worker
from shardwise.compute.base import Executor
from shardwise.compute.ceiling import cpu_quota, tree_memory_bytes
from shardwise.compute.limits import RESERVED_SHARE, MemoryGroup
from shardwise.core.errors import ConfigError, OverBudget, ShardwiseError, TaskFailed, WorkerLost
from shardwise.core.units import format_size

T = TypeVar("T")
R = TypeVar("R")

RESULT_LIMIT_BYTES = 64 * 2**20
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",  # also read by Arrow
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
_POLL_S = 1.0  # how often a silent worker is looked at, should a process that it started hold its connection open
_PATIENCE_S = 5.0  # for a worker that hung up to end


def threads_per_worker(workers: int) -> int:
    """Threads that each of `workers` may use so that together they fill the machine, or the container.

    >>> threads_per_worker(10_000)
    1
    """
    return max(1, cpu_quota() // max(1, workers))


class InlineExecutor:
    """Runs each task in the calling thread, at once; Ctrl-C passes through."""

    slots = 1

    def submit(self, task: Callable[[T], R], item: T) -> Future[R]:
        """Run the task; the future that comes back is done."""
        future: Future[R] = Future()
        try:
            future.set_result(task(item))
        except Exception as error:
            future.set_exception(error)
        return future

    def shed(self, used_bytes: int, limit_bytes: int) -> None:
        """There is nobody to end but the caller."""

    def retire(self) -> None:
        """There is nobody idle."""

    def close(self) -> None:
        """Nothing to stop."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ThreadExecutor(InlineExecutor):
    """Runs tasks in threads of this process: for work that is Arrow's and NumPy's, and too short to start processes.

    Threads cannot be killed: `close` waits for what runs.
    """

    def __init__(self, threads: int) -> None:
        self.slots = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="thread")

    def submit(self, task: Callable[[T], R], item: T) -> Future[R]:
        """Queue the task; raises `TaskFailed` when the executor is closed."""
        try:
            return self._pool.submit(task, item)
        except RuntimeError as error:
            raise TaskFailed("the executor is closed", hint="Make a new one.") from error

    def close(self) -> None:
        """Drop what has not started, and wait for the rest."""
        self._pool.shutdown(wait=True, cancel_futures=True)


@dataclass
class _Job:
    payload: bytes
    future: Future[Any]
    context: dict[str, Any]


class ProcessExecutor:
    """Runs tasks in `workers` long-lived processes.

    Each process is started when it is first needed. One that dies (killed, crashed) takes the task that it ran with it,
    as `WorkerLost`, and is replaced; the others go on. Workers print to standard error, so that standard output stays
    the caller's; they use `threads` threads each (default: their share of the CPUs), leave Ctrl-C to this process and
    die with it, whatever kills it.

    Errors of a task keep their type and carry the worker's traceback as a note. What cannot be pickled, and a result or
    an item above `limit_bytes`, is a `TaskFailed`. With `memory_bytes` the workers together stay under that limit (see
    `limits`); one that is ended for it is an `OverBudget`, and is not tried again.
    """

    def __init__(
        self,
        workers: int,
        *,
        threads: int | None = None,
        limit_bytes: int = RESULT_LIMIT_BYTES,
        memory_bytes: int | None = None,
    ) -> None:
        if workers < 1:
            raise ConfigError(f"{workers} workers were asked for", hint="Give at least 1.")
        self.slots = workers
        self.threads = threads_per_worker(workers) if threads is None else threads
        self.limit_bytes = limit_bytes
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._limit = None if memory_bytes is None else _MemoryLimit(memory_bytes)
        self._slots = [_Slot(self.threads, limit_bytes, self._closed, self._limit) for _ in range(workers)]
        for number, slot in enumerate(self._slots):
            threading.Thread(target=slot.serve, args=(self._jobs,), name=f"slot-{number}", daemon=True).start()

    def submit(self, task: Callable[[T], R], item: T) -> Future[R]:
        """Queue the task; raises `TaskFailed` when the executor is closed."""
        if self._closed.is_set():
            raise TaskFailed("the executor is closed", hint="Make a new one.")
        future: Future[R] = Future()
        try:
            payload = pickle.dumps((task, item), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            hint = "Define the task at the top of a module; pass references (paths, keys), not open files or locks."
            failed = TaskFailed(f"the task cannot be pickled: {type(error).__name__}: {error}", hint=hint)
            failed.__cause__ = error
            future.set_exception(failed)
            return future
        if len(payload) > self.limit_bytes:
            future.set_exception(worker.too_large("the item of the task", len(payload), self.limit_bytes))
            return future
        self._jobs.put(_Job(payload, future, {"task": _name(task), "item": _shorten(item)}))
        return future

    def shed(self, used_bytes: int, limit_bytes: int) -> None:
        """End the largest worker, as the process tree uses more than it may; its task becomes an `OverBudget`."""
        largest = max(self._slots, key=_Slot.memory_bytes)
        largest.end_for_memory(used_bytes, limit_bytes)

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
        if self._limit is not None:
            self._limit.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _MemoryLimit:
    """What the workers of an executor may use together; the group is made when the first one starts."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.group = MemoryGroup.make(limit_bytes)
        self._told = 0

    @property
    def reserved_bytes(self) -> int:
        """RLIMIT_DATA of a worker; 0 for none, where the group does it better."""
        return 0 if self.group is not None else int(RESERVED_SHARE * self.limit_bytes)

    def was_exceeded(self) -> bool:
        """Whether the kernel has ended another worker since the last time."""
        kills = 0 if self.group is None else self.group.kills()
        exceeded, self._told = kills > self._told, max(kills, self._told)
        return exceeded

    def close(self) -> None:
        if self.group is not None:
            self.group.close()


class _Slot:
    """One worker process at a time, and the thread that feeds it."""

    def __init__(
        self, threads: int, limit_bytes: int, closed: threading.Event, memory: "_MemoryLimit | None" = None
    ) -> None:
        self.memory = memory
        self.busy = False
        self.ended_for: OverBudget | None = None  # why the watch ended the process, until its task hears of it
        self.environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads))}
        self.limit_bytes = limit_bytes
        self.closed = closed
        self.lock = threading.Lock()  # guards the start of a process against `kill`
        self.process: subprocess.Popen[bytes] | None = None
        self.connection: Connection[Any, Any] | None = None

    def serve(self, jobs: "queue.SimpleQueue[_Job | None]") -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited by a worker until it ignores Ctrl-C
        while (job := jobs.get()) is not None:
            if job.future.set_running_or_notify_cancel():
                self.busy = True
                try:
                    result = self.run(job)
                except Exception as error:
                    self.busy = False
                    job.future.set_exception(error)
                else:
                    self.busy = False
                    job.future.set_result(result)
        self.kill()

    def run(self, job: _Job) -> Any:
        try:
            connection = self.started()
            connection.send_bytes(job.payload)
            reply = self.receive(connection)
        except (EOFError, OSError) as error:
            raise self.lost(job) from error
        if reply[:1] == worker.VALUE:
            return pickle.loads(memoryview(reply)[1:])  # noqa: S301 - from our own worker, over a private socket
        failure, trace = pickle.loads(memoryview(reply)[1:])  # noqa: S301 - as above
        if trace:
            failure.add_note(f"On the worker:\n{trace}")
        raise failure

    def receive(self, connection: "Connection[Any, Any]") -> bytes:
        while not connection.poll(_POLL_S):
            if self.process is None or self.process.poll() is not None:
                raise EOFError
        return connection.recv_bytes()

    def started(self) -> "Connection[Any, Any]":
        """The connection to a worker that lives; starts one when there is none."""
        with self.lock:
            if self.closed.is_set():
                raise EOFError
            if self.connection is not None and self.process is not None and self.process.poll() is None:
                return self.connection
            self.release()
            self.connection, theirs = Pipe()
            with theirs:
                self.process = self.start(theirs.fileno())
            return self.connection

    def start(self, fd: int) -> "subprocess.Popen[bytes]":
        reserved = 0 if self.memory is None else self.memory.reserved_bytes
        arguments = map(str, (fd, os.getpid(), self.limit_bytes, json.dumps([*map(str, sys.path)]), reserved))
        try:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and program
                [sys.executable, "-c", worker.COMMAND, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=2,  # what a task prints must not end up in the caller's results
                pass_fds=[fd],
                env=self.environment,
            )
        except OSError as error:
            self.release()
            raise TaskFailed(f"a worker cannot be started: {error}", hint="Give fewer --workers.") from error
        if self.memory is not None and self.memory.group is not None:
            self.memory.group.add(process.pid)
        return process

    def memory_bytes(self) -> int:
        """Physical memory of the process; 0 where none runs a task."""
        process = self.process
        return tree_memory_bytes(process.pid) if self.busy and process is not None else 0

    def end_for_memory(self, used_bytes: int, limit_bytes: int) -> None:
        with self.lock:
            if self.busy and self.process is not None:
                self.ended_for = over_budget(used_bytes, limit_bytes)
                self.process.kill()

    def lost(self, job: _Job) -> ShardwiseError:
        if self.closed.is_set() or self.process is None:
            return TaskFailed("the executor was closed before the task ended", **job.context)
        try:
            code = self.process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:  # it hung up, but lives
            self.process.kill()
            code = self.process.wait()
        self.release()
        ended_for, self.ended_for = self.ended_for, None
        if ended_for is not None:
            return ended_for
        if code == -signal.SIGKILL and self.memory is not None and self.memory.was_exceeded():
            return over_budget(None, self.memory.limit_bytes)
        how = f"signal {-code}, {signal.strsignal(-code)}" if code < 0 else f"exit code {code}"
        hint = "The kernel kills with signal 9 when memory runs out: give fewer --workers, or more memory."
        return WorkerLost(f"the worker died ({how})", hint=hint if code == -signal.SIGKILL else "", **job.context)

    def release(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = self.process = None

    def kill(self) -> None:
        with self.lock:
            if (process := self.process) is not None:
                process.kill()
                process.wait()


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


def _local(workers: int, memory_bytes: int | None) -> Executor:
    return InlineExecutor() if workers == 1 else ProcessExecutor(workers, memory_bytes=memory_bytes)


ENGINES: dict[str, Callable[[int, int | None], Executor]] = {"local": _local}


def make_executor(engine: str = "local", workers: int | None = None, *, memory_bytes: int | None = None) -> Executor:
    """The executor of an engine; `workers` defaults to the CPUs that this process may use.

    `memory_bytes` bounds what the workers use together. Raises `ConfigError` for an engine that is not known, or less
    than one worker.

    >>> make_executor("local", 1).slots
    1
    """
    if engine not in ENGINES:
        raise ConfigError(f"{engine!r} is not an engine", hint=f"Choose one of: {', '.join(ENGINES)}.")
    if workers is not None and workers < 1:
        raise ConfigError(f"{workers} workers were asked for", hint="Give at least 1.")
    return ENGINES[engine](cpu_quota() if workers is None else workers, memory_bytes)
