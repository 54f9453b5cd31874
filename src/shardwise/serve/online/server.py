"""A process that serves: uvicorn around the application, from loading the models to the last answer.

SIGTERM or SIGINT: the server says that it is not ready, waits `drain_delay_s` for balancers to hear it, listens no
more, answers what is under way, and ends with code 0. A second signal ends it at once.
"""

import contextlib
import gc
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from types import FrameType

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
from shardwise.serve.online.journal import Journal
from shardwise.serve.online.live import Models, Served, Slot, Watcher, source_of
from shardwise.serve.online.metrics import Metrics
from shardwise.serve.online.protocol import PatientProtocol
from shardwise.serve.online.routes import Routes
from shardwise.serve.online.settings import ServeConfig
from shardwise.serve.online.signals import ENDING, handled
from shardwise.serve.online.watch import Watching
from shardwise.serve.predictor import Predictor

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # of prometheus_client
_BACKLOG = 2048
_KEEP_ALIVE_S = 75


class OnlineServer(uvicorn.Server):
    """uvicorn's server, which drains first and ends without the signal's own code."""

    def __init__(self, config: uvicorn.Config, routes: Routes) -> None:
        super().__init__(config)
        self._routes = routes
        self.is_worker = routes.config.workers > 1

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

    Raises `PackageError` and `ConfigError` when a model cannot be loaded, or the port cannot be had.
    """
    journal, metrics = Journal(), Metrics(os.environ.get(METRICS_FOLDER))
    cache = open_cache(config.cache, ttl_s=config.cache_ttl_s) if config.cache else None
    models = Models([Slot(source_of(text, registry), partial(_predictor, cache=cache)) for text in texts])
    routes = Routes(models, config, metrics, cache)
    server = _server(routes, journal, config)
    watcher = Watcher(
        models, config.poll_s, swapped=partial(_swapped, routes, journal), failed=partial(_refused, routes, journal),
        also=partial(_each_round, server, routes, os.getppid()),
    )  # fmt: skip
    if config.monitor:
        routes.watching = Watching(models, config, metrics, open_alerts(config.alerts, journal.tell))
    routes.canaries = Canaries(models, journal.tell)
    metrics.show(models)
    gc.freeze()  # what is loaded stays: it need not be looked through again and again
    listening = listen(config.host, config.port, shared=config.workers > 1)
    listening.listen(_BACKLOG)  # who hears that it serves can connect
    _announce(journal, models, listening)
    watcher.start()
    if routes.watching is not None:
        routes.watching.start()
    try:
        server.run(sockets=[listening])
    finally:
        watcher.stop()
        if routes.watching is not None:
            routes.watching.stop()
        routes.canaries.stop()
        routes.close()
        if cache is not None:
            cache.close()
        journal.tell("ended")


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


def _server(routes: Routes, journal: Journal, config: ServeConfig) -> OnlineServer:
    app = App(routes, journal)
    settings = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", server_header=False, proxy_headers=False,
        backlog=_BACKLOG, timeout_keep_alive=_KEEP_ALIVE_S, timeout_graceful_shutdown=max(1, round(config.drain_s)),
        http=PatientProtocol.waiting(config.header_s, app), ws="none",
    )  # fmt: skip
    return OnlineServer(settings, routes)


def _announce(journal: Journal, models: Models, listening: socket.socket) -> None:
    host, port = listening.getsockname()[:2]
    told = [f"{slot.name}@{slot.live.version}" for slot in models.slots]
    shown = f"[{host}]" if ":" in host else host
    journal.tell("serving", url=f"http://{shown}:{port}", models=told)


def _each_round(server: OnlineServer, routes: Routes, parent: int) -> None:
    """Follow rollouts; a worker whose watching process has died ends, too."""
    routes.canaries.look()
    if server.is_worker and os.getppid() != parent and not server.should_exit:
        server.drain()


def _swapped(routes: Routes, journal: Journal, new: Served) -> None:
    routes.metrics.swapped(new.name, "live")
    routes.metrics.show(routes.models)
    journal.tell("swapped", model=new.name, version=new.version, package=new.predictor.package.hash)


def _refused(routes: Routes, journal: Journal, slot: Slot, error: Exception) -> None:
    routes.metrics.swapped(slot.name, "refused")
    journal.tell("refused", model=slot.name, version_that_goes_on=slot.live.version, error=str(error))
