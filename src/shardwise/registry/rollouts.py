"""Rollouts in the registry: which version is tried on which share of the traffic, for all replicas of a server.

    NAME/log/...                                    started, moved to the next step, ended: with reason and evidence
    NAME/rollouts/<id>/<step>/<replica>.json        what a replica has seen in a step; replaced every few seconds

Every replica reads what all have seen, and judges alike; of those that decide at once the first one's entry counts.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shardwise.core.errors import ConfigError
from shardwise.registry import versions as events
from shardwise.registry.registry import Registry, split_reference
from shardwise.registry.versions import CHALLENGER, CHAMPION, NameState, Version

PROMOTED, PASSED, ROLLED_BACK, STOPPED = "promoted", "passed", "rolled_back", "stopped"
_FOLDER = "rollouts"


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A version on its way: `step` is a place in the steps of `rules` (`monitor.canary.RolloutRules`)."""

    id: str
    candidate: int
    champion: int
    step: int = 0
    rules: Mapping[str, Any] = field(default_factory=dict)


class Rollouts:
    """The rollouts of a registry. Any number of processes may use it at once."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def running(self, name: str) -> Rollout | None:
        """What is being rolled out, if anything is; raises `ConfigError` where there is no such name."""
        found = self.registry.state(name).rollout
        return None if found is None else Rollout(**found)

    def start(self, reference: str, rules: Mapping[str, Any]) -> Rollout:
        """Begin to roll out `NAME@3`, or `NAME` for its challenger, against the champion.

        Raises `ConfigError` where a rollout goes on, there is no champion, or it is the version itself.
        """
        name, _ = split_reference(reference, otherwise=CHALLENGER)
        version = self.registry.version(reference if "@" in reference else f"{name}@{CHALLENGER}")
        token = secrets.token_hex(6)

        def decide(state: NameState) -> events.Event:
            champion = state.aliases.get(CHAMPION)
            _check_there(state, version.reference, version.number)
            if state.rollout is not None:
                hint = f"End it first: shardwise rollout stop {name}."
                raise ConfigError(f"version {state.rollout['candidate']} of {name!r} is being rolled out", hint=hint)
            if champion is None:
                hint = f"Promote one: shardwise models promote {version.reference}."
                raise ConfigError(f"{name!r} has no champion to compare with", hint=hint)
            if champion == version.number:
                raise ConfigError(f"{version.reference} is the champion already", hint="Name another version.")
            return events.rollout_started({"id": token, "candidate": version.number, "champion": champion, "step": 0,
                                           "rules": dict(rules)})  # fmt: skip

        state = self.registry.commit(name, decide)
        return Rollout(**(state.rollout or {}))

    def move(self, name: str, rollout: Rollout, step: int, reason: str, evidence: Mapping[str, Any]) -> bool:
        """Go on to a step; False where another replica, or a person, was faster."""
        return self._decide(name, rollout, lambda: events.rollout_moved(step, reason, evidence))

    def end(self, name: str, rollout: Rollout, outcome: str, reason: str, evidence: Mapping[str, Any]) -> bool:
        """End it, `promoted` with the candidate as champion; False where another was faster.

        Raises `ConfigError` where a candidate that is to be promoted was deleted.
        """
        done = self._decide(name, rollout, lambda: events.rollout_ended(outcome, reason, evidence), outcome)
        if done:
            self.registry.shelf.remove_folder(f"{name}/{_FOLDER}/{rollout.id}")
        return done

    def override(self, name: str, outcome: str, reason: str) -> Version:
        """A person decides, whatever the evidence: promoted, rolled_back or stopped; the champion then."""
        rollout = self.running(name)
        if rollout is None:
            raise ConfigError(f"nothing of {name!r} is being rolled out", hint="Begin: shardwise rollout start NAME@3.")
        if not self.end(name, rollout, outcome, reason, {"by": "hand"}):
            raise ConfigError(f"the rollout of {name!r} has moved meanwhile", hint="Look at it, and decide again.")
        return self.registry.version(f"{name}@{CHAMPION}")

    def _decide(self, name: str, rollout: Rollout, make: Any, outcome: str = "") -> bool:
        mine: list[bool] = []

        def decide(state: NameState) -> events.Event | None:
            now = state.rollout
            mine[:] = [now is not None and (now["id"], now["step"]) == (rollout.id, rollout.step)]
            if mine[0] and outcome == PROMOTED:
                _check_there(state, f"{name}@{rollout.candidate}", rollout.candidate)
            event: events.Event | None = make() if mine[0] else None
            return event

        self.registry.commit(name, decide)
        return mine[0]

    # -- what replicas have seen --------------------------------------------------------------------------------------

    def put_tally(self, name: str, rollout: Rollout, replica: str, content: Mapping[str, Any]) -> None:
        """Replace what a replica tells of the present step."""
        place = f"{name}/{_FOLDER}/{rollout.id}/{rollout.step}/{replica}.json"
        self.registry.shelf.replace(place, json.dumps(content).encode())

    def tallies(self, name: str, rollout: Rollout) -> list[list[dict[str, Any]]]:
        """What all replicas tell, by step, up to the present one."""
        return [self._of_step(f"{name}/{_FOLDER}/{rollout.id}/{step}") for step in range(rollout.step + 1)]

    def _of_step(self, folder: str) -> list[dict[str, Any]]:
        found = []
        for replica in self.registry.shelf.names(folder):
            try:
                found.append(json.loads(self.registry.shelf.read(f"{folder}/{replica}")))
            except KeyError:
                continue  # the rollout has ended meanwhile
        return found


def _check_there(state: NameState, reference: str, number: int) -> None:
    if number not in state.versions:
        hint = "Register its package again, and begin a new rollout."
        raise ConfigError(f"{reference} was deleted", hint=hint)


def ended_rollouts(history: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of a name's history what tells of rollouts."""
    return [entry for entry in history if str(entry["event"]["kind"]).startswith("rollout_")]
