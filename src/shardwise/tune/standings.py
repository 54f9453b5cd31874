"""Who stands on which rung of a search, kept as results come in: whom to ask the pruner about, and who may go on."""

from bisect import insort
from collections.abc import Collection, Hashable
from dataclasses import dataclass, field

from shardwise.tune.pruners import Pruner
from shardwise.tune.trial import Trial

Place = tuple[float, int]
"""(loss, number): a smaller one is asked about first."""


@dataclass
class _Rung:
    """Trials that are compared with each other: all that have `reached` the rung, and places of those that `rest`."""

    reached: list[Trial] = field(default_factory=list)
    rest: list[Place] = field(default_factory=list)
    asked: tuple[int, int] = (0, -1)  # how many had come when the pruner was asked last, and about whom
    stays: bool = False


class Standings:
    """The trials of a search on rungs.

    Where a pruner compares rivals by their losses alone, it is asked about the best of them that rests, and again only
    when another one has come to the rung: so a decision takes no longer than a look at the trials of one rung.
    """

    def __init__(self, pruner: Pruner) -> None:
        self._pruner = pruner
        self._rungs: dict[tuple[int, Hashable], _Rung] = {}
        self._trials: dict[int, Trial] = {}  # the latest that is known of each
        self._all: tuple[Trial, ...] = ()
        self._came = 0

    def add(self, trial: Trial) -> None:
        """The trial has reached its rung; it rests there, unless it is done."""
        before = self._trials.get(trial.number)
        if before is not None and _rests(before):
            self._rungs[self._key(before)].rest.remove((before.loss, before.number))
            if self._pruner.rivals(before) is None:
                del self._rungs[self._key(before)]
        self._trials[trial.number] = trial
        self._came += 1
        self._all = ()
        rung = self._rungs.setdefault(self._key(trial), _Rung())
        rung.reached.append(trial)
        if _rests(trial):
            insort(rung.rest, (trial.loss, trial.number))

    def first(self, under_way: Collection[int]) -> Trial | None:
        """The trial that goes on next, from the highest rung first, then the best; none of those `under_way`."""
        waiting = []
        for (number, rivals), rung in self._rungs.items():
            best = next((place for place in rung.rest if place[1] not in under_way), None)
            if best is not None:
                waiting.append((-number, *best, rivals))
        for number, _, trial, rivals in sorted(waiting, key=lambda each: each[:3]):
            if not self._stays(self._trials[trial], self._rungs[-number, rivals]):
                return self._trials[trial]
        return None

    def _key(self, trial: Trial) -> tuple[int, Hashable]:
        rivals = self._pruner.rivals(trial)
        return trial.rung, rivals if rivals is not None else (None, trial.number)

    def _stays(self, trial: Trial, rung: _Rung) -> bool:
        alone = self._pruner.rivals(trial) is None
        now = (self._came if alone else len(rung.reached), trial.number)
        if rung.asked != now:
            rung.asked, rung.stays = now, self._pruner.should_stop(trial, self._known() if alone else rung.reached)
        return rung.stays

    def _known(self) -> tuple[Trial, ...]:
        self._all = self._all or tuple(self._trials.values())
        return self._all


def _rests(trial: Trial) -> bool:
    return not trial.done and not trial.failed
