"""Ranges are even, whatever the keys are, and hold what their bounds say."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.core.errors import ConfigError, SchemaError
from shardwise.data.partitioners import Source
from shardwise.data.partitioners.keys import search_texts
from shardwise.data.partitioners.ranges import RangePartitioner, even_cuts, even_ranges, given_ranges

ROWS = 200_000


def source(column: pa.Array) -> Source:
    batch = pa.record_batch({"k": column})

    def scan(_):
        for start in range(0, len(column), 10_000):
            yield start, batch.slice(start, 10_000)

    return Source(schema=batch.schema, scan=scan)


def rows_of(column: pa.Array, count: int) -> np.ndarray:
    found = even_ranges(source(column), "k", count)
    return np.bincount(found.assign(pa.record_batch({"k": column}), 0), minlength=found.count)


RNG = np.random.default_rng(0)
KEYS = {
    "normal": pa.array(RNG.normal(size=ROWS)),
    "heavy tail": pa.array(np.exp(5 * RNG.normal(size=ROWS))),
    "integers": pa.array(RNG.integers(0, 1 << 60, ROWS)),
    "dates": pa.array(RNG.integers(0, 30_000, ROWS).astype(np.int32)).cast(pa.date32()),
    "times": pa.array(RNG.integers(0, 1 << 50, ROWS)).cast(pa.timestamp("us")),
    "zoned": pa.array(RNG.integers(0, 1 << 50, ROWS)).cast(pa.timestamp("us", "Asia/Tokyo")),
    "texts": pa.array([f"https://a.example/{n}" for n in RNG.integers(0, 1 << 40, ROWS)]),
    "some nulls": pa.array(RNG.normal(size=ROWS), mask=RNG.random(ROWS) < 0.03),
    "sorted": pa.array(np.arange(ROWS)),
}


@pytest.mark.parametrize("name", KEYS)
def test_partitions_are_even_within_five_percent(name: str) -> None:
    rows = rows_of(KEYS[name], 16)
    assert len(rows) == 16
    assert rows.sum() == ROWS
    assert rows.max() <= 1.05 * rows.mean()


@pytest.mark.parametrize("name", KEYS)
def test_ranges_do_not_overlap_and_nulls_come_last(name: str) -> None:
    column = KEYS[name]
    found = even_ranges(source(column), "k", 8)
    numbers = pa.array(found.assign(pa.record_batch({"k": column}), 0))
    table = pa.table({"number": numbers, "k": column})
    ends = table.group_by("number").aggregate([("k", "min"), ("k", "max")]).sort_by("number")
    lows, highs = ends["k_min"].to_pylist(), ends["k_max"].to_pylist()
    assert all(high < low for high, low in zip(highs, lows[1:], strict=False))
    if column.null_count:
        assert set(numbers.filter(column.is_null()).to_pylist()) == {found.count - 1}


def test_a_key_that_fills_partitions_gets_one_nearly_to_itself_and_the_others_stay_even() -> None:
    keys = np.concatenate([np.full(ROWS // 2, 7.0), RNG.uniform(0, 10, ROWS // 2)])
    rows = np.sort(rows_of(pa.array(keys), 8))
    assert rows[-1] <= 0.51 * ROWS
    assert rows[:-1].max() <= 1.2 * rows[:-1].mean()


@pytest.mark.parametrize("texts", [False, True])
def test_nulls_that_fill_partitions_have_these_to_themselves(texts: bool) -> None:
    column = pa.array(RNG.normal(size=ROWS), mask=np.arange(ROWS) % 10 < 4)
    column = column.cast(pa.string()) if texts else column
    found = even_ranges(source(column), "k", 8)
    assert found.null_parts == 3
    rows = rows_of(column, 8)
    assert (
        0.9 * column.null_count < rows[-3:].sum() < column.null_count
    )  # 3.2 partitions: the rest is in the last range
    assert rows[-3:].sum() + np.sum(found.assign(pa.record_batch({"k": column}), 0)[column.is_null()] == 4) == (
        column.null_count
    )
    assert rows.max() <= 1.05 * rows.mean()
    assert found.label(4).endswith("and some nulls")


def test_ranges_written_before_nulls_had_a_rest_are_read_as_they_were() -> None:
    column = pa.array(RNG.normal(size=ROWS), mask=np.arange(ROWS) % 10 < 4)
    content = {"kind": "range", "column": "k", "bounds": [0.0], "order": "number", "null_parts": 3}
    old = RangePartitioner.from_json(content)
    numbers = old.assign(pa.record_batch({"k": column}), 0)
    assert set(numbers[column.is_null()].tolist()) == {2, 3, 4}
    assert old.to_json() == content


@pytest.mark.parametrize("column", [pa.nulls(20, pa.float64()), pa.nulls(20, pa.string()), pa.array([3] * 20)])
def test_too_few_values_give_fewer_partitions(column: pa.Array) -> None:
    assert rows_of(column, 8).tolist() == [20]


def test_infinities_are_at_the_ends() -> None:
    column = pa.array([float("inf"), float("-inf"), *range(98), None, float("nan")])
    found = even_ranges(source(column), "k", 4)
    numbers = found.assign(pa.record_batch({"k": column}), 0)
    assert (numbers[0], numbers[1], numbers[-1], numbers[-2]) == (3, 0, 3, 3)


def test_given_bounds_hold_what_they_say() -> None:
    column = pa.array(["2013-05-31", "2013-06-01", None]).cast(pa.date32())
    found = given_ranges(source(column), "k", ["2013-06-01", "2014-01-01"])
    assert found.assign(pa.record_batch({"k": column}), 0).tolist() == [0, 1, 2]
    assert found.label(1) == "k from 2013-06-01 to 2014-01-01"


@pytest.mark.parametrize(
    ("column", "bounds", "told"),
    [
        (pa.array([1.5]), ["x"], "not a number"),
        (
            pa.array([1]).cast(pa.date32()) if False else pa.array([1], pa.int32()).cast(pa.date32()),
            ["5"],
            "not a date",
        ),
        (pa.array([1.5]), ["3", "2"], "above the one before"),
        (pa.array(["b"]), ["c", "c"], "above the one before"),
    ],
)
def test_bounds_of_a_wrong_type_or_order_are_told(column: pa.Array, bounds: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        given_ranges(source(column), "k", bounds)


def test_what_has_no_order_is_told() -> None:
    with pytest.raises(SchemaError, match="no ranges"):
        even_ranges(source(pa.array([True])), "k", 2)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=60), st.integers(1, 20))
def test_cuts_rise_and_no_part_is_empty(weights: list[int], parts: int) -> None:
    cuts = even_cuts(np.array(weights), parts)
    assert len(cuts) <= parts - 1
    assert all(low < high for low, high in zip([0, *cuts], [*cuts, len(weights)], strict=True))


@given(st.lists(st.text(max_size=12), max_size=40), st.sets(st.text(max_size=12), min_size=1, max_size=12))
def test_texts_are_compared_as_arrow_sorts_them(values: list[str], bounds: set[str]) -> None:
    ordered = sorted(bounds, key=lambda bound: bound.encode())
    found = search_texts(ordered, pa.array(values, pa.string()))
    want = [
        sum(pc.less_equal(pa.array([bound] * 1), pa.scalar(value))[0].as_py() for bound in ordered) for value in values
    ]
    assert found.tolist() == want
