"""uvicorn's HTTP/1.1 protocol, which waits a bounded time for the head of a request and counts connections."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shardwise.serve.online.app import OVER, App


class PatientProtocol(HttpToolsProtocol):
    """Closes a connection whose request does not say what it wants within `header_s` seconds.

    uvicorn itself waits for ever once the first byte has come, so that a few slow clients could hold all connections.
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
        self._begin_to_wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self.app_of_all.connections -= 1
        self._end_to_wait()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._begin_to_wait()
        super().on_message_begin()
        self.scope[OVER] = self._is_over  # type: ignore[typeddict-unknown-key]

    def on_headers_complete(self) -> None:
        self._end_to_wait()
        super().on_headers_complete()

    def _begin_to_wait(self) -> None:
        self._end_to_wait()
        self._wait = self.loop.call_later(self.header_s, self._give_up)

    def _end_to_wait(self) -> None:
        if self._wait is not None:
            self._wait.cancel()
            self._wait = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
