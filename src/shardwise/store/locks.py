"""One writer at a time: a lock on a folder, held by a process and gone with it, whatever kills it.

The lock is the kernel's (`flock`) on a file in the folder. The file says who holds it, for people; a file that was left
behind by a dead process is not locked, and so does not stand in the way.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shardwise.core.errors import DataError, context
from shardwise.core.units import format_duration

LOCK_NAME = ".shardwise.lock"
WAIT = "Wait for it (--wait 10m), or stop it."
_LOOK_S = 0.1  # between two tries


@contextmanager
def writing(folder: Path, *, wait_s: float = 0.0, what: str = "this dataset", hint: str = WAIT) -> Iterator[None]:
    """Hold the lock of an existing folder; waits up to `wait_s` for another process that holds it.

    Raises `DataError` that names the other process and `what` it writes when it is not free by then.
    """
    path = folder / LOCK_NAME
    with context(path=str(folder)):
        descriptor = _acquire(path, time.monotonic() + wait_s)
        if isinstance(descriptor, bytes):
            waited = f" after {format_duration(wait_s)}" if wait_s else ""
            raise DataError(f"{_name(descriptor)} is writing {what}{waited}", hint=hint)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: who waits sees that the file is another one now
        os.close(descriptor)


def _acquire(path: Path, until_s: float) -> int | bytes:
    """A descriptor that holds the lock, or what the file tells of its holder."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_current(descriptor, path):
                holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, holder, 0)
                return descriptor
        except BlockingIOError:
            if time.monotonic() >= until_s:
                holder = os.pread(descriptor, 200, 0)
                os.close(descriptor)
                return holder
            time.sleep(_LOOK_S)
        os.close(descriptor)


def _is_current(descriptor: int, path: Path) -> bool:
    """Whether the file that is locked is still the one under the path: its holder removes it in the end."""
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _name(holder: bytes) -> str:
    try:
        return "process {pid} on {host}".format(**json.loads(holder))
    except (ValueError, KeyError):
        return "another process"
