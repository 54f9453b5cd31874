"""What the page shows: what is served, how it goes, and where it comes from. JSON values, nothing of single rows."""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from shardwise.core.errors import ShardwiseError
from shardwise.registry.registry import Registry
from shardwise.registry.versions import Version
from shardwise.serve.online.canary import Canaries
from shardwise.serve.online.live import Models, RegistrySource, Slot
from shardwise.serve.online.metrics import Metrics
from shardwise.serve.online.settings import ServeConfig
from shardwise.serve.online.ui.decisions import Decisions
from shardwise.serve.online.ui.history import History
from shardwise.serve.online.watch import Watching

_FRESH_S = 1.0  # the registry is read no more often, however many look
_EVENTS = 8  # of a name's history
_COLUMNS, _FINDINGS = 12, 10
_VERSIONS = 50  # the newest ones


class Shown(Protocol):
    """What the page is about: `routes.Routes`."""

    models: Models
    config: ServeConfig
    metrics: Metrics
    ready: bool
    canaries: Canaries
    decisions: Decisions
    watching: Watching | None


class Registered:
    """What the registries tell of the names that are served. May wait for their store: called by one thread."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._read_s, self._told = float("-inf"), list[dict[str, Any]]()

    def read(self) -> list[dict[str, Any]]:
        if time.monotonic() - self._read_s >= _FRESH_S:
            found = {slot.source.name: slot.source for slot in self._models.slots
                     if isinstance(slot.source, RegistrySource)}  # fmt: skip
            self._told = [_of_name(name, source.registry) for name, source in found.items()]
            self._read_s = time.monotonic()
        return self._told


def _of_name(name: str, registry: Registry) -> dict[str, Any]:
    try:
        state, history = registry.state(name), registry.history(name, last=_EVENTS)
    except (ShardwiseError, OSError) as error:
        return {"name": name, "error": str(error)}
    newest = sorted(state.versions.values(), key=lambda version: -version.number)[:_VERSIONS]
    before = state.champions[-2] if len(state.champions) > 1 else None
    return {"name": name, "aliases": dict(state.aliases), "before": before, "rollout": state.rollout,
            "versions": [_of_version(each, state.aliases_of(each.number)) for each in newest],
            "left_out": len(state.versions) - len(newest),
            "events": [_of_event(each) for each in reversed(history)]}  # fmt: skip


def _of_version(version: Version, aliases: Sequence[str]) -> dict[str, Any]:
    return {"number": version.number, "aliases": list(aliases), "created": version.created, "note": version.note,
            "families": list(version.families), "size_bytes": version.size_bytes,
            "metrics": _scores(version.metrics)}  # fmt: skip


def _scores(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Of the sealed test, where a training has told them."""
    test = metrics.get("test", {})
    return {name: each["value"] for name, each in test.items() if isinstance(each, Mapping) and "value" in each}


def _of_event(entry: Mapping[str, Any]) -> dict[str, Any]:
    event = entry["event"]
    kept = {name: event[name] for name in ("kind", "alias", "number", "step", "outcome", "reason") if name in event}
    return {"time": entry["time"], **kept}


def state_of(shown: Shown, history: History, registered: list[dict[str, Any]], decisions: str) -> dict[str, Any]:
    """`registered` as `Registered.read` gives it; `decisions` as `Decisions.may` does."""
    config = shown.config
    return {
        "server": {"ready": shown.ready, "process": os.getpid(), "workers": config.workers,
                   "monitor": shown.watching is not None, "queue_rows": config.queue_rows},
        "models": [_of_slot(slot) for slot in shown.models.slots],
        "registry": registered,
        "rollouts": shown.canaries.to_json()["rollouts"],
        "decisions": decisions,
        "traffic": history.points(),
        "drift": [] if shown.watching is None else [_of_watch(each) for each in shown.watching.to_json()["models"]],
    }  # fmt: skip


def _of_watch(told: Mapping[str, Any]) -> dict[str, Any]:
    """With the columns that have moved furthest, and the latest findings."""
    sizes = sorted(told["last"].get("sizes", {}).items(), key=lambda each: -each[1])
    return {**told, "last": {"rows": told["last"].get("rows", 0), "sizes": dict(sizes[:_COLUMNS])},
            "left_out": max(0, len(sizes) - _COLUMNS), "findings": told["findings"][-_FINDINGS:][::-1]}  # fmt: skip


def _of_slot(slot: Slot) -> dict[str, Any]:
    live = slot.live
    package, target = live.predictor.package, live.predictor.target
    return {"name": slot.name, "version": live.version, "package": package.hash[:12], "task": target.task.value,
            "target": target.column, "columns": len(live.predictor.columns), "registry":
            isinstance(slot.source, RegistrySource),
            "families": list(dict.fromkeys(member.family for member in package.members))}  # fmt: skip
