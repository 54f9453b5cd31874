import math
from dataclasses import replace

import pytest

from shardwise.core.errors import ConfigError
from shardwise.testing.pruners import PrunerKit, standing
from shardwise.tune.pruners import PRUNERS, Pruner, make_pruner
from shardwise.tune.pruners.curves import CurvePruner, MedianPruner, extrapolated
from shardwise.tune.pruners.halving import ASHAPruner, HyperbandPruner
from shardwise.tune.trial import Trial


class TestASHA(PrunerKit):
    def pruner(self) -> Pruner:
        return ASHAPruner()


class TestHyperband(PrunerKit):
    def pruner(self) -> Pruner:
        return HyperbandPruner()


class TestMedian(PrunerKit):
    def pruner(self) -> Pruner:
        return MedianPruner()


class TestCurve(PrunerKit):
    def pruner(self) -> Pruner:
        return CurvePruner()


@pytest.mark.parametrize("many", [1, 2, 3, 9, 10, 11, 30])
def test_a_third_of_the_trials_on_a_rung_goes_on(many: int) -> None:
    trials = standing(many)
    going = [trial.number for trial in trials if not ASHAPruner().should_stop(trial, trials)]
    assert going == list(range(many // 3))


@pytest.mark.parametrize("many", [1, 2, 5, 12])
def test_half_of_the_trials_goes_on_from_the_lowest_rung_of_partitions_and_a_third_from_the_next(many: int) -> None:
    pruner = make_pruner("asha", "partitions")
    for rung, eta in ((0, 2), (1, 3)):
        trials = standing(many, rung)
        assert [trial.number for trial in trials if not pruner.should_stop(trial, trials)] == list(range(many // eta))


def test_hyperband_gives_low_rungs_more_trials_and_judges_brackets_apart() -> None:
    first = [HyperbandPruner().first_rung(number, 4) for number in range(1000)]
    counts = [first.count(rung) for rung in range(4)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] > 0
    low, high = standing(9), standing(9, rung=1)
    high = [  # they began on rung 1
        type(trial)(**{**trial.__dict__, "number": 50 + trial.number, "losses": (math.nan, trial.losses[1])})
        for trial in high
    ]
    assert not HyperbandPruner().should_stop(high[0], [*low, *high])
    assert HyperbandPruner().should_stop(high[8], [*low, *high])


def test_the_median_waits_for_some_trials() -> None:
    few = standing(3)
    assert not any(MedianPruner().should_stop(trial, few) for trial in few)
    many = standing(11)
    assert [MedianPruner().should_stop(trial, many) for trial in many] == [False] * 6 + [True] * 5


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_a_power_law_is_followed_to_where_it_leads(power: float) -> None:
    curve = [(float(t), 0.2 + 0.7 * t**-power) for t in range(1, 30)]
    reached, error = extrapolated(curve, 200.0)
    assert reached == pytest.approx(0.2 + 0.7 * 200**-power, abs=1e-6)
    assert error < 1e-6
    flat, _ = extrapolated([(float(t), 0.4) for t in range(1, 20)], 100.0)
    assert flat == pytest.approx(0.4)


def test_a_course_that_is_not_finite_tells_nothing() -> None:
    best, *others = standing(4)
    wild = replace(others[-1], curve=tuple((float(t), math.inf if t > 2 else 9.0) for t in range(1, 12)))
    assert not CurvePruner().should_stop(wild, [best, *others[:-1], wild])


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'ahsa'.*'asha'"):
        make_pruner("ahsa")
    assert not make_pruner("none").prunes
    assert set(PRUNERS) == {"none", "asha", "hyperband", "median", "curve"}


def test_a_curve_is_compared_with_curves_and_not_with_scores() -> None:
    """The metric may be of another scale than the loss of the training, such as a roc_auc turned."""

    def trial(number: int, score: float, lowest: float) -> Trial:
        curve = tuple((float(step), lowest + 1.0 / step) for step in range(1, 31))
        return Trial(number=number, family="trees", params={}, losses=(-score,), curve=curve, done=False)

    known, better, worse = trial(0, 0.9, 0.3), trial(1, 0.8, 0.2), trial(2, 0.8, 0.8)
    assert not CurvePruner().should_stop(better, [known, better])
    assert CurvePruner().should_stop(worse, [known, worse])
