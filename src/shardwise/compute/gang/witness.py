"""A process beside a member, which tells the caller on another machine what the kernel says of the member.

It shares no lock of Python's with it, and goes on when the member is stopped. The standard library alone, so that it
is small and starts at once.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple

from shardwise.compute.gang.pulse import Process, State, look
from shardwise.compute.gang.wire import BEAT_S, HELLO, SIGN, packed

CONNECT_S = 60.0
_COMMAND = """
import json, sys
told = json.load(sys.stdin)
sys.path[:] = told.pop("path")
from shardwise.compute.gang.witness import testify
testify(**told)
"""


@contextmanager
def witnessed(desk: tuple[str, int], hello: bytes, process: Process) -> Iterator[None]:
    """Start a witness of this process, which greets the desk with `hello`; end it.

    Where none can be started the member goes on: its own beats tell that it lives.
    """
    told = {"desk": desk, "hello": hello.hex(), "process": astuple(process), "path": [*map(str, sys.path)]}
    command = [sys.executable, "-c", _COMMAND]  # whose words all users of the machine may see, but not what it reads
    with ExitStack() as stack:
        with suppress(OSError):
            witness = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE))  # noqa: S603 - our own
            stack.callback(witness.kill)
            assert witness.stdin is not None
            witness.stdin.write(json.dumps(told).encode())
            witness.stdin.close()
        yield


def testify(desk: tuple[str, int], hello: str, process: tuple[str, int, int]) -> None:
    """Tell what the process does, twice a second, until it is gone or the desk is."""
    watched = Process(*process)
    try:
        with socket.create_connection((desk[0], desk[1]), CONNECT_S) as line:
            line.sendall(packed(HELLO, bytes.fromhex(hello)))
            state = State.RUNS
            while state is not State.GONE:
                seen = look(watched)
                state = seen.state
                line.sendall(packed(SIGN, json.dumps([state.value, seen.ticks]).encode()))
                time.sleep(BEAT_S)
    except OSError:  # the desk has closed: nobody asks any more
        return
