"""One request, from its head to its answer: what ASGI gives and takes (https://asgi.readthedocs.io)."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from shardwise.serve.online.call import Call, whole_header
from shardwise.serve.online.problems import Problem

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
JSON = "application/json"
ARROW_STREAM = "application/vnd.apache.arrow.stream"
OCTETS = "application/octet-stream"


class Disconnected(Exception):
    """The client has gone; nobody waits for an answer."""


@dataclass(slots=True, kw_only=True)
class Request(Call):
    """The head of a request over HTTP, with what is needed to read its body."""

    method: str
    path: str
    query: bytes
    receive: Receive

    @property
    def content_type(self) -> str:
        """Without parameters, in lower case; empty where none is given."""
        return self.headers.get(b"content-type", b"").decode("latin1").partition(";")[0].strip().lower()

    def parameter(self, name: str) -> str | None:
        """A parameter of the query, the last one of its name."""
        if not self.query:
            return None
        found = parse_qs(self.query.decode("latin1")).get(name)
        return found[-1] if found else None

    async def body(self, most_bytes: int) -> bytes:
        """The whole body; raises `Problem` 413 when it is longer, `Disconnected` when it does not come to its end."""
        self._check_head(most_bytes)
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.left_s):
                while True:
                    message = await self.receive()
                    parts.append(_part(message, most_bytes - size))
                    size += len(parts[-1])
                    if not message.get("more_body", False):
                        if size == 0:
                            self._check_not_lost()
                        return parts[0] if len(parts) == 1 else b"".join(parts)
        except TimeoutError:
            hint = "Send it faster, or in smaller parts."
            raise Problem(408, "body_too_slow", f"the body did not come within {self.deadline_s:g} s", hint=hint,
                          headers={"connection": "close"}) from None  # fmt: skip

    def _check_head(self, most_bytes: int) -> None:
        length = whole_header(self.headers, b"content-length", "Give the bytes of the body.")
        if length is not None and length > most_bytes:
            raise too_large(most_bytes, f"a body of {length:,} bytes")
        coding = self.headers.get(b"content-encoding", b"identity").strip().lower()
        if coding not in (b"identity", b""):
            message = f"the content-encoding {coding.decode('latin1')!r} is not understood"
            raise Problem(415, "unsupported_encoding", message, hint="Send the body as it is.")

    def _check_not_lost(self) -> None:
        """Raise `Problem` where a body was told of, and there is none: where a request would go on in another protocol,
        the parser takes what follows its head for that one. Java's client asks so by itself."""
        other = self.headers.get(b"upgrade")
        if other is None or not (
            self.headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in self.headers
        ):
            return
        message = f"the request would go on in {other.decode('latin1')!r}, and its body was not read"
        hint = "Leave out the header `upgrade`: this is HTTP/1.1 alone. In Java: HttpClient.Version.HTTP_1_1."
        raise Problem(400, "upgrade_refused", message, hint=hint, headers={"connection": "close"})


@dataclass(slots=True)
class Response:
    body: bytes
    content_type: str = JSON
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def check_origin(headers: Mapping[bytes, bytes]) -> None:
    """Raise `Problem` 403 for what a page of another origin has sent, as browsers tell."""
    if headers.get(b"sec-fetch-site", b"same-origin") not in (b"same-origin", b"none"):
        raise Problem(403, "other_origin", "a page of another origin has sent this", hint="Use the server's own.")


def too_large(most_bytes: int, what: str = "the body") -> Problem:
    return Problem(413, "body_too_large", f"{what} is too large, at most {most_bytes:,} bytes are read",
                   hint="Send fewer rows at a time, or Arrow in the place of JSON.")  # fmt: skip


def _part(message: Mapping[str, Any], most_bytes: int) -> bytes:
    if message["type"] == "http.disconnect":
        raise Disconnected
    part: bytes = message.get("body", b"")
    if len(part) > most_bytes:
        raise too_large(most_bytes)
    return part
