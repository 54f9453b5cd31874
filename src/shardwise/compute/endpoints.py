"""What engines have in common before they run: a library that may be missing, an address where nobody may listen."""

import importlib
import socket
from collections.abc import Callable
from types import ModuleType

from shardwise.compute.rpc_look import PREFACE, SETTINGS, frame, may_be_ray
from shardwise.core.errors import ConfigError

CONNECT_S = 3.0
_SETTINGS = bytes([SETTINGS])  # the type of a frame, its fourth byte
# Spark's frames (TransportFrameDecoder, Message.Type): a length of 8 bytes that counts itself, a type, a body
_STREAM = b"shardwise/hello"
_ASKED = b"\x06" + len(_STREAM).to_bytes(4, "big") + _STREAM  # a stream that is not there
_STREAM_REQUEST = (8 + len(_ASKED)).to_bytes(8, "big") + _ASKED
_FAILURES = (b"\x05", b"\x08")  # types of answers: of a call, of a stream
_TLS_ALERT = b"\x15"  # the first byte where Spark's own calls are encrypted, as ours is not
_PREFACE = PREFACE + frame(SETTINGS, 0, 0)


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


def check_ray(address: str) -> None:
    """The same, of a cluster's own port, unless what listens there is surely not Ray."""
    check_grpc("ray", address)
    with _connect("ray", address) as connection:
        try:
            speaks = may_be_ray(connection, address, CONNECT_S)
        except OSError:
            speaks = False
    if not speaks:
        raise _stranger("ray", address)


def check_spark(addresses: str) -> None:
    """Raises `ConfigError` unless one of `host:port,host:port` is Spark's: of several masters one leads, and others
    wait."""
    refused: list[ConfigError] = []
    for address in addresses.split(","):
        try:
            _check_first_words("spark", address, _STREAM_REQUEST, _is_spark)
        except ConfigError as error:
            refused.append(error)
        else:
            return
    raise ConfigError("; ".join(error.message for error in refused), hint=refused[0].hint)


def _is_spark(words: bytes) -> bool:
    return words[8:9] in _FAILURES or words[:1] == _TLS_ALERT


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
        raise _stranger(engine, address)


def _stranger(engine: str, address: str) -> ConfigError:
    hint = f"Give the --address where {engine} listens; without one it runs on this machine."
    return ConfigError(f"what listens at {address} is not {engine}", hint=hint)


def _connect(engine: str, address: str) -> socket.socket:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise ConfigError(f"{address!r} is no address of {engine}", hint="Write it as HOST:PORT.")
    try:
        return socket.create_connection((host.strip("[]"), int(port)), CONNECT_S)
    except (OSError, OverflowError) as error:
        hint = f"Start the cluster, or give the --address where {engine} listens; without one it runs on this machine."
        raise ConfigError(f"nobody listens at {address} for {engine} ({error})", hint=hint) from error
