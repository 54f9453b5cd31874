"""Redis and Memcached on ports of this machine: started, killed, started again."""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.data.stores import free_port

_PATIENCE_S = 30.0
_BUS = 10_000


class Server:
    """A server process that answers on `port`."""

    def __init__(self, command: list[str], port: int) -> None:
        self.port = port
        self._command = command
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + _PATIENCE_S
        while not answers(self.port):
            assert self._process.poll() is None, "the server has ended"
            assert time.monotonic() < until, "the server does not answer"
            time.sleep(0.02)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


@contextmanager
def redis_server(folder: Path, *more: str) -> Iterator[Server]:
    """A Valkey, or else a Redis, that keeps nothing on disk; skips where both, or the client, are not installed."""
    pytest.importorskip("redis", reason="the client of Redis is not installed")
    port = _free_pair()
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    program = "valkey-server" if shutil.which("valkey-server") else "redis-server"
    with _running([_program(program), *words, *more], port) as server:
        yield server


@contextmanager
def memcached_server() -> Iterator[Server]:
    """A Memcached; skips where it, or its client, is not installed."""
    pytest.importorskip("pymemcache", reason="the client of Memcached is not installed")
    port = free_port()
    words = ["-l", "127.0.0.1", "-p", str(port), "-U", "0", "-m", "64", "-u", "nobody"]
    with _running([_program("memcached"), *words], port) as server:
        yield server


@contextmanager
def nonsense_server(reply: bytes) -> Iterator[int]:
    """The port of a server that has one reply to whatever it is sent."""

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while connection.recv(65_536):
                connection.sendall(reply)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=accept)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def _free_pair() -> int:
    """A port whose bus port is free as well: a node of a cluster listens 10,000 higher."""
    while True:
        port = free_port()
        with socket.socket() as probe:
            if port + _BUS < 65_536 and probe.connect_ex(("127.0.0.1", port + _BUS)) != 0:
                return port


@contextmanager
def _running(command: list[str], port: int) -> Iterator[Server]:
    server = Server(command, port)
    try:
        yield server
    finally:
        server.kill()


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (apt-get install {name})")
    return found
