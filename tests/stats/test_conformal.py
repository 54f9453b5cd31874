"""Intervals and sets hold the truth as often as they say: against the plain ranks, and by counting."""

import numpy as np
import pytest

from shardwise.core.errors import ConfigError
from shardwise.core.state import dump_state, load_state
from shardwise.core.target import Target, Task
from shardwise.stats.conformal import MOST_SCORES, Conformal, held_by_part

NUMBERS = Target(column="y", task=Task.REGRESSION)
COUNTS = Target(column="y", task=Task.COUNT)
CLASSES = Target(column="y", task=Task.MULTICLASS, classes=("a", "b", "c"))


def numbers(rows: int, seed: int = 0, *, fan: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, predictions and parts; with `fan` the error grows with the prediction."""
    rng = np.random.default_rng(seed)
    prediction = rng.uniform(1, 10, rows)
    error = rng.gamma(2.0, 1.0, rows) - 2.0
    return prediction + (prediction if fan else 1.0) * error, prediction, np.arange(rows) % 5


def classes(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet([1.0, 1.0, 1.0], rows)
    y = (probabilities.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1).clip(0, 2).astype(np.float64)
    return y, probabilities, np.arange(rows) % 5


def test_ends_are_the_ranks_of_the_formula():
    y, prediction, parts = numbers(99)
    fitted = Conformal.fit(NUMBERS, y, prediction, parts)
    errors = np.sort(y - prediction)
    low, high = fitted.interval(np.array([5.0, 7.0]), 0.9)
    np.testing.assert_array_equal(low, np.array([5.0, 7.0]) + errors[5 - 1])  # floor(100 * 0.05) = 5
    np.testing.assert_array_equal(high, np.array([5.0, 7.0]) + errors[95 - 1])
    y, probabilities, parts = classes(99)
    own = np.sort(1 - probabilities[np.arange(99), y.astype(int)])
    expected = 1 - probabilities <= own[90 - 1]
    np.testing.assert_array_equal(Conformal.fit(CLASSES, y, probabilities, parts).sets(probabilities, 0.9), expected)


@pytest.mark.parametrize("rows", [40, 200, 5000])
@pytest.mark.parametrize("level", [0.8, 0.9])
def test_coverage_is_what_was_asked_for(rows, level):
    """Over many fits, as each one's own coverage varies with its rows."""
    for target, draw in ((NUMBERS, numbers), (CLASSES, classes)):
        held = []
        for seed in range(60):
            fitted = Conformal.fit(target, *draw(rows, seed))
            y, prediction, _ = draw(2000, seed + 1000)
            held.append(fitted.holds(y, prediction, level).mean())
        error = np.std(held) / np.sqrt(len(held))
        assert level - 3 * error <= np.mean(held) <= level + 2 / rows + 3 * error


def test_widths_follow_the_prediction_where_errors_do_and_only_there():
    y, prediction, parts = numbers(3000, fan=True)
    fitted = Conformal.fit(NUMBERS, y, prediction, parts)
    low, high = fitted.interval(np.array([2.0, 8.0]), 0.9)
    assert 3 < (high - low)[1] / (high - low)[0] < 5
    y, prediction, _ = numbers(20_000, seed=1, fan=True)
    for near in (prediction < 3, prediction > 8):
        assert fitted.holds(y, prediction, 0.9)[near].mean() == pytest.approx(0.9, abs=0.03)
    even = Conformal.fit(NUMBERS, *numbers(3000)).interval(np.array([2.0, 8.0]), 0.9)
    assert np.ptp(even[1] - even[0]) < 1e-12


def test_counts_never_end_below_zero():
    y, prediction, parts = numbers(500)
    low, high = Conformal.fit(COUNTS, y, prediction, parts).interval(np.array([0.1, 3.0]), 0.9)
    assert low[0] == 0.0
    assert (high > low).all()


def test_few_scores_are_kept_and_they_lose_nothing_to_speak_of():
    y, prediction, parts = numbers(100_000)
    fitted = Conformal.fit(NUMBERS, y, prediction, parts)
    state = load_state(dump_state(fitted.state()))
    assert len(state["scores"]) <= MOST_SCORES
    assert fitted.holds(y, prediction, 0.9).mean() == pytest.approx(0.9, abs=0.002)
    assert fitted.holds(y, prediction, 0.999).mean() == pytest.approx(0.999, abs=1e-4)
    again = Conformal.from_state(NUMBERS, state)
    for mine, theirs in zip(fitted.interval(prediction, 0.95), again.interval(prediction, 0.95), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_level_that_cannot_be_promised_is_refused():
    fitted = Conformal.fit(NUMBERS, *numbers(50))
    with pytest.raises(ConfigError, match="50 rows") as error:
        fitted.interval(np.zeros(1), 0.99)
    assert "At most 0.9607" in error.value.hint
    fitted.interval(np.zeros(1), 0.9607)
    with pytest.raises(ConfigError, match="outside"):
        fitted.interval(np.zeros(1), 90.0)
    assert Conformal.fit(NUMBERS, *numbers(10)) is None


def test_parts_tell_how_far_coverage_is_off_when_rows_are_not_exchangeable():
    y, prediction, parts = numbers(5000)
    assert all(abs(held - 0.9) < 0.03 for held in held_by_part(NUMBERS, y, prediction, parts, level=0.9).values())
    drifting = y + 2.0 * (parts == 4)
    held = held_by_part(NUMBERS, drifting, prediction, parts, level=0.9, ahead=True)
    assert sorted(held) == [1, 2, 3, 4]
    assert held[4] < 0.8 < 0.87 < held[3]
