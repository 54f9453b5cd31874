import datetime as dt
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.core.errors import DataError
from shardwise.core.state import dump_state, load_state
from shardwise.stats.arrays import (
    array_from_state,
    array_to_state,
    as_floats,
    decimal_floats,
    microseconds,
    runs,
    sorted_runs,
)

COLUMNS = [
    pa.array([1, None, -(2**63), 2**63 - 1]),
    pa.array([1, None, 255], pa.uint8()),
    pa.array([2**64 - 1, None], pa.uint64()),
    pa.array([0.5, None, float("nan"), float("-inf")]),
    pa.array([0.5, None], pa.float32()),
    pa.array([True, None, False]),
    pa.array(["a", None, "", "ä😀"]),
    pa.array(["a", None], pa.large_string()),
    pa.array([Decimal("1.25"), None, Decimal("-3")], pa.decimal128(20, 3)),
    pa.array([dt.date(2020, 1, 2), None, dt.date(1900, 1, 1)]),
    pa.array([dt.datetime(2020, 1, 2, 3), None], pa.timestamp("ns", tz="Europe/Paris")),
    pa.array([dt.time(1, 2), None], pa.time32("ms")),
    pa.array([dt.timedelta(days=2), None]),
    pa.nulls(3),
]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: str(column.type))
def test_a_column_survives_its_state(column):
    for part in (column, column[1:], column[:0]):
        restored = array_from_state(load_state(dump_state(array_to_state(part))))
        assert restored.type == part.type
        assert str(restored.to_pylist()) == str(part.to_pylist())  # nan is not itself


def test_a_dictionary_comes_back_plain():
    assert array_from_state(array_to_state(pa.array(["b", "a", None, "b"]).dictionary_encode())).equals(
        pa.array(["b", "a", None, "b"])
    )


def test_what_lies_under_a_null_does_not_show():
    clean, dirty = pa.array([1, None]), pa.array(np.array([1, 77]), mask=np.array([False, True]))
    assert dump_state(array_to_state(clean)) == dump_state(array_to_state(dirty))


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=9))
def test_a_decimal_becomes_the_nearest_float(value):
    assert decimal_floats(pa.array([value], pa.decimal128(38, 9)))[0] == float(Fraction(value))


def test_times_are_seconds_since_1970_whatever_the_zone():
    moments = pa.array([dt.datetime(1970, 1, 2, 0, 0, 1), None])
    for kind in (pa.timestamp("s"), pa.timestamp("ns"), pa.timestamp("us", tz="Asia/Tokyo")):
        cells = moments.cast(pa.timestamp(kind.unit)).cast(kind) if kind.tz is None else moments.view(kind)
        assert as_floats(cells)[0] == 86_401.0
        assert np.isnan(as_floats(cells)[1])
        assert microseconds(cells)[0] == 86_401_000_000


def test_other_columns_hold_no_numbers():
    with pytest.raises(DataError, match="string"):
        as_floats(pa.array(["a"]))


@given(st.lists(st.integers(-5, 5)))
def test_runs_are_unique_values_with_counts(values):
    ordered = np.sort(np.array(values, dtype=np.int64))
    found, expected = runs(ordered), np.unique(ordered, return_counts=True)
    assert found[0].tolist() == expected[0].tolist()
    assert found[1].tolist() == expected[1].tolist()


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
@pytest.mark.parametrize("spread", [0, 5, 120, 2**40])
def test_counted_or_sorted_the_order_is_the_same(kind: type, spread: int) -> None:
    info = np.iinfo(kind)
    values = np.random.default_rng(0).integers(0, min(spread, info.max) + 1, 300).astype(kind)
    for base in (0, info.min, info.max - int(values.max())):
        cells = (values.astype(object) + int(base)).astype(kind)
        ordered, uniques, counts = sorted_runs(cells)
        expected = np.unique(cells, return_counts=True)
        np.testing.assert_array_equal(ordered, np.sort(cells))
        np.testing.assert_array_equal(uniques, expected[0])
        np.testing.assert_array_equal(counts, expected[1])
        assert ordered.dtype == uniques.dtype == kind
