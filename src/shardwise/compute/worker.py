"""What runs in a worker process of this machine: receive a message, run its task, send back the answer.

The worker is started as a program of its own (see `COMMAND`), so that a script that uses shardwise needs no
`if __name__ == "__main__"` guard.
"""

import ctypes
import os
import resource
import signal
import sys
from multiprocessing.connection import Connection

from shardwise.compute.ceiling import give_back
from shardwise.compute.messages import answer
from shardwise.core import startup

COMMAND = """
import json, sys
fd, parent_pid = map(int, sys.argv[1:3])
sys.path[:] = json.loads(sys.argv[3])
from shardwise.compute.worker import main
main(fd, parent_pid, int(sys.argv[4]))
"""
_PR_SET_PDEATHSIG = 1


def main(fd: int, parent_pid: int, reserved_bytes: int = 0) -> None:
    """Serve the connection on file descriptor `fd` until it closes, or until the process `parent_pid` dies.

    Allocations beyond `reserved_bytes` (0: no limit) fail.
    """
    die_with_parent(parent_pid)
    startup.claim()
    if reserved_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (reserved_bytes, resource.RLIM_INFINITY))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which decides
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    with Connection(fd) as connection:
        while True:
            try:
                message = connection.recv_bytes()
            except (EOFError, ConnectionResetError):
                return
            connection.send_bytes(answer(message))
            give_back()


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process when the thread that started it ends (prctl(2), Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # it died before the kernel was asked
            os._exit(1)
