"""A process that serves: uvicorn around the application, from loading the models to the last answer.

SIGTERM or SIGINT: the server says that it is not ready, waits `drain_delay_s` for balancers to hear it, listens no
more, answers what is under way, and ends with code 0. A second signal ends it at once.
"""

import asyncio
import contextlib
import gc
import importlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import FrameType, ModuleType
from typing import Any, Protocol

import uvicorn

from shardwise.core.errors import ConfigError
from shardwise.monitor.alerts import open_alerts
from shardwise.registry.package import Package
from shardwise.registry.registry import Registry
from shardwise.serve.cache.base import Cache
from shardwise.serve.cache.opening import open_cache
from shardwise.serve.cache.predictions import CachedPredictor
from shardwise.serve.online.app import App
from shardwise.serve.online.canary import Canaries
from shardwise.serve.online.front import Front, Tracing
from shardwise.serve.online.journal import Journal
from shardwise.serve.online.keys import ADMIN_VARIABLE, Keys
from shardwise.serve.online.live import Models, Served, Slot, Watcher, source_of
from shardwise.serve.online.metrics import Metrics
from shardwise.serve.online.protocol import PatientProtocol
from shardwise.serve.online.routes import Routes
from shardwise.serve.online.settings import ServeConfig
from shardwise.serve.online.signals import ENDING, handled
from shardwise.serve.online.ui.decisions import Decisions
from shardwise.serve.online.watch import Watching
from shardwise.serve.predictor import Predictor

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # of prometheus_client
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

    Raises `PackageError` and `ConfigError` when a model cannot be loaded, a port cannot be had, keys or certificates
    not be read, or an extra is not installed.
    """
    journal, metrics = Journal(), Metrics(os.environ.get(METRICS_FOLDER))
    keys, admin = Keys.open(config.api_key_file), Keys.open(config.admin_key_file, ADMIN_VARIABLE)
    spans = _spans(config, journal)
    check_certificate(config)
    cache = open_cache(config.cache, ttl_s=config.cache_ttl_s) if config.cache else None
    models = Models([Slot(source_of(text, registry), partial(_predictor, cache=cache)) for text in texts])
    routes = Routes(models, config, metrics, cache)
    routes.secured = keys is not None
    routes.decisions = Decisions(models, admin, journal.tell)
    listening = listen(config.host, config.port, shared=config.workers > 1)
    front = Front(routes, journal, keys=keys, tracing=spans)
    scheme = "http" if config.tls_cert is None else "https"
    server = _server(front, config, partial(_announce, journal, models, scheme, listening))
    watcher = Watcher(
        models, config.poll_s, swapped=partial(_swapped, routes, journal), failed=partial(_refused, routes, journal),
        also=partial(_each_round, server, front, journal, os.getppid()),
    )  # fmt: skip
    if config.monitor:
        routes.watching = Watching(models, config, metrics, open_alerts(config.alerts, journal.tell))
    routes.canaries = Canaries(models, journal.tell)
    metrics.show(models)
    gc.freeze()  # what is loaded stays: it need not be looked through again and again
    listening.listen(_BACKLOG)
    watcher.start()
    if routes.watching is not None:
        routes.watching.start()
    try:
        server.run(sockets=[listening])
    finally:
        watcher.stop()
        _close(routes, spans)
        journal.tell("ended")


def _close(routes: Routes, spans: Tracing | None) -> None:
    """End the threads; what waits to be told or kept is."""
    if routes.watching is not None:
        routes.watching.stop()
    routes.canaries.stop()
    routes.close()
    for each in (routes.cache, spans):
        if each is not None:
            each.close()


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


def _predictor(package: Package, cache: Cache | None) -> Predictor:
    return Predictor(package) if cache is None else CachedPredictor(package, cache)


def _server(
    front: Front, config: ServeConfig, started_at: Callable[[str | None], None] = lambda _: None
) -> OnlineServer:
    app = App(front)
    settings = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", server_header=False, proxy_headers=False,
        backlog=_BACKLOG, timeout_keep_alive=_KEEP_ALIVE_S, timeout_graceful_shutdown=max(1, round(config.drain_s)),
        http=PatientProtocol.waiting(config.header_s, app), ws="none",
        ssl_certfile=config.tls_cert, ssl_keyfile=config.tls_key,
    )  # fmt: skip
    beside: Beside | None = None
    if config.grpc_port is not None:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # else each stranger's handshake is a line on standard error
        beside = _optional("rpc", "--grpc-port", "serve-grpc").Rpc(front, config.grpc_port)
    return OnlineServer(settings, front.routes, beside=beside, started_at=started_at)


def _spans(config: ServeConfig, journal: Journal) -> Tracing | None:
    if config.traces is None:
        return None
    spans: Tracing = _optional("tracing", "--traces", "traces").Spans.to(config.traces, journal)
    return spans


def _optional(module: str, option: str, extra: str) -> ModuleType:
    """A module of this room that needs an extra, imported where its option is given."""
    try:
        return importlib.import_module(f"shardwise.serve.online.{module}")
    except ImportError as error:
        what = f"{option} needs a library that is not installed ({error})"
        raise ConfigError(what, hint=f"Run: pip install 'shardwise[serve,{extra}]'.") from error


def _announce(journal: Journal, models: Models, scheme: str, listening: socket.socket, rpc: str | None) -> None:
    """Tell where it serves: who hears it can connect."""
    host, port = listening.getsockname()[:2]
    told = [f"{slot.name}@{slot.live.version}" for slot in models.slots]
    shown = f"[{host}]" if ":" in host else host
    beside = {} if rpc is None else {"grpc": rpc}
    journal.tell("serving", url=f"{scheme}://{shown}:{port}", models=told, **beside)


def _each_round(server: OnlineServer, front: Front, journal: Journal, parent: int) -> None:
    """Follow rollouts and keys, count traffic; a worker whose watching process has died ends, too."""
    front.routes.canaries.look()
    front.routes.page.history.look()
    for keys in (front.keys, front.routes.decisions.keys):
        try:
            if keys is not None and keys.look():
                journal.tell("keys_changed")
        except ConfigError as error:
            journal.tell("keys_refused", error=str(error))
    if server.is_worker and os.getppid() != parent and not server.should_exit:
        server.drain()


def _swapped(routes: Routes, journal: Journal, new: Served) -> None:
    routes.metrics.swapped(new.name, "live")
    routes.metrics.show(routes.models)
    journal.tell("swapped", model=new.name, version=new.version, package=new.predictor.package.hash)


def _refused(routes: Routes, journal: Journal, slot: Slot, error: Exception) -> None:
    routes.metrics.swapped(slot.name, "refused")
    journal.tell("refused", model=slot.name, version_that_goes_on=slot.live.version, error=str(error))
