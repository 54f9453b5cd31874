"""Whom the pruner is asked about: few trials, and with the answers that asking about all of them gives."""

import math
import random
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tests.tune.asking import ask_and_tell
from tests.tune.test_study import found, study

from shardwise.tune.pruners import PRUNERS, Pruner, curves, make_pruner
from shardwise.tune.pruners.halving import ASHAPruner
from shardwise.tune.standings import Standings
from shardwise.tune.trial import Trial

RUNGS = 4
PRUNING = sorted(set(PRUNERS) - {"none"})


def among_all(pruner: Pruner, trials: Mapping[int, Trial], under_way: Collection[int]) -> Trial | None:
    """By the rule itself: from the highest rung first, then the best, whoever need not stop."""
    known = list(trials.values())
    paused = [trial for trial in known if not trial.done and trial.number not in under_way]
    for trial in sorted(paused, key=lambda trial: (-trial.rung, trial.loss, trial.number)):
        if not pruner.should_stop(trial, known):
            return trial
    return None


def climbed(trial: Trial | None, number: int, rng: random.Random) -> Trial:
    """A trial after its next rung: losses are often equal, and sometimes none at all."""
    first = rng.choice((0, 0, 0, 1))
    before = (math.nan,) * first if trial is None else trial.losses
    loss = rng.choice((math.nan, math.inf, *(round(rng.random(), 1) for _ in range(8))))
    losses = (*before, loss)
    curve = tuple(
        (float(t), rng.choice((math.inf, *[rng.random() + loss / t] * 9))) for t in range(1, rng.randrange(20))
    )
    done = math.isnan(loss) or len(losses) == RUNGS or rng.random() < 0.1
    family = trial.family if trial is not None else rng.choice(("trees", "linear"))
    return Trial(number=number, family=family, params={}, losses=losses, curve=curve, done=done)


@pytest.mark.parametrize("rungs", ["rounds", "partitions"])
@pytest.mark.parametrize("name", PRUNING)
def test_who_goes_on_is_who_would_be_if_all_were_asked_about(name: str, rungs: str) -> None:
    told = Counter[bool]()
    for seed in range(30):
        rng = random.Random(seed)
        pruner, trials = make_pruner(name, rungs), dict[int, Trial]()
        standings = Standings(pruner)
        for _ in range(60):
            resting = [number for number, trial in trials.items() if not trial.done and not trial.failed]
            number = rng.choice(resting) if resting and rng.random() < 0.4 else len(trials)
            trials[number] = climbed(trials.get(number), number, rng)
            standings.add(trials[number])
            for under_way in (set(), set(rng.sample(sorted(trials), min(3, len(trials))))):
                first = standings.first(under_way)
                assert first == among_all(pruner, trials, under_way)
                told[first is None] += 1
    assert min(told[True], told[False]) > 100


@dataclass(frozen=True)
class Counting:
    """A pruner that counts what it is asked."""

    inner: Pruner
    asked: list[tuple[int, int]] = field(default_factory=list)  # (trial, among how many)

    @property
    def prunes(self) -> bool:
        return self.inner.prunes

    def should_stop(self, trial: Trial, trials: Sequence[Trial]) -> bool:
        self.asked.append((trial.number, len(trials)))
        return self.inner.should_stop(trial, trials)

    def rivals(self, trial: Trial) -> Hashable | None:
        return self.inner.rivals(trial)

    def first_rung(self, number: int, rungs: int) -> int:
        return self.inner.first_rung(number, rungs)


@pytest.mark.parametrize("name", ["asha", "hyperband", "median"])
def test_a_step_asks_about_a_few_trials_however_many_there_are(name: str) -> None:
    counting = Counting(make_pruner(name))
    steps = ask_and_tell(study(pruner=counting, limit=150), 1, found)
    assert len(counting.asked) <= 3 * len(steps)


def test_nobody_is_asked_about_again_before_a_rival_has_come() -> None:
    counting = Counting(ASHAPruner())
    standings = Standings(counting)
    trial = Trial(number=0, family="trees", params={}, losses=(0.5,), done=False)
    standings.add(trial)
    assert [standings.first(()), standings.first(())] == [None, None]
    assert counting.asked == [(0, 1)]
    standings.add(replace(trial, number=1, family="linear"))
    standings.first(())
    assert counting.asked == [(0, 1), (1, 1)]


def test_a_curve_is_followed_once_however_often_it_is_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(curve: Any, step: float) -> tuple[float, float]:
        calls.append(step)
        return 9.0, 0.0

    monkeypatch.setattr(curves, "extrapolated", counted)
    standings = Standings(make_pruner("curve"))
    for number in range(20):
        curve = tuple((float(t), 1.0 + number) for t in range(1, 9))
        standings.add(Trial(number=number, family="trees", params={}, losses=(1.0 + number,), curve=curve, done=False))
        standings.first(())
    assert len(calls) == 20
