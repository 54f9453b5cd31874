"""What a caller and its workers say to each other, whatever carries it: a message is a task and an item, an answer a
value or an error.

Both are bytes. A message is one line of JSON (who the caller is) and a pickle, an answer is one kind byte and a pickle.
Pickle is used on the wire between the processes of one run alone, never on disk. Tasks are pickled by reference to
their module, so that what runs on a worker is the code that the worker has; the first line is read before anything is
unpickled, and a worker with other versions says so.
"""

import json
import os
import pickle
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Self

import pyarrow as pa
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from shardwise.compute.ceiling import cpu_quota
from shardwise.core.errors import ConfigError, ShardwiseError, TaskFailed
from shardwise.core.units import format_size

VALUE, ERROR = b"v", b"e"
RESULT_LIMIT_BYTES = 64 * 2**20
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",  # also read by Arrow
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS",
)


_LIBRARIES = ("shardwise", "lightgbm", "numpy", "pyarrow")
_EXTRAS = ("catboost", "torch")  # that matter where the caller has them
_MISSING = "not installed"
_alone = threading.Lock()  # what libraries keep for a whole process (random numbers, threads) is of one task at a time


@cache
def versions() -> Mapping[str, str]:
    """What has to be the same on a worker for the same answer: Python, shardwise, and the libraries that learn."""
    found = {name: _version(name) for name in (*_LIBRARIES, *_EXTRAS)}
    there = {name: known for name, known in found.items() if name in _LIBRARIES or known != _MISSING}
    return {"Python": f"{sys.version_info.major}.{sys.version_info.minor}", **there}


def _version(package: str) -> str:
    """Without what tells builds of a version apart: PyTorch's for a processor and for an accelerator are one here."""
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return _MISSING


@dataclass(frozen=True)
class Caller:
    """Who sends messages. `places`: workers look up modules and relative paths where the caller does; False where they
    were started there. `threads` is how many a worker may use; None where it was started with that. `quiet`: the
    workers have this process's standard output, and must print elsewhere. `guest`: their processes are somebody else's,
    and are left as they were after each message."""

    limit_bytes: int = RESULT_LIMIT_BYTES
    places: bool = True
    threads: int | None = None
    quiet: bool = False
    guest: bool = False

    def head(self) -> bytes:
        content: dict[str, Any] = {"versions": dict(versions()), "limit_bytes": self.limit_bytes}
        content |= {name: True for name in ("quiet", "guest") if getattr(self, name)}
        if self.threads is not None:
            content["threads"] = self.threads
        if self.places:
            content |= {"path": [*map(str, sys.path)], "folder": os.getcwd()}
        return json.dumps(content).encode() + b"\n"

    def message(self, task: Callable[..., Any], item: object) -> bytes:
        """Raises `TaskFailed` for what cannot be pickled or is too large to be anything but data."""
        try:
            content = pickle.dumps((task, item), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            hint = "Define the task at the top of a module; pass references (paths, keys), not open files or locks."
            raise TaskFailed(f"the task cannot be pickled: {_describe(error)}", hint=hint) from error
        if len(content) > self.limit_bytes:
            raise too_large("the item of the task", len(content), self.limit_bytes)
        return self.head() + content


@dataclass(frozen=True)
class _Head:
    """The first line of a message, on the worker."""

    versions: Mapping[str, str]
    limit_bytes: int
    path: Sequence[str] = ()
    folder: str | None = None
    threads: int | None = None
    quiet: bool = False
    guest: bool = False

    @classmethod
    def read(cls, line: bytes) -> Self:
        return cls(**json.loads(line))

    def check(self) -> None:
        """Raises `ConfigError` where this worker's versions are not the caller's."""
        mine = versions()
        unequal = {name: theirs for name, theirs in self.versions.items() if mine.get(name, _MISSING) != theirs}
        if unequal:
            where = f"the worker on {socket.gethostname()} (process {os.getpid()})"
            told = "; ".join(
                f"{name} {mine.get(name, _MISSING)} on the worker, {theirs} here" for name, theirs in unequal.items()
            )
            raise ConfigError(f"{where} has other versions: {told}", hint=_remedy(unequal))

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Look up modules and relative paths where the caller does, as far as these places are there; limit threads."""
        with ExitStack() as stack:
            if self.guest:
                stack.enter_context(_left_as_it_was())
            known = set(sys.path)
            sys.path += [place for place in self.path if place not in known]
            if self.folder is not None and self.folder != os.getcwd() and os.path.isdir(self.folder):
                os.chdir(self.folder)
            if self.quiet:
                _print_to_stderr()
            if self.threads is not None:
                threads = min(self.threads, cpu_quota())
                if self.guest:
                    pa.set_cpu_count(threads)
                    stack.enter_context(threadpool_limits(threads))
                else:
                    _limit_threads(threads)
            yield


def _remedy(unequal: Mapping[str, str]) -> str:
    """What to do about versions of the worker that are not these."""
    packages = [f"'{name}=={theirs}'" for name, theirs in unequal.items() if name != "Python" and theirs != _MISSING]
    todo = [f"run it with Python {unequal['Python']}"] if "Python" in unequal else []
    todo += [f"run: pip install {' '.join(packages)}"] if packages else []
    todo += [f"uninstall {name}" for name, theirs in unequal.items() if theirs == _MISSING]
    return f"On that worker, {'; '.join(todo)}. Or install the worker's versions here: other ones give other answers."


@contextmanager
def _left_as_it_was() -> Iterator[None]:
    """The place and the path of this process, and the threads of Arrow.

    Environment variables are not set at all: what a library reads when it is loaded it would keep.
    """
    folder, path, threads = os.getcwd(), [*sys.path], pa.cpu_count()
    try:
        yield
    finally:
        with suppress(FileNotFoundError):  # removed by now
            os.chdir(folder)
        sys.path[:] = path
        pa.set_cpu_count(threads)


@cache
def _print_to_stderr() -> None:
    """Once in a process, for libraries too."""
    os.dup2(2, 1)


@lru_cache(maxsize=1)
def _limit_threads(threads: int) -> None:
    """Once in a process, for libraries that are loaded and for those that will be."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    pa.set_cpu_count(threads)
    threadpool_limits(threads)


def answer(message: bytes) -> bytes:
    """Run the task of a message, on the worker; never raises. In a process of several threads tasks wait for their
    turn."""
    try:
        with _alone, loaded(message) as (task, item, limit_bytes):
            return _run(task, item, limit_bytes)
    except ShardwiseError as error:
        return error_answer(error, error.__cause__)


@contextmanager
def loaded(message: bytes) -> Iterator[tuple[Callable[..., Any], Any, int]]:
    """The task, its item, and how large a result may be, on the worker; the process is what the caller needs.

    Raises `ConfigError` for other versions than the caller's, `TaskFailed` for code that is not there.
    """
    end = message.index(b"\n")
    with ExitStack() as stack:
        try:
            head = _Head.read(message[:end])
            head.check()
            stack.enter_context(head.entered())
            task, item = pickle.loads(memoryview(message)[end + 1 :])  # noqa: S301 - from the caller
        except ShardwiseError:
            raise
        except Exception as error:
            hint = "Tasks and items must be importable on the workers: define them in a module, not in a script."
            raise TaskFailed(f"the task cannot be loaded: {_describe(error)}", hint=hint) from error
        yield task, item, head.limit_bytes


def _run(task: Callable[[Any], Any], item: object, limit_bytes: int) -> bytes:
    try:
        value = task(item)
    except Exception as error:
        return error_answer(error, error)
    except BaseException as error:  # sys.exit() and the like end the task, not the worker
        return error_answer(TaskFailed(f"the task raised {_describe(error)}"), error)
    try:
        content = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        return error_answer(TaskFailed(f"the result of the task cannot be pickled: {_describe(error)}"), error)
    if len(content) > limit_bytes:
        return error_answer(too_large("the result of the task", len(content), limit_bytes))
    return VALUE + content


def read_answer(reply: bytes) -> Any:
    """The value that a worker sent; raises the error that it sent, with the worker's traceback as a note."""
    content = memoryview(reply)[1:]
    if reply[:1] == VALUE:
        return pickle.loads(content)  # noqa: S301 - from our own worker
    failure, trace = pickle.loads(content)  # noqa: S301 - as above
    if trace:
        failure.add_note(f"On the worker:\n{trace}")
    raise failure


def too_large(what: str, size_bytes: int, limit_bytes: int) -> TaskFailed:
    """The error for a message that should have been a reference."""
    return TaskFailed(
        f"{what} has {format_size(size_bytes)}; at most {format_size(limit_bytes)} are sent between processes",
        hint="Write it to a blob or a file and send the key or the path.",
    )


def error_answer(error: BaseException, origin: BaseException | None = None) -> bytes:
    """`error` with the traceback of `origin`; one that does not survive pickling becomes a `TaskFailed`."""
    trace = "".join(traceback.format_exception(origin)) if origin is not None else ""
    try:
        content = pickle.dumps((error, trace), pickle.HIGHEST_PROTOCOL)
        pickle.loads(content)  # noqa: S301 - our own bytes; errors with a constructor of their own often fail here
    except Exception:
        content = pickle.dumps((TaskFailed(f"the task raised {_describe(error)}"), trace), pickle.HIGHEST_PROTOCOL)
    return ERROR + content


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
