"""A process that serves: uvicorn around the application, from loading the models to the last answer.

SIGTERM or SIGINT: the server says that it is not ready, waits `drain_delay_s` for balancers to hear it, listens no
more, answers what is under way, and ends with code 0. A second signal ends it at once.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import FrameType
from typing import Any, Protocol

import uvicorn

from shardwise.core.errors import ConfigError
from shardwise.registry.registry import Registry
from shardwise.serve.online.assembly import Assembly, optional
from shardwise.serve.online.protocol import PatientProtocol
from shardwise.serve.online.routes import Routes
from shardwise.serve.online.settings import ServeConfig
from shardwise.serve.online.signals import ENDING, handled

_BACKLOG = 2048
_KEEP_ALIVE_S = 75
_GOODBYE_S = 1.0  # for a client to answer the end of TLS
_LOOK_S = 0.1


class Beside(Protocol):
    """A server in the same loop: `rpc.Rpc`."""

    async def start(self) -> str: ...

    async def stop(self, grace_s: float) -> None: ...


class OnlineServer(uvicorn.Server):
    """uvicorn's server, which drains first and ends without the signal's own code; another one may run beside it.

    `started_at` is called with the address of that one, or None, when both serve.
    """

    def __init__(
        self, config: uvicorn.Config, routes: Routes, *, beside: Beside | None = None,
        started_at: Callable[[str | None], None] = lambda _: None,
    ) -> None:  # fmt: skip
        super().__init__(config)
        self._routes, self._beside, self._started_at = routes, beside, started_at
        self.is_worker = routes.config.workers > 1

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        place = None if self._beside is None else await self._beside.start()
        await super().startup([])
        for sock in sockets or ():
            self.servers.append(await self._listen(sock))
        self._started_at(place)

    async def _listen(self, sock: socket.socket) -> asyncio.base_events.Server:
        """As uvicorn listens, but that a client has no minute for the handshake of TLS, nor half a one for its end."""
        config, loop = self.config, asyncio.get_running_loop()
        times: dict[str, Any] = {}
        if config.ssl is not None:
            times = {"ssl_handshake_timeout": self._routes.config.header_s, "ssl_shutdown_timeout": _GOODBYE_S}
        protocol: Any = config.http_protocol_class
        make = partial(protocol, config=config, server_state=self.server_state, app_state={})
        return await loop.create_server(make, sock=sock, ssl=config.ssl, backlog=config.backlog, **times)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Both listen no more at once, and answer what is under way."""
        stopping = asyncio.ensure_future(self._stop_beside(self._routes.config.drain_s))
        await super().shutdown(sockets)
        while not stopping.done():
            if self.force_exit:
                await self._stop_beside(0)
            await asyncio.wait([stopping], timeout=_LOOK_S)
        await stopping

    async def _stop_beside(self, grace_s: float) -> None:
        if self._beside is not None:
            await self._beside.stop(grace_s)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        main = threading.current_thread() is threading.main_thread()  # no other may ask for signals
        with handled(ENDING if main else (), self.handle_exit):
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's interface
        self.drain()

    def drain(self) -> None:
        """Begin to end; when it has begun already, end at once."""
        if not self._routes.ready:
            self.should_exit = self.force_exit = True
            return
        self._routes.ready = False
        delay_s = self._routes.config.drain_delay_s
        if delay_s > 0:
            later = threading.Timer(delay_s, self._exit)
            later.daemon = True
            later.start()
        else:
            self._exit()

    def _exit(self) -> None:
        self.should_exit = True


def serve(texts: Sequence[str], registry: Registry, config: ServeConfig) -> None:
    """Load the models that `texts` name, and serve them until a signal ends it.

    Raises what `Assembly` raises, and `ConfigError` when a port cannot be had or certificates not be read.
    """
    check_certificate(config)
    assembly = Assembly(texts, registry, config)
    listening = listen(config.host, config.port, shared=config.workers > 1)
    server = _server(assembly, partial(_announce, assembly, listening))
    listening.listen(_BACKLOG)
    assembly.start(partial(_end_with, os.getppid(), server))
    try:
        server.run(sockets=[listening])
    finally:
        assembly.close()


def check_certificate(config: ServeConfig) -> None:
    """Raise `ConfigError` unless the certificate and its key can be read and belong together."""
    if config.tls_cert is None or config.tls_key is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(config.tls_cert, config.tls_key, password="")
    except OSError as error:  # ssl.SSLError is one
        what = f"the certificate {config.tls_cert!r} with the key {config.tls_key!r} cannot be used: {error}"
        hint = "Give the chain and its key, both in PEM, the key without a password."
        raise ConfigError(what, hint=hint) from error


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket that is bound; `shared`: with other processes that say so too, among whom Linux shares connections."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        hint = "Another process may have it: give another --port."
        raise ConfigError(f"{host}:{port} cannot be listened at: {error.strerror}", hint=hint) from error
    sock.set_inheritable(True)
    return sock


def _server(assembly: Assembly, started_at: Callable[[str | None], None]) -> OnlineServer:
    app, config = assembly.app, assembly.config
    settings = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", server_header=False, proxy_headers=False,
        backlog=_BACKLOG, timeout_keep_alive=_KEEP_ALIVE_S, timeout_graceful_shutdown=max(1, round(config.drain_s)),
        http=PatientProtocol.waiting(config.header_s, app), ws="none",
        ssl_certfile=config.tls_cert, ssl_keyfile=config.tls_key,
    )  # fmt: skip
    beside: Beside | None = None
    if config.grpc_port is not None:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # else each stranger's handshake is a line on standard error
        beside = optional("rpc", "--grpc-port", "serve-grpc").Rpc(assembly.front, config.grpc_port)
    return OnlineServer(settings, assembly.routes, beside=beside, started_at=started_at)


def _announce(assembly: Assembly, listening: socket.socket, rpc: str | None) -> None:
    """Tell where it serves: who hears it can connect."""
    scheme = "http" if assembly.config.tls_cert is None else "https"
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    beside = {} if rpc is None else {"grpc": rpc}
    assembly.journal.tell("serving", url=f"{scheme}://{shown}:{port}", models=assembly.told, **beside)


def _end_with(parent: int, server: OnlineServer) -> None:
    """A worker whose watching process has died ends, too."""
    if server.is_worker and os.getppid() != parent and not server.should_exit:
        server.drain()
