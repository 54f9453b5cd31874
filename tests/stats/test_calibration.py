"""Calibration errors: near 0 where probabilities are right, found where they are not, rarely found where they are."""

import numpy as np
import pytest

from shardwise.core.target import Target, Task
from shardwise.stats.calibration import compare_calibration, residuals
from shardwise.stats.metrics import Pairs

BINARY = Target(column="y", task=Task.BINARY, classes=(0, 1))


def pairs(rng, rows, power=1.0):
    p = rng.beta(2.0, 2.0, rows)
    y = (rng.random(rows) < p).astype(float)
    odds = (p / (1 - p)) ** power
    return Pairs(y, p, np.ones(rows)), Pairs(y, odds / (1 + odds), np.ones(rows))


def test_a_model_that_exaggerates_is_found():
    found = compare_calibration(BINARY, *pairs(np.random.default_rng(0), 4000, power=3.0), allowed=0.02)
    assert found.champion < 0.02
    assert found.challenger > 0.1
    assert found.p_worse < 1e-6


def test_a_model_as_good_is_rarely_called_worse():
    tails = [compare_calibration(BINARY, *pairs(np.random.default_rng(seed), 500, power=1.0), allowed=0.0).p_worse
             for seed in range(60)]  # fmt: skip
    assert np.mean(np.array(tails) < 0.025) <= 0.06


def test_the_error_is_the_debiased_one_of_the_bins():
    champion, challenger = pairs(np.random.default_rng(1), 3000, power=2.0)
    p, r = challenger.prediction, challenger.y - challenger.prediction
    codes = np.searchsorted(np.quantile(p, np.arange(1, 10) / 10), p, side="right")
    squares = [np.mean(codes == k) * (r[codes == k].mean() ** 2 - r[codes == k].var() / ((codes == k).sum() - 1))
               for k in range(10)]  # fmt: skip
    found = compare_calibration(BINARY, champion, challenger, allowed=0.0)
    assert found.challenger == pytest.approx(np.sqrt(sum(squares)))


def test_rows_of_a_group_are_resampled_together():
    rng = np.random.default_rng(2)
    champion, challenger = pairs(rng, 300, power=1.5)
    many = [Pairs(*(np.repeat(part, 8) for part in (p.y, p.prediction, p.weight))) for p in (champion, challenger)]
    units = np.repeat(np.arange(300), 8)
    alone = compare_calibration(BINARY, *many, allowed=0.0).p_worse
    assert compare_calibration(BINARY, *many, allowed=0.0, units=units).p_worse > alone


@pytest.mark.parametrize("groups", [2, 3])
def test_of_few_groups_nothing_is_certain(groups):
    """Some resamples draw none of them."""
    champion, challenger = pairs(np.random.default_rng(3), 300, power=1.5)
    found = compare_calibration(BINARY, champion, challenger, allowed=0.0, units=np.arange(300) % groups)
    assert 0.0 < found.p_worse < 1.0


@pytest.mark.parametrize(
    ("task", "prediction", "expected"),
    [
        (Task.MULTICLASS, [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]], [0.3, -0.6]),
        (Task.QUANTILE, [5.0, -1.0], [0.5, -0.5]),
        (Task.REGRESSION, [1.0, 1.0], [-1.0, 1.0]),
    ],
)
def test_residuals_by_task(task, prediction, expected):
    target = Target(column="y", task=task, classes=("a", "b", "c") if task is Task.MULTICLASS else ())
    y = np.array([0.0, 2.0])
    assert residuals(target, Pairs(y, np.array(prediction), np.ones(2)))[1] == pytest.approx(expected)
