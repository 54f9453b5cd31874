"""What a name of the registry is: versions and aliases, as a pure function of the events of its log.

An alias points at a version. `champion` is what is served, `challenger` what wants to take its place, `previous` the
champion before; others have any meaning. Champions are remembered in their order, so that each can be brought back.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from shardwise.core.errors import ConfigError

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
Event = Mapping[str, Any]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version: a package that was registered, and what is told of it. Numbers begin at 1 and are never used again.

    hash        of the package's manifest, which holds the hashes of all its files
    folder      where the package lies, below the name
    created     when it was registered, UTC, by the clock of the one who did
    metrics     of the package: `{"test": {name: {"value", "low", "high"}}, "valid": ...}`
    lineage     `data` (fingerprint), `config` (hash), `rows`, `code` (version), `parent` (version or None), and of one
                that was retrained `parent_package` (the hash of the package that it goes on from)
    """

    name: str
    number: int
    hash: str
    folder: str
    created: str
    task: str
    target: str
    families: tuple[str, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)
    size_bytes: int = 0
    note: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """`NAME@NUMBER`."""
        return f"{self.name}@{self.number}"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "families": list(self.families)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Version":
        return cls(**{**content, "families": tuple(content["families"])})


@dataclass(frozen=True, kw_only=True)
class NameState:
    """All versions of a name that were not deleted, by number; aliases; the champions in their order, the last one now.

    `last` is the greatest number that was ever given; `rollout` what is being rolled out (`registry.rollouts`), if
    anything is.
    """

    versions: Mapping[int, Version] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    champions: tuple[int, ...] = ()
    last: int = 0
    rollout: Mapping[str, Any] | None = None

    def aliases_of(self, number: int) -> list[str]:
        """Aliases that point at a version, sorted."""
        return sorted(alias for alias, target in self.aliases.items() if target == number)

    def apply(self, event: Event) -> "NameState":
        """The state after an event, which is one of those made below."""
        return _APPLY[event["kind"]](self, event)

    def to_json(self) -> dict[str, Any]:
        versions = [version.to_json() for version in self.versions.values()]
        content = {"versions": versions, "aliases": dict(self.aliases), "champions": list(self.champions),
                   "last": self.last}  # fmt: skip
        return content if self.rollout is None else {**content, "rollout": dict(self.rollout)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "NameState":
        versions = [Version.from_json(version) for version in content["versions"]]
        return cls(
            versions={version.number: version for version in versions},
            aliases=content["aliases"], champions=tuple(content["champions"]), last=content["last"],
            rollout=content.get("rollout"),
        )  # fmt: skip


def registered(version: Version, aliases: tuple[str, ...] = ()) -> Event:
    return {"kind": "registered", "version": version.to_json(), "aliases": list(aliases)}


def described(number: int, note: str, tags: Mapping[str, str]) -> Event:
    return {"kind": "described", "number": number, "note": note, "tags": dict(tags)}


def pointed(alias: str, number: int) -> Event:
    """An alias points at a version from now on; with `champion`, the one before becomes `previous`."""
    return {"kind": "pointed", "alias": alias, "number": number}


def unpointed(alias: str) -> Event:
    return {"kind": "unpointed", "alias": alias}


def rolled_back(number: int) -> Event:
    """The champion before the present one is champion again."""
    return {"kind": "rolled_back", "number": number}


def deleted(number: int) -> Event:
    return {"kind": "deleted", "number": number}


def rollout_started(rollout: Mapping[str, Any]) -> Event:
    """`id`, `candidate` (a number), `champion`, `step` and `rules`; the candidate becomes challenger."""
    return {"kind": "rollout_started", "rollout": dict(rollout)}


def rollout_moved(step: int, reason: str, evidence: Mapping[str, Any]) -> Event:
    return {"kind": "rollout_moved", "step": step, "reason": reason, "evidence": dict(evidence)}


def rollout_ended(outcome: str, reason: str, evidence: Mapping[str, Any]) -> Event:
    """`outcome`: promoted (the candidate is champion from now on), passed, rolled_back or stopped."""
    return {"kind": "rollout_ended", "outcome": outcome, "reason": reason, "evidence": dict(evidence)}


def is_name(text: str) -> bool:
    """Whether a text may be the name of a model."""
    return _NAME.fullmatch(text) is not None


def check_name(name: str, what: str = "name of a model") -> str:
    """The name; raises `ConfigError` for one that cannot be part of a path or of a reference."""
    if not is_name(name):
        hint = "Use letters, digits, '.', '_' and '-', at most 100, and begin with a letter or a digit."
        raise ConfigError(f"{name!r} is no {what}", hint=hint)
    return name


def check_alias(alias: str) -> str:
    """The alias; raises `ConfigError` for a number, which names a version, and for `previous`, which keeps itself."""
    check_name(alias, "alias")
    if alias.isdigit():
        raise ConfigError(f"the alias {alias!r} looks like a version", hint="Begin it with a letter.")
    if alias == PREVIOUS:
        raise ConfigError(f"the alias {PREVIOUS!r} is kept by promotions", hint="Choose another name.")
    return alias


def _registered(state: NameState, event: Event) -> NameState:
    version = Version.from_json(event["version"])
    state = replace(state, versions={**state.versions, version.number: version}, last=version.number)
    for alias in event["aliases"]:
        state = _point(state, alias, version.number)
    return state


def _described(state: NameState, event: Event) -> NameState:
    version = replace(state.versions[event["number"]], note=event["note"], tags=event["tags"])
    return replace(state, versions={**state.versions, version.number: version})


def _point(state: NameState, alias: str, number: int) -> NameState:
    if alias != CHAMPION:
        return replace(state, aliases={**state.aliases, alias: number})
    if state.aliases.get(CHAMPION) == number:
        return state
    state = replace(state, rollout=None)  # what was compared with the old champion is over
    return _crown(state, (*state.champions, number))


def _crown(state: NameState, champions: tuple[int, ...]) -> NameState:
    """The last of `champions` is champion, the one before it previous; it is no challenger any more."""
    aliases = {alias: number for alias, number in state.aliases.items() if alias not in (CHAMPION, PREVIOUS)}
    if champions and aliases.get(CHALLENGER) == champions[-1]:
        del aliases[CHALLENGER]
    aliases.update(zip((CHAMPION, PREVIOUS), reversed(champions[-2:]), strict=False))
    return replace(state, aliases=aliases, champions=champions)


def _unpointed(state: NameState, event: Event) -> NameState:
    if event["alias"] == CHAMPION:
        return _crown(replace(state, rollout=None), ())
    return replace(state, aliases={name: number for name, number in state.aliases.items() if name != event["alias"]})


def _deleted(state: NameState, event: Event) -> NameState:
    gone = event["number"]
    champions = tuple(number for number in state.champions if number != gone)
    versions = {number: version for number, version in state.versions.items() if number != gone}
    return replace(state, versions=versions, champions=_without_repeats(champions))


def _rollout_started(state: NameState, event: Event) -> NameState:
    rollout = event["rollout"]
    return replace(_point(state, CHALLENGER, rollout["candidate"]), rollout=rollout)


def _rollout_moved(state: NameState, event: Event) -> NameState:
    return replace(state, rollout={**(state.rollout or {}), "step": event["step"]})


def _rollout_ended(state: NameState, event: Event) -> NameState:
    rollout = state.rollout or {}
    ended = replace(state, rollout=None)
    return _point(ended, CHAMPION, rollout["candidate"]) if event["outcome"] == "promoted" else ended


def _without_repeats(numbers: tuple[int, ...]) -> tuple[int, ...]:
    """A champion that follows itself, since the one between was deleted, counts once."""
    return tuple(number for place, number in enumerate(numbers) if place == 0 or numbers[place - 1] != number)


_APPLY = {
    "registered": _registered,
    "described": _described,
    "pointed": lambda state, event: _point(state, event["alias"], event["number"]),
    "unpointed": _unpointed,
    "rolled_back": lambda state, event: _crown(replace(state, rollout=None), state.champions[:-1]),  # noqa: ARG005
    "deleted": _deleted,
    "rollout_started": _rollout_started,
    "rollout_moved": _rollout_moved,
    "rollout_ended": _rollout_ended,
}
