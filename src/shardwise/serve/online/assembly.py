"""What answers: the models, the application, and the threads beside them. Who listens puts it behind his sockets.

`server.serve` is one who listens, Ray Serve (`serve.on_ray`) another one.
"""

import gc
import importlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType

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
from shardwise.serve.online.routes import Routes
from shardwise.serve.online.settings import ServeConfig
from shardwise.serve.online.ui.decisions import Decisions
from shardwise.serve.online.watch import Watching
from shardwise.serve.predictor import Predictor

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # of prometheus_client


def _cache(config: ServeConfig) -> Cache | None:
    if not config.cache:
        return None
    return open_cache(
        config.cache, replicas=config.cache_replicas, ttl_s=config.cache_ttl_s, behind=config.cache_behind
    )


class Assembly:
    """Loads the models that `texts` name. `start` begins to watch them, `close` ends all threads.

    Raises `PackageError` and `ConfigError` when a model cannot be loaded, keys not be read, or an extra is not
    installed.
    """

    def __init__(self, texts: Sequence[str], registry: Registry, config: ServeConfig) -> None:
        self.journal, self.config = Journal(), config
        metrics = Metrics(os.environ.get(METRICS_FOLDER))
        keys, admin = Keys.open(config.api_key_file), Keys.open(config.admin_key_file, ADMIN_VARIABLE)
        self._spans = _spans(config, self.journal)
        cache = _cache(config)
        self.models = Models([Slot(source_of(text, registry), partial(_predictor, cache=cache)) for text in texts])
        self.routes = Routes(self.models, config, metrics, cache)
        self.routes.secured = keys is not None
        self.routes.decisions = Decisions(self.models, admin, self.journal.tell)
        if config.monitor:
            alerts = open_alerts(config.alerts, self.journal.tell)
            self.routes.watching = watching = Watching(self.models, config, metrics, alerts)
            if (why := watching.without_labels) is not None:  # rows and answers are watched all the same
                self.journal.tell("labels_not_watched", reason=why.message, hint=why.hint)
        self.routes.canaries = Canaries(self.models, config, self.journal.tell)
        self.front = Front(self.routes, self.journal, keys=keys, tracing=self._spans)
        self.app = App(self.front)
        metrics.show(self.models)
        self._watcher: Watcher | None = None

    @property
    def told(self) -> list[str]:
        """The models and versions that answer."""
        return [f"{slot.name}@{slot.live.version}" for slot in self.models.slots]

    @property
    def watches(self) -> bool:
        """Whether the thread that follows the registry is alive."""
        return self._watcher is not None and self._watcher.is_alive

    def start(self, also: Callable[[], None] = lambda: None) -> None:
        """Follow what is to be served, and keys and rollouts; `also` is called in each round."""
        gc.freeze()  # what is loaded stays: it need not be looked through again and again
        self._watcher = Watcher(
            self.models, self.config.poll_s, swapped=self._swapped, failed=self._refused,
            also=partial(self._guarded_round, also),
        )  # fmt: skip
        self._watcher.start()
        if self.routes.watching is not None:
            self.routes.watching.start()

    def close(self) -> None:
        """End the threads; what waits to be told or kept is."""
        if self._watcher is not None:
            self._watcher.stop()
        if self.routes.watching is not None:
            self.routes.watching.stop()
        self.routes.canaries.stop()
        self.routes.close()
        for each in (self.routes.cache, self._spans):
            if each is not None:
                each.close()
        self.journal.tell("ended")

    def _guarded_round(self, also: Callable[[], None]) -> None:
        """Whatever fails in a round, the next one comes, and `also` is called."""
        try:
            self._each_round()
        except Exception as error:  # the thread must go on: it swaps versions, and ends workers
            self.journal.trace(error)
            self.journal.tell("round_failed", error=repr(error))
        also()

    def _each_round(self) -> None:
        """Follow rollouts and keys, count traffic, let go of versions that are no more."""
        self.routes.canaries.look()
        self.routes.memory.keep(self.models.served)
        self.routes.page.history.look()
        for keys in (self.front.keys, self.routes.decisions.keys):
            try:
                if keys is not None and keys.look():
                    self.journal.tell("keys_changed")
            except ConfigError as error:
                self.journal.tell("keys_refused", error=str(error))

    def _swapped(self, new: Served) -> None:
        self.routes.metrics.swapped(new.name, "live")
        self.routes.metrics.show(self.models)
        self.journal.tell("swapped", model=new.name, version=new.version, package=new.predictor.package.hash)

    def _refused(self, slot: Slot, error: Exception) -> None:
        self.routes.metrics.swapped(slot.name, "refused")
        self.journal.tell("refused", model=slot.name, version_that_goes_on=slot.live.version, error=str(error))


def optional(module: str, option: str, extra: str) -> ModuleType:
    """A module of this room that needs an extra, imported where its option is given."""
    try:
        return importlib.import_module(f"shardwise.serve.online.{module}")
    except ImportError as error:
        what = f"{option} needs a library that is not installed ({error})"
        raise ConfigError(what, hint=f"Run: pip install 'shardwise[serve,{extra}]'.") from error


def _predictor(package: Package, cache: Cache | None) -> Predictor:
    return Predictor(package) if cache is None else CachedPredictor(package, cache)


def _spans(config: ServeConfig, journal: Journal) -> Tracing | None:
    if config.traces is None:
        return None
    spans: Tracing = optional("tracing", "--traces", "traces").Spans.to(config.traces, journal)
    return spans
