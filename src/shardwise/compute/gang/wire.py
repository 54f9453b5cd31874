"""What goes over the line between a member and the one who called the gang; the standard library alone.

A frame is its kind, the length of its body, and the body.
"""

import struct

HELLO, TABLE, BEAT, SIGN, ASK, ANSWER, DONE = b"h", b"t", b"b", b"s", b"a", b"x", b"d"
HEAD = struct.Struct("<cI")
TOKEN_BYTES = 16  # with which a HELLO begins: nothing of what a stranger says is read
BEAT_S = 0.5  # between two beats, or two signs


def packed(kind: bytes, body: bytes) -> bytes:
    """The bytes of a frame."""
    return HEAD.pack(kind, len(body)) + body
