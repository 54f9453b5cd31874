"""Features of two columns."""

import numpy as np
import pyarrow as pa
import pytest

from shardwise.core.errors import RejectColumn
from shardwise.core.state import dump_state, load_state
from shardwise.data.profile import Profile
from shardwise.features.combine import LEAST_COUNT, OPERATIONS, Arithmetic, ByCategory, Cross
from shardwise.testing.transformers import TransformerConformance


def mixed(rows: int, seed: int) -> pa.RecordBatch:
    """Two numbers, of which the second is 0 in places, and two categories, one of them of whole numbers."""
    rng = np.random.default_rng(seed)
    missing = rng.random((4, rows)) < 0.1
    return pa.record_batch({
        "a": pa.array(rng.normal(size=rows), mask=missing[0]),
        "b": pa.array(rng.integers(-2, 5, rows), mask=missing[1]),
        "colour": pa.array(rng.choice(["red", "green", "blue"], rows), mask=missing[2]),
        "shop": pa.array(rng.integers(0, 6, rows), mask=missing[3]),
    })  # fmt: skip


class TestArithmetic(TransformerConformance):
    def plan(self, profile: Profile) -> Arithmetic:
        return Arithmetic.plan("over", ("a", "b"), profile.sample())

    def batch(self, rows: int, seed: int) -> pa.RecordBatch:
        return mixed(rows, seed)


class TestCross(TransformerConformance):
    def plan(self, profile: Profile) -> Cross:
        return Cross.plan(("colour", "shop"), profile.sample())

    def batch(self, rows: int, seed: int) -> pa.RecordBatch:
        return mixed(rows, seed)


class TestFrequency(TransformerConformance):
    def plan(self, profile: Profile) -> ByCategory:
        return ByCategory.plan(("shop",), profile.sample())

    def batch(self, rows: int, seed: int) -> pa.RecordBatch:
        return mixed(rows, seed)


class TestBeside(TransformerConformance):
    def plan(self, profile: Profile) -> ByCategory:
        return ByCategory.plan(("colour", "a"), profile.sample())

    def batch(self, rows: int, seed: int) -> pa.RecordBatch:
        return mixed(rows, seed)


def written(step: Arithmetic | Cross | ByCategory, table: pa.Table) -> np.ndarray:
    restored = type(step).from_state(load_state(dump_state(step.state())))
    out = np.empty((table.num_rows, 1), np.float32)
    restored.transform(table.combine_chunks().to_batches()[0], out)
    return out[:, 0]


@pytest.mark.parametrize(("operation", "expected"), [("minus", -1.0), ("over", 2 / 3), ("times", 6.0)])
def test_arithmetic_is_that_of_the_raw_numbers(operation: str, expected: float) -> None:
    table = pa.table({"a": [2.0] * 20 + [1e300, None, 1.0], "b": [3.0] * 20 + [1e-300, 1.0, 0.0]})
    found = written(Arithmetic.plan(operation, ("a", "b"), table), table)
    assert found[0] == np.float32(expected)
    assert np.isnan(found[21])
    assert np.isnan(found[20]) == (operation != "times")  # beyond float32
    assert np.isnan(found[22]) == (operation == "over")


def test_names_say_what_is_done() -> None:
    table = mixed(200, 0)
    sample = pa.table(table)
    assert [Arithmetic.plan(name, ("a", "b"), sample).output()[0].name for name in OPERATIONS] == [
        "a - b", "a / b", "a * b"]  # fmt: skip
    assert Cross.plan(("colour", "shop"), sample).output()[0].name == "colour x shop"
    assert ByCategory.plan(("colour", "a"), sample).output()[0].name == "a beside its mean by colour"


def test_pairs_of_categories_have_codes_by_their_number() -> None:
    rows = [("x", "p")] * 30 + [("x", "q")] * 20 + [("y", None)] * 15 + [("y", "q")] * (LEAST_COUNT - 1)
    sample = pa.table({"a": [a for a, _ in rows], "b": [b for _, b in rows]})
    step = Cross.plan(("a", "b"), sample)
    new = pa.table({"a": ["x", "x", "y", "y", "new", None, None], "b": ["p", "q", None, "q", "p", "p", None]})
    np.testing.assert_array_equal(written(step, new), [1, 2, 3, 0, 0, 0, np.nan])
    assert step.output()[0].cardinality == 4


def test_a_number_beside_the_mean_of_its_category() -> None:
    sample = pa.table({"k": ["x"] * 1000 + ["y"] * 1000, "v": [1.0] * 1000 + [5.0] * 1000})
    new = pa.table({"k": ["x", "y", "z", "x"], "v": [1.0, 7.0, 4.0, None]})
    found = written(ByCategory.plan(("k", "v"), sample), new)
    np.testing.assert_allclose(found, [0.0, 2.0, 1.0, np.nan], atol=0.03)


def test_frequency_is_the_logarithm_of_the_share() -> None:
    sample = pa.table({"k": ["x"] * 75 + ["y"] * 25})
    found = written(ByCategory.plan(("k",), sample), pa.table({"k": ["x", "y", "z"]}))
    np.testing.assert_allclose(found[:2], np.log([0.75, 0.25]), rtol=1e-6)
    assert found[2] < found[1]


def test_columns_without_values_are_rejected() -> None:
    empty = pa.table({"a": pa.nulls(50, pa.float64()), "b": pa.nulls(50, pa.string()), "c": ["x"] * 50})
    with pytest.raises(RejectColumn, match="no values"):
        Arithmetic.plan("minus", ("a", "a"), empty)
    with pytest.raises(RejectColumn, match="times"):
        ByCategory.plan(("b",), empty)
    with pytest.raises(RejectColumn, match="no two pairs"):
        Cross.plan(("c", "c"), empty)
