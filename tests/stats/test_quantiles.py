import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardwise.stats.quantiles import Quantiles
from shardwise.testing.summaries import SummaryConformance

RANKS = np.linspace(0.0, 1.0, 101)


class TestConformance(SummaryConformance):
    def make(self):
        return Quantiles("x", capacity=256)

    def batch(self, rows, seed):
        values = np.random.default_rng(seed).normal(size=rows)
        return pa.record_batch({"x": pa.array(values, mask=values > 2.0)})

    def check_agree(self, found, whole):
        assert np.isnan(found).tolist() == np.isnan(whole).tolist()
        if not np.isnan(whole).any() and len(np.unique(whole)) == 101:
            between = np.interp(found, whole, RANKS)
            assert np.abs(between - RANKS).max() < 0.03


def sketch_of(values: np.ndarray, batch_rows: int, capacity: int = 256) -> Quantiles:
    sketch = Quantiles("x", capacity=capacity)
    for start in range(0, len(values), batch_rows):
        sketch.update(pa.record_batch({"x": values[start : start + batch_rows]}))
    return sketch


def rank_errors(sketch: Quantiles, values: np.ndarray) -> np.ndarray:
    """How far each answer's true rank, an interval where values are equal, is from the one that was asked for."""
    found, ordered = sketch.at(RANKS), np.sort(values)
    low = np.searchsorted(ordered, found, "left") / len(values)
    high = np.searchsorted(ordered, found, "right") / len(values)
    return np.maximum(0.0, np.maximum(low - RANKS, RANKS - high))


@pytest.mark.parametrize("rows", [1, 5, 256])
def test_exact_up_to_the_capacity(rows):
    values = np.random.default_rng(0).normal(size=rows)
    assert sketch_of(values, 100).at(RANKS) == pytest.approx(np.quantile(values, RANKS))


SHAPES = {
    "random": lambda rng, n: rng.normal(size=n),
    "rising": lambda rng, n: np.arange(n, dtype=np.float64),
    "falling": lambda rng, n: -np.arange(n, dtype=np.float64),
    "few values": lambda rng, n: rng.integers(0, 5, n).astype(np.float64),
    "mostly zero": lambda rng, n: rng.gamma(1.0, size=n) * (rng.random(n) < 0.1),
    "waves": lambda rng, n: np.sin(np.arange(n) / 1000.0),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("batch_rows", [97, 1000, 60_000])
def test_the_rank_error_is_within_its_bound(shape, batch_rows):
    values = SHAPES[shape](np.random.default_rng(2), 60_000)
    sketch = sketch_of(values, batch_rows)
    slack = 2 / len(values)
    assert rank_errors(sketch, values).max() <= sketch.rank_error() + slack
    assert sketch.rank_error() < 0.04


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 4000), min_size=1, max_size=12), st.integers(0, 100))
def test_merged_parts_keep_the_bound(sizes, seed):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(loc=place, size=rows) for place, rows in enumerate(sizes)]
    merged = Quantiles("x", capacity=64)
    for part in parts:
        merged.merge(sketch_of(part, 500, capacity=64))
    values = np.concatenate(parts)
    assert merged.count == len(values)
    assert rank_errors(merged, values).max() <= merged.rank_error() + 2 / len(values)


def test_the_state_stays_small():
    state = sketch_of(np.random.default_rng(3).normal(size=200_000), 1000).state()
    assert len(state["values"]) <= 256 * 11


def test_values_are_values_of_the_column():
    values = np.random.default_rng(4).integers(0, 10**6, 20_000).astype(np.float64)
    kept = sketch_of(values, 3000).values()
    assert np.isin(kept, values).all()
    assert (kept[0], kept[-1]) == (values.min(), values.max())


def test_without_values_there_is_no_answer():
    assert np.isnan(Quantiles("x").at(RANKS)).all()
    assert len(Quantiles("x").values()) == 0


def test_shares_are_those_of_the_rows_within_the_error():
    rng = np.random.default_rng(5)
    values = np.sort(np.round(rng.normal(size=50_000), 2))
    sketch = Quantiles(capacity=128)
    for part in np.array_split(rng.permutation(values), 40):
        sketch.add_sorted(np.sort(part))
    places = np.array([-9.0, -1.0, 0.0, 0.005, 2.0, values[-1], 9.0])
    exact = np.searchsorted(values, places, side="right") / len(values)
    assert np.abs(sketch.shares(places) - exact).max() <= sketch.rank_error()
    assert sketch.shares(places)[[0, -2, -1]].tolist() == [0.0, 1.0, 1.0]
    assert np.isnan(Quantiles().shares(places)).all()
