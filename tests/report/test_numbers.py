import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

from shardwise.report import numbers

SEEDS = st.integers(0, 2**32 - 1)


def scored(seed: int, rows: int = 300, values: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores with many ties."""
    draw = np.random.default_rng(seed)
    positive = draw.integers(0, 2, rows).astype(float)
    positive[:2] = 0.0, 1.0
    return positive, np.round((positive * 0.3 + draw.random(rows)) / 1.3 * values) / values


@given(SEEDS)
def test_areas_are_those_of_sklearn(seed: int) -> None:
    positive, score = scored(seed)
    assert numbers.roc(positive, score)[2] == pytest.approx(roc_auc_score(positive, score))
    assert numbers.precision_recall(positive, score)[2] == pytest.approx(average_precision_score(positive, score))


@given(SEEDS, st.integers(2, 500), st.integers(2, 50))
def test_thinning_keeps_ends_order_and_bound(seed: int, rows: int, most: int) -> None:
    x = np.sort(np.random.default_rng(seed).normal(size=rows))
    y = np.cumsum(np.random.default_rng(seed + 1).normal(size=rows))
    kept_x, kept_y = numbers.thin(x, y, most)
    assert len(kept_x) <= max(most, 2)
    assert (kept_x[0], kept_x[-1], kept_y[0], kept_y[-1]) == (x[0], x[-1], y[0], y[-1])
    assert set(zip(kept_x, kept_y, strict=True)) <= set(zip(x, y, strict=True))
    assert (np.diff(kept_x) >= 0).all()


@given(SEEDS)
def test_calibration_counts_every_row_once(seed: int) -> None:
    positive, score = scored(seed)
    table = numbers.calibration(positive, score)
    assert table.rows.sum() == len(positive)
    assert np.sum(table.actual * table.rows) == pytest.approx(positive.sum())
    assert np.sum(table.predicted * table.rows) == pytest.approx(score.sum())
    assert (np.diff(table.predicted) > 0).all()
    assert ((table.low <= table.actual) & (table.actual <= table.high)).all()


def test_equal_predictions_are_one_bin() -> None:
    table = numbers.deciles(np.arange(10.0), np.full(10, 3.0))
    assert table.rows.tolist() == [10]
    assert table.actual.tolist() == [4.5]
    assert table.error.tolist() == [np.abs(np.arange(10) - 3).mean()]


@given(SEEDS, st.integers(2, 6))
def test_confusion_is_that_of_sklearn(seed: int, classes: int) -> None:
    y, predicted = np.random.default_rng(seed).integers(0, classes, (2, 100))
    expected = confusion_matrix(y, predicted, labels=range(classes))
    np.testing.assert_array_equal(numbers.confusion(y, predicted, classes), expected)


@given(SEEDS)
def test_acting_on_all_rows_finds_all_without_lift(seed: int) -> None:
    positive, score = scored(seed)
    half, whole = numbers.gains(positive, score, (0.5, 1.0))
    assert whole["recall"] == 1.0
    assert whole["lift"] == pytest.approx(1.0)
    assert whole["precision"] == pytest.approx(positive.mean())
    assert half["recall"] <= 1.0


def test_the_surest_rows_are_the_rightest_when_confidence_is_right() -> None:
    confidence = np.linspace(0, 1, 100)
    rows = numbers.surest(confidence, confidence > 0.5, (0.1, 0.5, 1.0))
    assert [row["accuracy"] for row in rows] == [1.0, 1.0, 0.5]


@given(st.lists(st.floats(-1e9, 1e9, width=32), min_size=1, max_size=60))
def test_the_middle_is_never_empty(values: list[float]) -> None:
    low, high = numbers.middle(np.array(values))
    assert low < high


@given(st.lists(st.floats(-1e12, 1e12), min_size=3, max_size=60))
def test_bars_of_any_quantiles_are_heights(values: list[float]) -> None:
    heights = numbers.spread(sorted(values))
    assert all(0 <= height <= 1 for height in heights)
    assert not heights or max(heights) == 1.0


def test_bars_show_where_the_rows_are() -> None:
    quantiles = np.quantile(np.random.default_rng(0).normal(size=10_000), np.linspace(0, 1, 41))
    heights = numbers.spread(quantiles.tolist(), bars=21)
    assert abs(int(np.argmax(heights)) - 10) <= 1
    assert numbers.spread(list(zip(np.linspace(0, 1, 41), quantiles, strict=True)), bars=21) == heights
    assert numbers.spread([1.0, None, 2.0, 3.0]) != []


def test_poisson_shares_are_those_of_drawn_counts() -> None:
    draw = np.random.default_rng(0)
    means = draw.gamma(2.0, 0.5, 200_000)
    counts = np.bincount(draw.poisson(means), minlength=6)[:6] / len(means)
    np.testing.assert_allclose(numbers.poisson_shares(means, 5), counts, atol=0.004)
