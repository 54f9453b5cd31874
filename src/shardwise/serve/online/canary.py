"""A rollout in a server: who is answered by the candidate, what both do, and the next step.

A caller belongs to the candidate's share by the hash of its key (header `x-rollout-key`), so that it stays there
while the share grows. In step 0, shadow, nobody is answered by it: a thread asks it the same rows. Each process
writes what it has seen to the registry, reads what all have seen, and judges (`monitor.canary`).
"""

import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xxhash

from shardwise.core.errors import ConfigError, ShardwiseError
from shardwise.monitor.canary import ADVANCE, FINISH, ROLL_BACK, Arm, Decision, RolloutRules, Tally, decide
from shardwise.monitor.concept import losses_of
from shardwise.monitor.windows import Reference
from shardwise.registry.rollouts import PASSED, PROMOTED, ROLLED_BACK, Rollout, Rollouts
from shardwise.serve.online.feedback import Labelled
from shardwise.serve.online.kept import size_of
from shardwise.serve.online.live import Models, RegistrySource, Served, Slot
from shardwise.serve.online.problems import Problem
from shardwise.serve.online.rows import Row, check_rows
from shardwise.serve.online.settings import ServeConfig
from shardwise.stats.sequential import Mean

KEY_HEADER = b"x-rollout-key"
_WAITING = 256  # requests that wait for the shadow; more are not copied
_WAITING_BYTES = 32_000_000  # of them: rows may have texts of a megabyte
_UNFIT, _FAILED = 422, 500  # a row that the version cannot read counts as a failure of the version
_PATIENCE_S = 10.0  # for the row that the shadow is at; then its thread is left to itself
Tell = Callable[..., None]


def share_of(key: str, rollout: str) -> float:
    """Where a key lies in [0, 1): the same in all processes, another for another rollout."""
    return xxhash.xxh3_64_intdigest(f"{rollout}\x1f{key}".encode()) / 2.0**64


@dataclass(slots=True)
class Turn:
    """A request that takes part: whose answer it gets."""

    canary: "Canary"
    is_candidate: bool

    def ended(self, status: int, seconds: float) -> None:
        self.canary.ended(self.is_candidate, status, seconds)


class Canary:
    """The step of a rollout in this process. Requests and labels are counted by the thread of the event loop; the
    thread that watches reads, and the shadow has a thread of its own."""

    def __init__(self, slot: Slot, candidate: Served, rollout: Rollout, config: ServeConfig, tell: Tell) -> None:
        self.slot, self.candidate, self.rollout = slot, candidate, rollout
        self._config, self._tell = config, tell
        self._told: set[str] = set()  # kinds of failures
        self.rules = RolloutRules.from_json(rollout.rules)
        self.replica = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.share = self.rules.steps[rollout.step]
        reference = Reference.of(slot.live.predictor.package)
        self._spread = 1.0 if reference is None else reference.spread  # one scale for both
        self._tally, self._lock = Tally(), threading.Lock()
        self._since_s = time.monotonic()
        self._shadow = _Shadow(self) if self.share == 0 else None
        self.decision: Decision | None = None  # the last one, about what all replicas have seen

    def stop(self) -> None:
        if self._shadow is not None:
            self._shadow.stop()

    # -- what requests call --------------------------------------------------------------------------------------------

    def turn(self, key: str) -> Turn:
        return Turn(self, share_of(key, self.rollout.id) < self.share)

    def ended(self, is_candidate: bool, status: int, seconds: float) -> None:
        failed = status == _UNFIT or status >= _FAILED
        with self._lock:
            arm = self._tally.candidate if is_candidate else self._tally.champion
            _count(arm, failed, seconds)

    def answered(self, rows: Sequence[Row], scores: np.ndarray) -> None:
        """The champion's answer, which the shadow repeats."""
        if self._shadow is not None:
            self._shadow.put(rows, scores)

    def repeat(self, rows: Sequence[Row], scores: np.ndarray) -> None:
        """Ask the candidate what the champion has answered; for the thread of the shadow."""
        other = self._asked(self.candidate, rows)
        with self._lock:
            arm = self._tally.candidate
            arm.requests.trials += 1
            arm.requests.failures += other is None
            if other is not None and other.shape == scores.shape:
                self._tally.apart.add(np.abs(other - scores).reshape(len(scores), -1).max(axis=1))

    def others(self, labelled: Sequence[Labelled]) -> list[np.ndarray | None]:
        """What the one of the two that has not answered rows says to them; None where it cannot. May take long."""
        found: list[np.ndarray | None] = [None] * len(labelled)
        if self.candidate.predictor.target.classes != self.slot.live.predictor.target.classes:
            hint = "Roll it out with --quality arms, which compares each with its own labels."
            self._failed(self.candidate, ConfigError("it has other classes than the champion", hint=hint))
            return found
        for mine, other in ((True, self.slot.live), (False, self.candidate)):
            places = [place for place, each in enumerate(labelled) if self._is_mine(each) == mine]
            for place, scores in zip(places, self._each(other, [labelled[place] for place in places]), strict=True):
                found[place] = scores
        return found

    def _is_mine(self, labelled: Labelled) -> bool | None:
        """Whether the candidate has answered; None: neither of the two."""
        known = {self.slot.live.identity: False, self.candidate.identity: True}
        return known.get(labelled.served.identity)

    def _each(self, other: Served, labelled: Sequence[Labelled]) -> list[np.ndarray | None]:
        """All together, which is cheaper by far; where that fails in halves, so that one row spoils its own alone."""
        if not labelled:
            return []
        scores = self._asked(other, [row for each in labelled for row in each.rows])
        if scores is not None:
            return list(np.split(scores, np.cumsum([len(each.rows) for each in labelled])[:-1]))
        middle = len(labelled) // 2
        return [None] if not middle else self._each(other, labelled[:middle]) + self._each(other, labelled[middle:])

    def label(self, labelled: Sequence[Labelled], others: Sequence[np.ndarray | None]) -> None:
        """Count labels of rows; `others` as the method of this name gives them."""
        for mine, arm in ((True, self._tally.candidate), (False, self._tally.champion)):
            own = [(each, other) for each, other in zip(labelled, others, strict=True) if self._is_mine(each) == mine]
            pairs = [(each, other) for each, other in own if other is not None]
            losses = self._losses([(each, each.scores) for each, _ in own])
            apart = self._losses([(each, each.scores) for each, _ in pairs]) - self._losses(pairs)
            with self._lock:
                arm.loss.add(losses)
                self._tally.paired.add(apart if mine else -apart)

    def _asked(self, served: Served, rows: Sequence[Row]) -> np.ndarray | None:
        """What a version answers to rows that the other one was asked; None where a request would be refused or fail.

        Whatever it raises: a candidate that breaks is what a rollout is there to find.
        """
        try:
            check_rows(rows, served, self._config)
            return served.predictor.computed(rows)
        except Exception as error:
            self._failed(served, error)
            return None

    def _failed(self, served: Served, error: Exception) -> None:
        """Tell the first failure of each kind; all are counted."""
        kind = error.code if isinstance(error, Problem) else type(error).__name__
        if kind in self._told:
            return
        self._told.add(kind)
        what = str(error) if isinstance(error, Problem | ShardwiseError) else repr(error)
        self._tell("rollout_unanswered", model=served.name, version=served.version, kind=kind, error=what)

    def _losses(self, parts: Sequence[tuple[Labelled, np.ndarray]]) -> np.ndarray:
        """Of labels with these scores, which may be those of the other version."""
        if not parts:
            return np.empty(0)
        y, scores = np.concatenate([each.y for each, _ in parts]), np.concatenate([found for _, found in parts])
        return losses_of(parts[0][0].served.predictor.target, y, scores, self._spread)

    # -- what the thread that watches calls ----------------------------------------------------------------------------

    def tally(self) -> dict[str, Any]:
        with self._lock:
            self._tally.seconds = time.monotonic() - self._since_s
            return self._tally.to_json()


def _count(arm: Arm, failed: bool, seconds: float) -> None:
    arm.requests.trials += 1
    arm.requests.failures += failed
    if not failed:
        arm.log_s.merge(Mean(1.0, float(np.log(max(seconds, 1e-9)))))


class _Shadow:
    """Asks the candidate what the champion was asked; what does not fit the queue is left out."""

    def __init__(self, canary: Canary) -> None:
        self._canary = canary
        self._bytes = 0  # of rows that wait, about; changed by both threads
        self._lock = threading.Lock()
        self._queue: queue.Queue[tuple[Sequence[Row], np.ndarray] | None] = queue.Queue(_WAITING)
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
        self._thread.start()

    def put(self, rows: Sequence[Row], scores: np.ndarray) -> None:
        size = size_of(rows)
        if self._bytes + size > _WAITING_BYTES:
            return
        with suppress(queue.Full):
            self._queue.put_nowait((rows, scores))
            self._count(size)

    def _count(self, size: int) -> None:
        with self._lock:
            self._bytes += size

    def stop(self) -> None:
        """What waits is left out. Nobody waits for ever, also where a candidate stands still."""
        self._ended = True
        with suppress(queue.Full):  # then the thread has something to take, and sees the end
            self._queue.put_nowait(None)
        self._thread.join(_PATIENCE_S)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None and not self._ended:
            self._count(-size_of(item[0]))
            self._canary.repeat(*item)


Compared = tuple[Labelled, Canary | None, np.ndarray | None]  # the rollout that goes on, and the other one's scores


class Canaries:
    """The rollouts of all names that a server serves from a registry."""

    def __init__(self, models: Models, config: ServeConfig, tell: Tell = lambda *_, **__: None) -> None:
        self._models, self._config, self._tell = models, config, tell
        self.running: dict[str, Canary] = {}

    def turn(self, served: Served, key: str) -> tuple[Served, Turn | None]:
        """Who answers a request that asked for no version."""
        canary = self.running.get(served.name)
        if canary is None or served is not canary.slot.live:
            return served, None
        turn = canary.turn(key)
        return (canary.candidate if turn.is_candidate else served), turn

    def compared(self, labelled: Sequence[Labelled]) -> list[Compared]:
        """Labelled rows beside what the other version says to them, before any of them counts. May take long."""
        names = {each.served.name for each in labelled}
        running = {name: canary for name, canary in list(self.running.items()) if name in names}
        found: dict[int, tuple[Canary, np.ndarray | None]] = {}
        for name, canary in running.items():
            places = [place for place, each in enumerate(labelled) if each.served.name == name]
            others = canary.others([labelled[place] for place in places])
            found |= {place: (canary, other) for place, other in zip(places, others, strict=True)}
        return [(each, *found.get(place, (None, None))) for place, each in enumerate(labelled)]

    def label(self, compared: Sequence[Compared]) -> None:
        """Count labels in rollouts that still go on."""
        for canary in list(self.running.values()):
            mine = [(each, other) for each, own, other in compared
                    if own is not None and own.rollout.id == canary.rollout.id]  # fmt: skip
            canary.label([each for each, _ in mine], [other for _, other in mine])

    def stop(self) -> None:
        for canary in self.running.values():
            canary.stop()

    def look(self) -> None:
        """One round: follow the registry, tell it what was seen, judge."""
        for slot in self._models.slots:
            if isinstance(slot.source, RegistrySource):
                try:
                    self._follow(slot, slot.source)
                except Exception as error:  # a store can raise anything; the champion goes on
                    self._tell("rollout_failed", model=slot.name, error=str(error))

    def _follow(self, slot: Slot, source: RegistrySource) -> None:
        rollouts = Rollouts(source.registry)
        rollout = rollouts.running(source.name)
        canary = self.running.get(source.name)
        if canary is not None and canary.rollout != rollout:
            del self.running[source.name]
            if rollout is None or rollout.id != canary.rollout.id:
                del self._models.beside[source.name]
            canary.stop()
            self._tell("rollout_left", model=source.name, version=canary.candidate.version, step=canary.rollout.step)
        if rollout is None or slot.live.version != str(rollout.champion):
            if source.name not in self.running:
                self._models.beside.pop(source.name, None)
            return
        if source.name not in self.running:
            self._begin(slot, source, rollout, canary)
            return
        self._judge(self.running[source.name], rollouts)

    def _begin(self, slot: Slot, source: RegistrySource, rollout: Rollout, before: Canary | None) -> None:
        """Load the candidate, or take over the one of the step before."""
        if before is not None and before.rollout.id == rollout.id:
            candidate = before.candidate
        else:
            version = source.registry.version(f"{source.name}@{rollout.candidate}")
            candidate = slot.loaded(source.registry.load(version), str(version.number))
        canary = Canary(slot, candidate, rollout, self._config, self._tell)
        self._models.beside[source.name] = candidate
        self.running[source.name] = canary
        self._tell("rollout_step", model=source.name, version=candidate.version, step=rollout.step, share=canary.share)

    def _judge(self, canary: Canary, rollouts: Rollouts) -> None:
        name, rollout = canary.slot.name, canary.rollout
        rollouts.put_tally(name, rollout, canary.replica, canary.tally())
        tallies = []
        for told in rollouts.tallies(name, rollout):
            together = Tally()
            for content in told:
                together.merge(Tally.from_json(content))
            tallies.append(together)
        decision = canary.decision = decide(canary.rules, tallies)
        if decision.action == ADVANCE:
            done = rollouts.move(name, rollout, rollout.step + 1, decision.reason, decision.evidence)
        elif decision.action in (FINISH, ROLL_BACK):
            good = PROMOTED if canary.rules.promote else PASSED
            outcome = ROLLED_BACK if decision.action == ROLL_BACK else good
            done = rollouts.end(name, rollout, outcome, decision.reason, decision.evidence)
        else:
            return
        if done:
            self._tell("rollout_decided", model=name, version=canary.candidate.version, action=decision.action,
                       reason=decision.reason, evidence=decision.evidence)  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """What goes on now, for people and pages."""
        return {"rollouts": [
            {"name": name, "id": canary.rollout.id, "champion": canary.slot.live.version,
             "candidate": canary.candidate.version, "step": canary.rollout.step, "share": canary.share,
             "rules": canary.rules.to_json(), "seen": canary.tally(),
             "decision": None if canary.decision is None else asdict(canary.decision)}
            for name, canary in list(self.running.items())
        ]}  # fmt: skip
