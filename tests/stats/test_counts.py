from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from shardwise.stats.counts import Counts
from shardwise.testing.summaries import SummaryConformance


class TestExact(SummaryConformance):
    def make(self):
        return Counts("x", capacity=50)

    def batch(self, rows, seed):
        drawn = np.random.default_rng(seed).integers(0, 40, rows)
        return pa.record_batch({"x": pa.array([None if value == 0 else f"v{value}" for value in drawn], pa.string())})

    def check_agree(self, found, whole):
        assert found == whole


class TestPruned(SummaryConformance):
    def make(self):
        return Counts("x", capacity=20)

    def batch(self, rows, seed):
        return pa.record_batch({"x": np.random.default_rng(seed).geometric(0.02, rows)})

    def check_agree(self, found, whole):
        """Bounded by rows / capacity each, so two of them differ by no more than that."""
        rows = 5 * 3000
        found, whole = dict(found), dict(whole)
        for value in {*found, *whole}:
            assert abs(found.get(value, 0) - whole.get(value, 0)) <= rows / 20


def counts_of(cells: pa.Array, capacity: int, batch_rows: int = 1000) -> Counts:
    counts = Counts("x", capacity=capacity)
    for start in range(0, len(cells), batch_rows):
        counts.update(pa.record_batch({"x": cells[start : start + batch_rows]}))
    return counts


@pytest.mark.parametrize("capacity", [5, 30, 100])
def test_counts_are_off_by_at_most_the_error(capacity):
    drawn = np.random.default_rng(0).zipf(1.5, 20_000).clip(max=5000)
    truth = Counter(map(str, drawn.tolist()))
    counts = counts_of(pa.array(drawn), capacity)
    found = dict(counts.top())
    assert len(found) <= capacity
    assert counts.error <= len(drawn) / capacity
    for value, count in truth.items():
        assert count - counts.error <= found.get(value, 0) <= count
    assert next(iter(found)) == "1"


def test_a_column_of_distinct_values_keeps_nothing_and_says_so():
    counts = counts_of(pa.array(range(10_000)), 100)
    assert not counts.is_exact
    assert all(count <= 10_000 / 100 for _, count in counts.top())


@pytest.mark.parametrize(
    ("cells", "texts"),
    [
        (pa.array([3.0, 0.5, -0.0, 0.0, float("nan"), None]), [("0", 2), ("0.5", 1), ("3", 1)]),
        (pa.array([True, False, True, None]), [("true", 2), ("false", 1)]),
        (pa.array(["b", "a", "b"]).dictionary_encode(), [("b", 2), ("a", 1)]),
        (pa.array([10, 9, 10], pa.int16()), [("10", 2), ("9", 1)]),
    ],
)
def test_values_have_their_canonical_spelling(cells, texts):
    assert counts_of(cells, 10).top() == texts


def test_long_strings_are_kept_while_they_are_few():
    cells = [letter * 351 for letter in "abcd" for _ in range(40)]
    counts = counts_of(pa.array(cells * 3), 100, batch_rows=50)
    assert counts.top() == [(letter * 351, 120) for letter in "abcd"]
    assert counts.is_exact
    assert Counts.from_state(counts.state()).top() == counts.top()


def test_of_many_long_strings_the_heaviest_are_kept_and_the_error_says_what_is_not():
    rng = np.random.default_rng(0)
    drawn = np.where(rng.random(4000) < 0.5, 0, rng.integers(1, 2000, 4000))
    texts = [f"{number:04d}" * 100 for number in drawn]
    counts = counts_of(pa.array([*texts, "short"]), 100, batch_rows=500)
    truth, found = Counter(texts), dict(counts.top())
    assert sum(len(text) for text in found if len(text) > 256) <= 64 * 100
    assert found["0000" * 100] >= truth["0000" * 100] - counts.error
    for value, count in truth.items():
        assert count - counts.error <= found.get(value, 0) <= count
    assert counts.error < 100


def test_long_strings_are_not_kept_where_they_are_too_many_bytes():
    counts = counts_of(pa.array(["x" * 1000, "x" * 1000, "short"]), 10)
    assert counts.top() == [("short", 1)]
    assert counts.error == 2


class TestLong(SummaryConformance):
    def make(self):
        return Counts("x", capacity=50)

    def batch(self, rows, seed):
        drawn = np.random.default_rng(seed).integers(0, 8, rows)
        return pa.record_batch({"x": pa.array([f"v{value}" * 150 for value in drawn], pa.string())})

    def check_agree(self, found, whole):
        assert found == whole


def test_what_is_pending_counts_for_the_error():
    counts = counts_of(pa.array(range(150)), 100, batch_rows=75)
    assert counts.error == 1
    assert not counts.is_exact


def test_no_values():
    assert Counts("x").top() == []
    assert Counts("x").is_exact
