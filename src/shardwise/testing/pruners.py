"""The conformance kit of pruners. Subclass it, say how one is made, and pytest does the rest."""

import copy
from dataclasses import replace

import numpy as np

from shardwise.tune.pruners.base import Pruner
from shardwise.tune.trial import Trial

RUNGS = 4


def standing(many: int, rung: int = 0, *, family: str = "trees", seed: int = 0) -> list[Trial]:
    """Trials on a rung, the first one best, with curves that fall to their losses."""
    rng = np.random.default_rng(seed)
    steps = np.linspace(0.2, 1.5 * 3**rung, 12)
    trials = []
    for number in range(many):
        end = 1.0 + number
        curve = tuple((float(t), float(end + 2.0 / t + 1e-3 * rng.random())) for t in steps)
        losses = tuple(end + 2.0 / (1.5 * 3**r) for r in range(rung + 1))
        trials.append(
            Trial(number=number, family=family, params={}, losses=losses, curve=curve, cost_s=1.0, done=False)
        )
    return trials


class PrunerKit:
    """Laws of `Pruner`; a subclass overrides `pruner`."""

    def pruner(self) -> Pruner:
        raise NotImplementedError("the subclass gives a pruner")

    def test_decisions_are_pure(self) -> None:
        trials = standing(12)
        before = copy.deepcopy(trials)
        first = [self.pruner().should_stop(trial, trials) for trial in trials]
        one = self.pruner()
        assert [one.should_stop(trial, trials) for trial in reversed(trials)][::-1] == first
        assert trials == before

    def test_the_order_of_the_trials_does_not_matter(self) -> None:
        trials = standing(12)
        for trial in trials:
            assert self.pruner().should_stop(trial, trials) == self.pruner().should_stop(trial, trials[::-1])

    def test_the_best_goes_on_and_the_worst_does_not(self) -> None:
        trials = standing(12)
        assert not self.pruner().should_stop(trials[0], trials)
        assert self.pruner().should_stop(trials[-1], trials)

    def test_a_better_trial_never_stops_where_a_worse_one_goes_on(self) -> None:
        trials = standing(12)
        stops = [self.pruner().should_stop(trial, trials) for trial in trials]
        assert stops == sorted(stops)

    def test_what_failed_or_is_done_does_not_go_on(self) -> None:
        trials = standing(9)
        assert self.pruner().should_stop(replace(trials[0], losses=(float("nan"),)), trials)
        assert self.pruner().should_stop(replace(trials[0], done=True), trials)

    def test_failed_trials_are_survived(self) -> None:
        trials = standing(12)
        broken = [replace(trial, losses=(float("nan"),)) if trial.number % 3 == 2 else trial for trial in trials]
        assert not self.pruner().should_stop(broken[0], broken)

    def test_families_are_judged_among_themselves(self) -> None:
        trials = standing(12)
        others = [replace(trial, family="linear", losses=(0.001,)) for trial in standing(30)]
        alone = [self.pruner().should_stop(trial, trials) for trial in trials]
        assert [self.pruner().should_stop(trial, [*others, *trials]) for trial in trials] == alone

    def test_every_trial_begins_on_a_rung_that_is_there(self) -> None:
        for rungs in (1, 2, RUNGS):
            first = [self.pruner().first_rung(number, rungs) for number in range(40)]
            assert set(first) <= set(range(rungs))
