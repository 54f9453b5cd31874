"""The line between a member and the one who called the gang: frames of a kind and a body."""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from shardwise.core.errors import TaskFailed

HELLO, TABLE, BEAT, ASK, ANSWER, DONE = b"h", b"t", b"b", b"a", b"x", b"d"
LIMIT_BYTES = 64 * 2**20
_GREETING_BYTES = 4096  # before a member has said who it is
_HEAD = struct.Struct("<cI")


def frame(kind: bytes, body: bytes) -> bytes:
    """The bytes of a frame; raises `TaskFailed` for a body that should have been a reference."""
    if len(body) > LIMIT_BYTES:
        raise TaskFailed(f"{len(body):,} bytes were said at once; at most {LIMIT_BYTES:,} are allowed")
    return _HEAD.pack(kind, len(body)) + body


def receive(line: socket.socket) -> tuple[bytes, bytes]:
    """The next frame of a blocking socket; raises `ConnectionError` when the other end is gone."""
    kind, size = _HEAD.unpack(exactly(line, _HEAD.size))
    return kind, exactly(line, size)


def exactly(line: socket.socket, size: int) -> bytes:
    """So many bytes of a blocking socket; raises `ConnectionError` when the other end is gone."""
    body = bytearray()
    while len(body) < size:
        part = line.recv(min(size - len(body), 2**20))
        if not part:
            raise ConnectionError("the other end hung up")
        body += part
    return bytes(body)


@dataclass
class Frames:
    """Frames out of bytes that come in pieces."""

    trusted: bool = False
    _rest: bytearray = field(default_factory=bytearray)

    def feed(self, content: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The frames that are whole now; raises `ValueError` for what cannot be a frame."""
        self._rest += content
        while len(self._rest) >= _HEAD.size:
            kind, size = _HEAD.unpack_from(self._rest)
            if size > (LIMIT_BYTES if self.trusted else _GREETING_BYTES):
                raise ValueError(f"a frame of {size} bytes")
            if len(self._rest) < _HEAD.size + size:
                return
            body = bytes(self._rest[_HEAD.size : _HEAD.size + size])
            del self._rest[: _HEAD.size + size]
            yield kind, body
