"""Decisions of people over HTTP: which version is champion. Off, unless keys for them are given.

A page of a stranger cannot take one: a browser sends no key by itself (there are no cookies), and a header that holds
one is refused to other origins. Who may predict may not decide: the keys are others than those of clients.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest
from shardwise.registry.registry import Registry
from shardwise.registry.rollouts import PROMOTED, ROLLED_BACK, Rollout, Rollouts
from shardwise.registry.versions import CHAMPION
from shardwise.serve.online.http import check_origin
from shardwise.serve.online.keys import ADMIN_VARIABLE, Keys
from shardwise.serve.online.live import Models, RegistrySource
from shardwise.serve.online.problems import Problem

PROMOTE, ROLL_BACK = "promote", "rollback"
OFF, NEEDS_KEY, ON = "off", "key", "on"
MOST_BYTES = 10_000  # of a body
_MOST_REASON = 500
_KNOWN = ("name", "action", "expect", "version", "rollout", "reason")
_EXAMPLE = ('Send {"name": "m", "action": "promote", "version": 2, "expect": 1}, where 1 (0: none) is champion now, or '
            '{"name": "m", "action": "rollback", "expect": 1}.')  # fmt: skip
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]+")


class Decisions:
    """Promotes and rolls back names that are served from a registry. `decide` may wait for the registry's store."""

    def __init__(self, models: Models, keys: Keys | None = None, tell: Callable[..., None] = lambda *_, **__: None):
        self._models, self.keys, self._tell = models, keys, tell

    def may(self, headers: Mapping[bytes, bytes]) -> str:
        """`on`, `key` where one is asked for that may decide, or `off`."""
        if self.keys is None:
            return OFF
        return ON if self.keys.knows(headers) else NEEDS_KEY

    def check(self, headers: Mapping[bytes, bytes], content_type: str) -> None:
        """Raise `Problem` for who may not decide, and for what another page sent."""
        if self.keys is None:
            hint = f"Start it with --admin-key-file or {ADMIN_VARIABLE}, or decide by `shardwise rollout promote NAME`."
            raise Problem(403, "decisions_off", "this server takes no decisions over HTTP", hint=hint)
        check_origin(headers)
        self.keys.check(headers)
        if content_type != "application/json":
            raise Problem(415, "unsupported_type", f"the content-type is {content_type!r}", hint=_EXAMPLE)

    def decide(self, content: Any, request_id: str) -> dict[str, Any]:
        """What was asked for, done: `{"name", "champion", "outcome"}`; raises `Problem`."""
        asked = _checked(content)
        registry, name = self._registry_of(asked["name"]), asked["name"]
        reason = _UNPRINTABLE.sub(" ", asked.get("reason", "")).strip() or "by hand"
        try:
            outcome = _promote(registry, asked, reason) if asked["action"] == PROMOTE else (
                _roll_back(registry, asked, reason))  # fmt: skip
            champion = registry.version(f"{name}@{CHAMPION}").number
        except ConfigError as error:
            raise Problem(409, "refused", error.message, hint=error.hint) from error
        self._tell("decided", model=name, outcome=outcome, champion=champion, reason=reason, request_id=request_id)
        return {"name": name, "champion": champion, "outcome": outcome}

    def _registry_of(self, name: str) -> Registry:
        for slot in self._models.slots:
            if isinstance(slot.source, RegistrySource) and slot.source.name == name:
                return slot.source.registry
        raise Problem(404, "model_not_found", f"the server has no model {name!r} from a registry",
                      hint="A package in a folder is replaced by writing it anew.")  # fmt: skip


def _promote(registry: Registry, asked: Mapping[str, Any], reason: str) -> str:
    """The candidate of a rollout ends it as champion; another version becomes champion at once."""
    name, version = asked["name"], asked["version"]
    rollouts = Rollouts(registry)
    running = rollouts.running(name)
    if running is not None and running.candidate == version:
        _end(rollouts, running, asked, PROMOTED, reason)
    else:
        registry.promote(f"{name}@{version}", expect=asked["expect"])
    return PROMOTED


def _roll_back(registry: Registry, asked: Mapping[str, Any], reason: str) -> str:
    """A rollout ends, or where none is named the champion before is champion again."""
    name = asked["name"]
    if asked.get("rollout") is None:
        registry.rollback(name, expect=asked["expect"])
        return ROLLED_BACK
    rollouts = Rollouts(registry)
    running = rollouts.running(name)
    if running is None or running.id != asked["rollout"]:
        raise _moved(name)
    _end(rollouts, running, asked, ROLLED_BACK, reason)
    return ROLLED_BACK


def _end(rollouts: Rollouts, running: Rollout, asked: Mapping[str, Any], outcome: str, reason: str) -> None:
    if running.champion != asked["expect"] or not rollouts.end(
        asked["name"], running, outcome, reason, {"by": "hand", "over": "HTTP"}
    ):
        raise _moved(asked["name"])


def _moved(name: str) -> Problem:
    return Problem(409, "moved", f"{name!r} has moved meanwhile", hint="Look at it again, and decide then.")


def _checked(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise Problem(422, "no_decision", "the body is no object", hint=_EXAMPLE)
    strange = next((name for name in content if name not in _KNOWN), None)
    if strange is not None:
        raise Problem(422, "no_decision", f"a decision has no {strange!r}", hint=nearest(strange, _KNOWN))
    if content.get("action") not in (PROMOTE, ROLL_BACK):
        raise Problem(422, "no_decision", f"the action is {content.get('action')!r}", hint=_EXAMPLE)
    whole = ("expect", "version") if content["action"] == PROMOTE else ("expect",)
    wrong = next(
        (name for name in whole if type(content.get(name)) is not int or content[name] < (name == "version")), None
    )
    if wrong is not None:
        raise Problem(422, "no_decision", f"{wrong} is no number of a version", hint=_EXAMPLE)
    texts = {"name": content.get("name"), "rollout": content.get("rollout") or "", "reason": content.get("reason", "")}
    for name, text in texts.items():
        if not isinstance(text, str) or len(text) > _MOST_REASON:
            hint = f"Give a text of at most {_MOST_REASON} characters."
            raise Problem(422, "no_decision", f"{name} is no text, or too long", hint=hint)
    return content
