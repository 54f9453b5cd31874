"""uvicorn's HTTP/1.1 protocol, which waits a bounded time for what is to come, and counts connections."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from shardwise.serve.online.app import OVER, App
from shardwise.serve.online.http import JSON
from shardwise.serve.online.problems import Problem

MOST_HEAD_BYTES = 1_000_000  # of the head of a request; a part that was read at once may be as long as 256 KiB
MOST_UNREAD_BYTES = 256_000_000  # of the rest of a body that was refused


class PatientProtocol(HttpToolsProtocol):
    """Closes a connection whose request does not say what it wants within `header_s` seconds, or is all head.

    uvicorn itself waits for ever once the first byte has come, so that a few slow clients could hold all connections.

    A body may be refused before it has come. What is still under way is then read and thrown away, for as many seconds
    and a bounded number of bytes: who closes a socket with unread bytes resets the connection, and the client, which is
    still sending, never sees the answer (RFC 9112, section 9.6).
    """

    header_s = 10.0
    app_of_all: App

    @classmethod
    def waiting(cls, header_s: float, app: App) -> type["PatientProtocol"]:
        """The protocol for an application."""
        return type("Protocol", (cls,), {"header_s": header_s, "app_of_all": app})

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.app_of_all.connections += 1
        self._is_over = self.app_of_all.is_crowded
        self._wait: asyncio.TimerHandle | None = None
        self._rest: asyncio.TimerHandle | None = None  # runs while the rest of a body that was refused is read
        self._is_unread = self._is_ending = self._is_deaf = False
        self._spent_bytes = 0
        self._answering = SimpleNamespace(write=transport.write, is_closing=transport.is_closing, close=self._close)
        self._begin_to_wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self.app_of_all.connections -= 1
        self._end_to_wait()
        self._end_rest()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            self._throw_away(data)
            return
        super().data_received(data)
        if self._wait is not None:
            self._spent_bytes += len(data)
            if self._spent_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
                message = f"the head of the request has more than {MOST_HEAD_BYTES:,} bytes"
                self._refuse(Problem(431, "head_too_large", message, hint="Send values in the body."))

    def on_message_begin(self) -> None:
        self._begin_to_wait()
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)[OVER] = self._is_over

    def on_headers_complete(self) -> None:
        self._end_to_wait()
        super().on_headers_complete()
        self._is_unread = True
        self.cycle.transport = cast("asyncio.Transport", self._answering)

    def on_body(self, body: bytes) -> None:
        if self._rest is None:
            super().on_body(body)
        else:
            self._throw_away(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._is_unread = False
        if self._rest is not None:
            self._end_rest()
            if self._is_ending:
                self._give_up()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_refused and self._rest is None:
            self._read_rest()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, in the form of all other problems; nothing, when the answer was sent before."""
        if self._rest is not None:
            self._give_up()
            return
        self._refuse(Problem(400, "malformed_request", msg.rstrip("."), hint="Send HTTP/1.1, with a valid head."))

    @property
    def _is_refused(self) -> bool:
        """Whether the answer to the last request was sent before its body had come."""
        return self._is_unread and self.cycle.response_complete

    def _close(self) -> None:
        """Close after an answer; where the body of its request was not read, say that nothing follows, and read on."""
        if not self._is_refused or self.transport.is_closing():
            self.transport.close()
            return
        self._is_ending = True
        self._say_nothing_follows()

    def _refuse(self, problem: Problem) -> None:
        """Answer without the application: the head of the request is none."""
        request_id, body = self.app_of_all.unreadable(problem)
        lines = (f"content-type: {JSON}", f"content-length: {len(body)}", f"x-request-id: {request_id}",
                 "connection: close", "", "")  # fmt: skip
        self.transport.write(STATUS_LINE[problem.status] + "\r\n".join(lines).encode() + body)
        self._end_to_wait()
        self._is_deaf = True
        self._say_nothing_follows()
        self._read_rest()

    def _say_nothing_follows(self) -> None:
        if self.transport.can_write_eof():  # TLS cannot
            self.transport.write_eof()

    def _read_rest(self) -> None:
        self._spent_bytes = 0
        self._rest = self.loop.call_later(self.header_s, self._give_up)

    def _throw_away(self, data: bytes) -> None:
        self._spent_bytes += len(data)
        if self._spent_bytes > MOST_UNREAD_BYTES:
            self._give_up()

    def _begin_to_wait(self) -> None:
        self._end_to_wait()
        self._spent_bytes = 0
        self._wait = self.loop.call_later(self.header_s, self._give_up)

    def _end_to_wait(self) -> None:
        if self._wait is not None:
            self._wait.cancel()
            self._wait = None

    def _end_rest(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
