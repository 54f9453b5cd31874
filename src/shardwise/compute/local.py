"""Executors on this machine: in the calling thread, in threads, or in processes that may die without harm to others."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Self, TypeVar

from shardwise.compute import worker
from shardwise.compute.ceiling import cpu_quota
from shardwise.compute.limits import RESERVED_SHARE, MemoryGroup
from shardwise.compute.messages import RESULT_LIMIT_BYTES, THREAD_VARIABLES, Caller
from shardwise.compute.slots import Slot, SlotExecutor, over_budget, threads_per_worker
from shardwise.core.errors import ConfigError, ShardwiseError, TaskFailed, WorkerLost

T = TypeVar("T")
R = TypeVar("R")

_POLL_S = 1.0  # how often a silent worker is looked at, should a process that it started hold its connection open
_PATIENCE_S = 5.0  # for a worker that hung up to end


class InlineExecutor:
    """Runs each task in the calling thread, at once; Ctrl-C passes through."""

    slots = 1

    def __init__(self) -> None:
        self.threads = cpu_quota()

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

    def worker_bytes(self) -> int | None:
        """None: tasks share the memory of this process."""
        return None

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
        self.threads = threads_per_worker(threads)
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


class ProcessExecutor(SlotExecutor):
    """Runs tasks in `workers` long-lived processes.

    Each process is started when it is first needed. One that dies (killed, crashed) takes the task that it ran with it,
    as `WorkerLost`, and is replaced; the others go on. Workers print to standard error, so that standard output stays
    the caller's; they use `threads` threads each (default: their share of the CPUs), leave Ctrl-C to this process and
    die with it, whatever kills it.

    What is sent is bounded by `limit_bytes`. With `memory_bytes` the workers together stay under that limit (see
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
        self.threads = threads_per_worker(workers) if threads is None else threads
        self._limit = None if memory_bytes is None else _MemoryLimit(memory_bytes)
        closed = threading.Event()
        slots = [_ProcessSlot(self.threads, closed, self._limit) for _ in range(workers)]
        super().__init__(slots, closed, Caller(limit_bytes, places=False))

    def close(self) -> None:
        """Kill the workers; tasks that had not ended fail with `TaskFailed`. Safe to call from any thread, twice."""
        super().close()
        if self._limit is not None:
            self._limit.close()


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


class _ProcessSlot(Slot):
    """A process of this machine."""

    def __init__(self, threads: int, closed: threading.Event, memory: _MemoryLimit | None = None) -> None:
        super().__init__(closed)
        self.memory = memory
        self.environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
        self.lock = threading.Lock()  # guards the start of a process against `kill`
        self.process: subprocess.Popen[bytes] | None = None
        self.connection: Connection[Any, Any] | None = None

    def ask(self, message: bytes) -> bytes:
        try:
            connection = self.started()
            connection.send_bytes(message)
            return self.receive(connection)
        except (EOFError, OSError) as error:
            raise self.lost() from error

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
        arguments = map(str, (fd, os.getpid(), json.dumps([*map(str, sys.path)]), reserved))
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

    def pid(self) -> int | None:
        process = self.process
        return None if process is None else process.pid

    def lost(self) -> ShardwiseError:
        if self.closed.is_set() or self.process is None:
            return TaskFailed("the executor was closed before the task ended")
        try:
            code = self.process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:  # it hung up, but lives
            self.process.kill()
            code = self.process.wait()
        self.release()
        if code == -signal.SIGKILL and self.memory is not None and self.memory.was_exceeded():
            return over_budget(None, self.memory.limit_bytes)
        how = f"signal {-code}, {signal.strsignal(-code)}" if code < 0 else f"exit code {code}"
        hint = "The kernel kills with signal 9 when memory runs out: give fewer --workers, or more memory."
        return WorkerLost(f"the worker died ({how})", hint=hint if code == -signal.SIGKILL else "")

    def release(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = self.process = None

    def kill(self) -> None:
        with self.lock:
            if (process := self.process) is not None:
                process.kill()
                process.wait()
