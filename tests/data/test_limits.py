"""No row carries more than its share of squared errors, and usual data is left as it is."""

import numpy as np
import pytest

from shardwise.data.limits import LEAST_ROWS, MOST_SHARE, Limit, limit_of


def shares(y: np.ndarray, limit: Limit) -> np.ndarray:
    squares = limit.weight(y) * np.square(y - limit.center)
    return squares / squares.sum()


@pytest.mark.parametrize("extremes", [[9e4], [-9e4, 9e4, 300.0], [5e3] * 9])
def test_rows_that_carry_too_much_are_limited_and_no_others(extremes: list[float]) -> None:
    y = np.concatenate([np.random.default_rng(0).normal(10.0, 3.0, 2000), extremes])
    limit = limit_of(y)
    assert limit is not None
    found = shares(y, limit)
    assert found.max() == pytest.approx(MOST_SHARE, rel=1e-3)
    assert (limit.weight(y)[:2000] == 1.0).all()
    assert (limit.weight(y) < 1.0).sum() == sum(abs(each) > 100 for each in extremes)


@pytest.mark.parametrize("draw", ["normal", "exponential", "uniform", "laplace"])
def test_usual_targets_have_no_limit(draw: str) -> None:
    assert limit_of(getattr(np.random.default_rng(1), draw)(size=5000)) is None


def test_rare_events_constants_and_few_rows_are_left_alone() -> None:
    y = np.zeros(5000)
    assert limit_of(y) is None
    y[:5] = 100.0  # all there is to learn
    assert limit_of(y) is None
    few = np.append(np.random.default_rng(2).normal(size=LEAST_ROWS - 2), 1e6)
    assert limit_of(few) is None
    assert limit_of(np.append(few, 0.0)) is not None


def test_rows_without_weight_do_not_count() -> None:
    y = np.append(np.random.default_rng(3).normal(size=1000), 1e6)
    weight = np.ones(1001)
    assert limit_of(y, weight) is not None
    weight[-1] = 0.0
    assert limit_of(y, weight) is None
