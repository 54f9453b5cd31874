"""The line between a member and the one who called the gang: frames of a kind and a body."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

from shardwise.compute.gang.wire import HEAD, packed
from shardwise.core.errors import TaskFailed

LIMIT_BYTES = 64 * 2**20
_GREETING_BYTES = 4096  # before a member has said who it is


def frame(kind: bytes, body: bytes) -> bytes:
    """The bytes of a frame; raises `TaskFailed` for a body that should have been a reference."""
    if len(body) > LIMIT_BYTES:
        raise TaskFailed(f"{len(body):,} bytes were said at once; at most {LIMIT_BYTES:,} are allowed")
    return packed(kind, body)


def receive(line: socket.socket) -> tuple[bytes, bytes]:
    """The next frame of a blocking socket; raises `ConnectionError` when the other end is gone."""
    kind, size = HEAD.unpack(exactly(line, HEAD.size))
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
        while len(self._rest) >= HEAD.size:
            kind, size = HEAD.unpack_from(self._rest)
            if size > (LIMIT_BYTES if self.trusted else _GREETING_BYTES):
                raise ValueError(f"a frame of {size} bytes")
            if len(self._rest) < HEAD.size + size:
                return
            body = bytes(self._rest[HEAD.size : HEAD.size + size])
            del self._rest[: HEAD.size + size]
            yield kind, body
