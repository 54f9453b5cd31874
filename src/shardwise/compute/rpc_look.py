"""Is it Ray that speaks HTTP/2 there: one call of gRPC by hand, since Ray itself tries for twenty seconds.

The call asks for the identity of the cluster, with which each client of Ray begins. Frames are those of RFC 9113, the
call that of gRPC over HTTP/2 (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). Only who surely is not
Ray is refused: what is not understood, such as a cluster that asks for a token, is left to Ray itself.
"""

import socket
import time
from collections.abc import Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, SETTINGS, _GOAWAY = 0, 1, 4, 7  # types of frames
_RESET = 3
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 1, 1, 4, 8, 32  # flags of frames
_PATH = b"/ray.rpc.NodeInfoGcsService/GetClusterId"
_MESSAGE = b"\0" + bytes(4)  # of gRPC: not compressed, empty
_OK = 0x88  # how a header block begins whose status is 200 (RFC 7541, 6.1 and appendix A)
_SIZES = range(0x20, 0x40)  # what may stand before: an update of the table's size
_UNKNOWN_CALL = (b"\x0212", b"\x82\x08\xbf")  # the value of `grpc-status`, as it is and in Huffman's code


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    """The bytes of a frame."""
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def call_of(address: str) -> bytes:
    """What a client says: preface, settings, and the call."""
    headers = b"\x83\x86"  # POST, http
    headers += b"\x04" + _text(_PATH) + b"\x01" + _text(address.encode())
    headers += b"\x0f\x10" + _text(b"application/grpc") + b"\x00" + _text(b"te") + _text(b"trailers")
    return (
        PREFACE + frame(SETTINGS, 0, 0) + frame(_HEADERS, _END_HEADERS, 1, headers)
        + frame(_DATA, _END_STREAM, 1, _MESSAGE)
    )  # fmt: skip


def _text(content: bytes) -> bytes:
    return bytes([len(content)]) + content


def may_be_ray(connection: socket.socket, address: str, within_s: float) -> bool:
    """Whether what answers on a fresh connection may be Ray; False where it surely is something else."""
    connection.sendall(call_of(address[:100]))
    first = True
    for kind, flags, body in _frames(connection, time.monotonic() + within_s):
        if kind == SETTINGS and not flags & _ACK:
            connection.sendall(frame(SETTINGS, _ACK, 0))
        elif kind in (_GOAWAY, _RESET):
            return False
        elif kind == _HEADERS:
            block = _block(flags, body)
            if first and block.lstrip(bytes(_SIZES))[:1] != bytes([_OK]):
                return False  # an error of HTTP: no gRPC
            if flags & _END_STREAM:
                return not any(code in block for code in _UNKNOWN_CALL)
            first = False
        elif kind == _DATA:
            return body[:1] in (b"\0", b"\1")  # a message of gRPC, and no page
    return True


def _block(flags: int, body: bytes) -> bytes:
    """The header block of a HEADERS frame."""
    padding = body[0] if flags & _PADDED else 0
    start = (1 if flags & _PADDED else 0) + (5 if flags & _PRIORITY else 0)
    return body[start : len(body) - padding]


def _frames(connection: socket.socket, until_s: float) -> Iterator[tuple[int, int, bytes]]:
    """(type, flags, body) of what comes, until the end or the time is up."""
    rest = b""
    while (left_s := until_s - time.monotonic()) > 0:
        while len(rest) >= 9 and len(rest) >= 9 + (size := int.from_bytes(rest[:3], "big")):
            yield rest[3], rest[4], rest[9 : 9 + size]
            rest = rest[9 + size :]
        connection.settimeout(left_s)
        try:
            content = connection.recv(2**14)
        except TimeoutError:
            return
        if not content:
            return
        rest += content
