import numpy as np
import pyarrow as pa
import pytest

from shardwise.core.state import dump_state
from shardwise.stats.distinct import Distinct
from shardwise.testing.summaries import SummaryConformance


class TestConformance(SummaryConformance):
    def make(self):
        return Distinct("x", capacity=500)

    def batch(self, rows, seed):
        drawn = np.random.default_rng(seed).integers(0, 3000, rows)
        return pa.record_batch({"x": pa.array(drawn, mask=drawn == 0)})

    def check_agree(self, found, whole):
        assert found == whole


def distinct_of(values: np.ndarray, capacity: int, batch_rows: int = 5000) -> Distinct:
    distinct = Distinct("x", capacity=capacity)
    for start in range(0, len(values), batch_rows):
        distinct.update(pa.record_batch({"x": values[start : start + batch_rows]}))
    return distinct


def test_the_state_depends_on_the_values_alone():
    values = np.random.default_rng(0).integers(0, 20_000, 50_000)
    states = {
        dump_state(distinct_of(order, 300, rows).state())
        for order, rows in ((values, 50_000), (values, 999), (np.sort(values), 5000), (values[::-1].copy(), 37))
    }
    assert len(states) == 1


@pytest.mark.parametrize("distinct", [1, 40, 500])
def test_exact_up_to_the_capacity(distinct):
    found = distinct_of(np.random.default_rng(1).permutation(np.arange(20_000) % distinct), 500)
    assert found.is_exact
    assert found.estimate == distinct
    assert found.unique_share == pytest.approx(distinct / 20_000)


def test_the_error_is_as_stated():
    """Over many columns the root mean square error is the standard error, and none is beyond five of it."""
    errors = []
    for column in range(200):
        found = distinct_of(np.arange(4000) + 1_000_000 * column, 256)
        errors.append((found.estimate - 4000) / 4000 / found.relative_error)
    assert 0.75 < np.sqrt(np.mean(np.square(errors))) < 1.15
    assert np.abs(errors).max() < 5


def test_repeats_are_seen_beyond_the_capacity():
    assert distinct_of(np.arange(100_000), 256).unique_share == 1.0
    twice = distinct_of(np.concatenate([np.arange(50_000), np.arange(50_000)]), 256)
    assert twice.unique_share == 0.5


def test_hashes_may_come_with_counts():
    hashes = np.array([5, 9], dtype=np.uint64)
    one_by_one, counted = Distinct(capacity=10), Distinct(capacity=10)
    one_by_one.add(np.repeat(hashes, [3, 1]))
    counted.add(hashes, np.array([3, 1]))
    assert dump_state(one_by_one.state()) == dump_state(counted.state())
