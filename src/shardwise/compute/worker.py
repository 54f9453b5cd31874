"""What runs in a worker process: receive a task and an item, run it, send back the value or the error.

A message is one kind byte and a pickle. Pickle is used on the wire between two processes of one run alone, never on
disk. The worker is started as a program of its own (see `COMMAND`), so that a script that uses shardwise needs no
`if __name__ == "__main__"` guard.
"""

import ctypes
import os
import pickle
import resource
import signal
import sys
import traceback
from multiprocessing.connection import Connection

from shardwise.compute.ceiling import give_back
from shardwise.core.errors import TaskFailed
from shardwise.core.units import format_size

COMMAND = """
import json, sys
fd, parent_pid, limit_bytes = map(int, sys.argv[1:4])
sys.path[:] = json.loads(sys.argv[4])
from shardwise.compute.worker import main
main(fd, parent_pid, limit_bytes, int(sys.argv[5]))
"""
VALUE, ERROR = b"v", b"e"
_PR_SET_PDEATHSIG = 1


def main(fd: int, parent_pid: int, limit_bytes: int, reserved_bytes: int = 0) -> None:
    """Serve the connection on file descriptor `fd` until it closes, or until the process `parent_pid` dies.

    Allocations beyond `reserved_bytes` (0: no limit) fail.
    """
    die_with_parent(parent_pid)
    if reserved_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (reserved_bytes, resource.RLIM_INFINITY))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which decides
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    with Connection(fd) as connection:
        while True:
            try:
                payload = connection.recv_bytes()
            except (EOFError, ConnectionResetError):
                return
            connection.send_bytes(_answer(payload, limit_bytes))
            give_back()


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process when the thread that started it ends (prctl(2), Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # it died before the kernel was asked
            os._exit(1)


def _answer(payload: bytes, limit_bytes: int) -> bytes:
    try:
        task, item = pickle.loads(payload)  # noqa: S301 - from the parent process, over a private socket
    except Exception as error:
        hint = "Tasks and items must be importable on the workers: define them in a module, not in a script."
        return _failure(TaskFailed(f"the task cannot be loaded: {_describe(error)}", hint=hint), error)
    try:
        value = task(item)
    except Exception as error:
        return _failure(error, error)
    except BaseException as error:  # sys.exit() and the like end the task, not the worker
        return _failure(TaskFailed(f"the task raised {_describe(error)}"), error)
    try:
        content = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        return _failure(TaskFailed(f"the result of the task cannot be pickled: {_describe(error)}"), error)
    if len(content) > limit_bytes:
        return _failure(too_large("the result of the task", len(content), limit_bytes))
    return VALUE + content


def too_large(what: str, size_bytes: int, limit_bytes: int) -> TaskFailed:
    """The error for a message that should have been a reference."""
    return TaskFailed(
        f"{what} has {format_size(size_bytes)}; at most {format_size(limit_bytes)} are sent between processes",
        hint="Write it to a blob or a file and send the key or the path.",
    )


def _failure(error: BaseException, origin: BaseException | None = None) -> bytes:
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
