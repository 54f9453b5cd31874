"""Tasks on Spark (https://spark.apache.org): each is a job of one task, whose answer is all that reaches the driver."""

import contextlib
import itertools
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from typing import Any

from shardwise.compute.ceiling import cpu_quota
from shardwise.compute.endpoints import check_port, library
from shardwise.compute.messages import RESULT_LIMIT_BYTES, Caller, answer
from shardwise.compute.slots import ClusterExecutor, Slot, threads_per_worker
from shardwise.core.errors import ConfigError, TaskFailed, WorkerLost

_LOST = ("Python worker exited unexpectedly", "ExecutorLostFailure", "Python worker failed to connect back")
_VERSION = "PYTHON_VERSION_MISMATCH"
_MASTER = re.compile(r"local(\[.*\])?|local-cluster\[.*\]|yarn|[a-z0-9+.-]+://.+")
_MASTER_HINT = "Give a master like spark://10.0.0.1:7077, yarn or local[2]."
_numbers = itertools.count()


class SparkExecutor(ClusterExecutor):
    """Runs up to `workers` tasks at a time on the executors of Spark.

    A session that this process has is used and left open. Else `address`, or the environment's MASTER, is the URL of a
    master (`spark://HOST:PORT`, `yarn`, `local[2]`); without one Spark runs on this machine alone. `workers` None:
    Spark's default parallelism.

    A Python worker that dies takes its task with it. A session of our own tries a task `tries` times by itself; one
    that is given does as its `spark.task.maxFailures` says. Nothing here bounds the memory of a worker;
    Spark's settings do.
    """

    def __init__(
        self, workers: int | None = None, *, address: str | None = None, limit_bytes: int = RESULT_LIMIT_BYTES,
        tries: int = 1,
    ) -> None:  # fmt: skip
        session_class = library("spark", "pyspark.sql").SparkSession
        session = session_class.getActiveSession()
        self._owned = session is None
        master = address or os.environ.get("MASTER")
        self._session = session or _start(session_class, master, workers or cpu_quota(), tries=tries)
        self.context = context = self._session.sparkContext
        count = workers or max(1, context.defaultParallelism)
        self.threads = threads_per_worker(count) if str(context.master).startswith("local") else 1
        closed = threading.Event()
        slots = [_JobSlot(context, closed) for _ in range(count)]
        super().__init__(slots, closed, Caller(limit_bytes, threads=self.threads))

    def leave(self) -> None:
        """End the session, if it is ours; the jobs have been cancelled."""
        if self._owned:
            self._session.stop()


def _start(session_class: Any, master: str | None, workers: int, *, tries: int = 1) -> Any:
    if not os.environ.get("JAVA_HOME") and shutil.which("java") is None:
        raise ConfigError("--engine spark needs Java, which was not found", hint="Install Java 17, or set JAVA_HOME.")
    if master is not None and not _MASTER.fullmatch(master):
        raise ConfigError(f"{master!r} is no master of Spark", hint=_MASTER_HINT)
    if master is not None and master.startswith("spark://"):
        check_port("spark", master.removeprefix("spark://").partition(",")[0])
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    settings = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"}
    settings["spark.task.maxFailures"] = str(tries)
    if master is None or master.startswith("local"):
        settings |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    # a local master takes the number of tries from its name alone
    builder = session_class.builder.master(master or f"local[{workers},{tries}]").appName("shardwise")
    with _stdout_is_stderr():
        try:
            return builder.config(map=settings).getOrCreate()
        except Exception as error:
            raise ConfigError(f"Spark does not start: {_first_line(error)}", hint=_MASTER_HINT) from error


@contextlib.contextmanager
def _stdout_is_stderr() -> Iterator[None]:
    """What Java prints for as long as it lives must not end up in the caller's results."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


class _JobSlot(Slot):
    """One job at a time, in a group of its own by which it is cancelled."""

    def __init__(self, context: Any, closed: threading.Event) -> None:
        super().__init__(closed)
        self.context = context
        self.group = f"shardwise-{os.getpid()}-{next(_numbers)}"
        self.ended = threading.Event()
        self.ended.set()

    def ask(self, message: bytes) -> bytes:
        self.ended.clear()
        try:
            self.context.setJobGroup(self.group, "shardwise", interruptOnCancel=True)
            (reply,) = self.context.parallelize([message], 1).map(answer).collect()
        except Exception as error:  # py4j's, with all that Java has to say
            raise told(error) from error
        finally:
            self.ended.set()
        return bytes(reply)

    def kill(self) -> None:
        """Cancel until the job has ended: one that was not submitted yet cannot be cancelled."""
        while not self.ended.is_set():
            self.context.cancelJobGroup(self.group)
            self.ended.wait(0.2)


def told(error: Exception) -> TaskFailed | ConfigError:
    """What Spark's error means."""
    text = str(error)
    if _VERSION in text:
        line = next(line for line in text.splitlines() if _VERSION in line)
        return ConfigError(f"a worker has another Python: {line.strip()}", hint="Set PYSPARK_PYTHON to the same one.")
    for reason in _LOST:
        if reason in text:
            return WorkerLost(f"the worker died: {reason}")
    return TaskFailed(f"Spark failed: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) or type(error).__name__
