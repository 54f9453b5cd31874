"""Types: what is read as what, and how types of several files become one."""

import decimal
import itertools
import pickle

import pyarrow as pa
import pytest

from shardwise.core.errors import SchemaError
from shardwise.data.types import TypeConflict, cast, conflict, normalise, unify, unify_all, widened

KINDS = [
    pa.null(), pa.bool_(), pa.int8(), pa.int64(), pa.uint8(), pa.uint64(), pa.float32(), pa.float64(), pa.string(),
    pa.date32(), pa.timestamp("s"), pa.timestamp("ns"), pa.timestamp("us", "UTC"), pa.timestamp("us", "Europe/Rome"),
    pa.time32("s"), pa.time64("us"), pa.decimal128(10, 2), pa.decimal128(38, 10),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right"), list(itertools.product(KINDS, KINDS)))
def test_unify_is_symmetric_and_holds_both(left: pa.DataType, right: pa.DataType) -> None:
    both = unify(left, right)
    assert both == unify(right, left)
    if both is not None:
        assert unify(both, left) == both
        assert unify(both, right) == both


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([pa.int32(), pa.int64()], pa.int64()),
        ([pa.uint8(), pa.int8()], pa.int16()),
        ([pa.uint64(), pa.int8()], pa.float64()),
        ([pa.int64(), pa.float32()], pa.float64()),
        ([pa.null(), pa.string()], pa.string()),
        ([pa.date32(), pa.timestamp("s"), pa.timestamp("us")], pa.timestamp("us")),
        ([pa.timestamp("us", "UTC"), pa.timestamp("us", "Europe/Rome")], pa.timestamp("us", "UTC")),
        ([pa.timestamp("us"), pa.timestamp("us", "UTC")], None),
        ([pa.decimal128(5, 2), pa.decimal128(6, 0)], pa.decimal128(8, 2)),
        ([pa.bool_(), pa.int64()], None),
        ([pa.string(), pa.int64()], None),
    ],
)
def test_unified_types(kinds: list[pa.DataType], expected: pa.DataType | None) -> None:
    for order in itertools.permutations(kinds):
        assert unify_all(list(order)) == expected


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (pa.float16(), pa.float32()),
        (pa.large_string(), pa.string()),
        (pa.string_view(), pa.string()),
        (pa.dictionary(pa.int8(), pa.int64()), pa.string()),
        (pa.date64(), pa.date32()),
        (pa.decimal32(5, 2), pa.decimal128(5, 2)),
        (pa.decimal256(50, 2), pa.float64()),
        (pa.duration("ms"), pa.float64()),
        (pa.run_end_encoded(pa.int32(), pa.int16()), pa.int16()),
        (pa.timestamp("us", "Asia/Tokyo"), pa.timestamp("us", "Asia/Tokyo")),
    ],
)
def test_stored_types_are_read_as(stored: pa.DataType, read: pa.DataType) -> None:
    assert normalise(stored, "x") == read


@pytest.mark.parametrize(
    "kind",
    [pa.binary(), pa.large_binary(), pa.binary(4), pa.list_(pa.int8()), pa.struct({"a": pa.int8()}),
     pa.map_(pa.string(), pa.int8()), pa.month_day_nano_interval()],
)  # fmt: skip
def test_refused_types_name_the_column_and_a_way_out(kind: pa.DataType) -> None:
    with pytest.raises(SchemaError, match=r"'tags'.*leave it out"):
        normalise(kind, "tags")


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (pa.array([1, None], pa.int8()), pa.float64(), [1.0, None]),
        (pa.array([2**60 + 1]), pa.float64(), [float(2**60)]),
        (pa.array([3, 4, None]).dictionary_encode(), pa.string(), ["3", "4", None]),
        (pa.array([1500], pa.duration("ms")), pa.float64(), [1.5]),
        (pa.array([decimal.Decimal("1.5")], pa.decimal256(50, 2)), pa.float64(), [1.5]),
        (pa.array([1.5], pa.float16()), pa.float32(), [1.5]),
        (pa.array([None], pa.null()), pa.string(), [None]),
    ],
)
def test_cast(values: pa.Array, kind: pa.DataType, expected: list[object]) -> None:
    assert cast(values, kind, "x").equals(pa.array(expected, kind))


def test_cast_names_the_first_value_that_does_not_fit() -> None:
    with pytest.raises(TypeConflict) as caught:
        cast(pa.array(["1", "2", "x", "y"]), pa.int64(), "age")
    assert (caught.value.column, caught.value.value, caught.value.context["row"]) == ("age", "x", 3)


def test_a_conflict_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(conflict("age", pa.int64(), "x", row=3)))
    assert isinstance(error, TypeConflict)
    assert (error.column, error.value, error.context["row"]) == ("age", "x", 3)
    assert "'age'" in str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_widening_ends_at_text(kind: pa.DataType) -> None:
    steps = 0
    while kind != pa.string():
        kind, steps = widened(kind), steps + 1
    assert steps <= 3


def test_widening_for_a_value_skips_types_that_do_not_hold_it() -> None:
    assert widened(pa.int64(), "1.5") == pa.float64()
    assert widened(pa.int64(), "abc") == pa.string()
    assert widened(pa.date32(), "2024-01-01 10:00:00") == pa.timestamp("us")
