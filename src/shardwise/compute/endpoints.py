"""What engines have in common before they run: a library that may be missing, an address where nobody may listen."""

import importlib
import socket
from collections.abc import Callable
from types import ModuleType

from shardwise.core.errors import ConfigError

CONNECT_S = 3.0
_SETTINGS = b"\x04"  # the type of a frame, its fourth byte
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _SETTINGS + b"\0" + b"\0\0\0\0"


def library(engine: str, name: str) -> ModuleType:
    """The module `name`, imported now; raises `ConfigError` when the extra of the engine is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        what = f"--engine {engine} needs a library that is not installed ({error})"
        raise ConfigError(what, hint=f"Run: pip install 'shardwise[{engine}]'.") from error


def check_port(engine: str, address: str) -> None:
    """Raises `ConfigError` unless something listens at `host:port`, within seconds: engines try for minutes."""
    _connect(engine, address).close()


def check_grpc(engine: str, address: str) -> None:
    """The same, unless what listens there speaks HTTP/2, as gRPC does: it sends its settings first (RFC 9113, 3.4)."""
    _check_first_words(engine, address, _PREFACE, lambda words: words[3:4] == _SETTINGS)


def check_greeting(engine: str, address: str) -> None:
    """The same, unless what listens there speaks first, as Dask's scheduler does."""
    _check_first_words(engine, address, b"", bool)


def _check_first_words(engine: str, address: str, said: bytes, known: Callable[[bytes], bool]) -> None:
    with _connect(engine, address) as connection:
        try:
            connection.sendall(said)
            speaks = known(connection.recv(9))
        except OSError:
            speaks = False
    if not speaks:
        hint = f"Give the --address where {engine} listens; without one it runs on this machine."
        raise ConfigError(f"what listens at {address} is not {engine}", hint=hint)


def _connect(engine: str, address: str) -> socket.socket:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise ConfigError(f"{address!r} is no address of {engine}", hint="Write it as HOST:PORT.")
    try:
        return socket.create_connection((host.strip("[]"), int(port)), CONNECT_S)
    except (OSError, OverflowError) as error:
        hint = f"Start the cluster, or give the --address where {engine} listens; without one it runs on this machine."
        raise ConfigError(f"nobody listens at {address} for {engine} ({error})", hint=hint) from error
