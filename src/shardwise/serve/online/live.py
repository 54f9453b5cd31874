"""What is served: versions of models, each watched and replaced by the next one while requests go on.

A request takes the version that is live when it comes, and keeps it to its end: it is answered by one version, whatever
happens meanwhile. A new version is loaded beside the old one, which includes all checks of `load_package`, and takes
its place by one assignment. Where that fails, the old one goes on.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from shardwise.core.errors import ConfigError
from shardwise.registry.golden import read_golden
from shardwise.registry.package import Package, load_package, package_hash
from shardwise.registry.registry import Registry, split_reference
from shardwise.registry.versions import is_name
from shardwise.serve.online.costs import Costs
from shardwise.serve.online.problems import Problem
from shardwise.serve.predictor import Predictor

_HASH_DIGITS = 12
_WARM_ROWS = 20
_MOST_PAUSE_S = 60.0  # between two tries of a version that cannot be loaded
MakePredictor = Callable[[Package], Predictor]


@dataclass(frozen=True, eq=False)
class Served:
    """A version that answers. `identity` says what stood at its place when it was loaded."""

    name: str
    version: str
    identity: str
    predictor: Predictor
    costs: Costs = field(default_factory=Costs)

    @cached_property
    def times(self) -> tuple[str, ...]:
        """Columns of dates and times, which come as texts: a number could be days, seconds or milliseconds."""
        inputs = self.predictor.package.inputs
        return tuple(each.name for each in inputs if pa.types.is_temporal(each.type))

    def warm_up(self) -> None:
        """Predict golden rows one by one, so that the first request is as fast as the others; learn what that takes."""
        golden, _ = read_golden(self.predictor.package.folder)
        for row in golden.slice(0, _WARM_ROWS).to_pylist() * 2:
            started = time.thread_time()
            self.predictor.computed([row])
            self.costs.learn(1, time.thread_time() - started)


class Source(Protocol):
    """Where a model comes from."""

    @property
    def name(self) -> str: ...

    def look(self) -> str:
        """What stands there now: another text is another version. Cheap."""
        ...

    def load(self) -> tuple[Package, str]:
        """The package, loaded and checked, and the name of its version."""
        ...


@dataclass(frozen=True)
class FolderSource:
    """A package in a folder; a training may replace it. Its version is the beginning of its hash."""

    name: str
    folder: Path

    def look(self) -> str:
        return package_hash(self.folder)

    def load(self) -> tuple[Package, str]:
        package = load_package(self.folder)
        return package, package.hash[:_HASH_DIGITS]


@dataclass(frozen=True)
class RegistrySource:
    """A version of the registry, or what an alias points at. Its version is its number."""

    name: str
    registry: Registry
    reference: str

    def look(self) -> str:
        return self.registry.version(self.reference).hash

    def load(self) -> tuple[Package, str]:
        version = self.registry.version(self.reference)
        return self.registry.load(version), str(version.number)


def source_of(text: str, registry: Registry) -> Source:
    """The source that a word of the command line names: `model/`, `name=model/`, `NAME`, `NAME@3`, `NAME@alias`."""
    name, equals, place = text.partition("=")
    if equals and is_name(name):
        return FolderSource(name, Path(place))
    if Path(text).exists():
        found = Path(text).resolve().name
        return FolderSource(found if is_name(found) else "model", Path(text))
    if "/" in text:
        raise ConfigError(f"there is no package at {text!r}", hint="Give a folder that `shardwise train` wrote.")
    return RegistrySource(split_reference(text)[0], registry, text)


class Slot:
    """A source, and the version of it that is live."""

    def __init__(self, source: Source, make: MakePredictor) -> None:
        self.source = source
        self._make = make
        self.live = self._loaded()
        self._failures = 0
        self._skip = 0.0  # seconds until a version that could not be loaded is tried again

    @property
    def name(self) -> str:
        return self.source.name

    def refresh(self, since_s: float) -> Served | None:
        """Load what stands there now, if it is something else, and make it live; the new version, or None.

        `since_s` seconds went by since the last call. Raises what loading raises; the old version stays, and the next
        tries are ever rarer.
        """
        self._skip -= since_s
        if self._skip > 0:
            return None
        try:
            if self.source.look() == self.live.identity:
                return None
            self.live = self._loaded()
        except Exception:
            self._failures += 1
            self._skip = min(2.0 ** (self._failures - 1), _MOST_PAUSE_S)
            raise
        self._failures = 0
        return self.live

    def _loaded(self) -> Served:
        return self.loaded(*self.source.load())

    def loaded(self, package: Package, version: str) -> Served:
        """A version, ready to answer, beside the one that is live."""
        served = Served(self.name, version, package.hash, self._make(package))
        served.warm_up()
        return served


class Models:
    """The slots by name; a name may have several, of which the first one answers where no version is asked for.

    `beside` holds those that answer beside the live ones, by name: candidates of rollouts. They can be asked for.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.slots = tuple(slots)
        self.beside: dict[str, Served] = {}
        self._by_name: dict[str, list[Slot]] = {}
        for slot in slots:
            self._by_name.setdefault(slot.name, []).append(slot)

    @property
    def names(self) -> list[str]:
        return list(self._by_name)

    @property
    def served(self) -> list[Served]:
        """All versions that answer."""
        return [each for name in self._by_name for each in self._served(name)]

    def _served(self, name: str) -> list[Served]:
        beside = self.beside.get(name)
        return [slot.live for slot in self._by_name[name]] + ([] if beside is None else [beside])

    def versions(self, name: str) -> list[str]:
        return list(dict.fromkeys(served.version for served in self._served(name)))

    def find(self, name: str | None = None, version: str | None = None) -> Served:
        """The version to answer with, without `version` the first live one; raises `Problem` 404 that names what
        there is."""
        if name is None:
            if len(self._by_name) > 1:
                hint = f"Add ?model=NAME, one of: {', '.join(self._by_name)}."
                raise Problem(400, "model_not_named", "the server has several models, and none was named", hint=hint)
            name = next(iter(self._by_name))
        slots = self._by_name.get(name)
        if slots is None:
            hint = f"There are: {', '.join(self._by_name)}."
            raise Problem(404, "model_not_found", f"there is no model {name!r}", hint=hint)
        if version is None:
            return slots[0].live
        for served in self._served(name):
            if served.version == version:
                return served
        hint = f"There are: {', '.join(self.versions(name))}."
        raise Problem(404, "version_not_found", f"the model {name!r} has no version {version!r} here", hint=hint)


class Watcher:
    """A thread that refreshes all slots every `poll_s` seconds, and tells what became of it; `also` is called then."""

    def __init__(
        self, models: Models, poll_s: float, *, swapped: Callable[[Served], None],
        failed: Callable[[Slot, Exception], None], also: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._models, self._poll_s, self._also = models, poll_s, also
        self._swapped, self._failed = swapped, failed
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def look(self, since_s: float = 0.0) -> None:
        """One round over all slots."""
        for slot in self._models.slots:
            try:
                new = slot.refresh(since_s)
            except Exception as error:  # a store can raise anything; the thread must go on
                self._failed(slot, error)
            else:
                if new is not None:
                    self._swapped(new)

    def _watch(self) -> None:
        while not self._ended.wait(self._poll_s):
            self.look(self._poll_s)
            self._also()
