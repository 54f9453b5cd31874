import datetime as dt
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from shardwise.core.errors import DataError, SchemaError
from shardwise.data.hashing import combine, hash_column, hash_rows

MOMENTS = [dt.datetime(2020, 1, 2, 3, 4, 5), None, dt.datetime(1960, 5, 6)]
DAYS = [dt.datetime(2020, 1, 2), None, dt.datetime(1960, 5, 6)]
SMALL = [3, 0, None, 7]
LARGE = [2**53, 2**53 + 1, 2**60, 2**60 + 1, 2**63 - 1]
HALVES = [3.5, None, -0.25]
TEXTS = ["a", "", None, "a", "ä😀" * 50]


def zoned(values, zone):
    return pa.array(values, pa.timestamp("us")).cast(pa.timestamp("us", tz=zone))


EQUAL = {
    "small numbers": [
        pa.array(SMALL).cast(kind)
        for kind in (pa.int8(), pa.int64(), pa.uint8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64())
    ]
    + [pa.array(SMALL, kind(9, 2)) for kind in (pa.decimal32, pa.decimal64, pa.decimal128, pa.decimal256)],
    "large integers": [pa.array(LARGE), pa.array(LARGE, pa.uint64()), pa.array([Decimal(v) for v in LARGE])],
    "large integers beside a fraction": [
        pa.array([Decimal(LARGE[1]), Decimal("0.5")]),
        pa.array([Decimal(LARGE[1]), Decimal("0.500")], pa.decimal256(40, 5)),
    ],
    "halves": [pa.array(HALVES), pa.array(HALVES, pa.float32()), pa.array([Decimal("3.5"), None, Decimal("-0.25")])],
    "zeros": [pa.array([0.0, None]), pa.array([-0.0, float("nan")]), pa.array([0, None])],
    "texts": [
        pa.array(TEXTS),
        pa.array(TEXTS, pa.large_string()),
        pa.array(TEXTS, pa.string_view()),
        pa.array(TEXTS).dictionary_encode(),
        pa.array([None if text is None else text.encode() for text in TEXTS]),
        pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 3, 4]), pa.array(TEXTS)),
    ],
    "booleans": [pa.array([True, False, None]), pa.array(["true", "false", None])],
    "moments": [pa.array(MOMENTS, pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")]
    + [zoned(MOMENTS, "UTC"), zoned(MOMENTS, "Asia/Tokyo")],
    "days": [pa.array(DAYS, kind) for kind in (pa.timestamp("ms"), pa.date32(), pa.date64())],
    "times of day": [
        pa.array([dt.time(1, 2, 3), None], kind)
        for kind in (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"))
    ],
    "nulls": [pa.nulls(2), pa.array([None, None], pa.string()), pa.array([None, float("nan")])],
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal_values_have_equal_hashes_whatever_their_type(name):
    for array in EQUAL[name]:
        assert hash_column(array).tolist() == hash_column(EQUAL[name][0]).tolist(), array.type


@pytest.mark.parametrize("name", EQUAL)
def test_a_slice_is_hashed_like_a_copy(name):
    for array in EQUAL[name]:
        assert hash_column(array[1:]).tolist() == hash_column(array).tolist()[1:]


def test_other_values_have_other_hashes():
    columns = [
        pa.array(range(-3000, 3000)),
        pa.array(range(2**60, 2**60 + 3000)),
        pa.array(np.arange(3000) + 0.5),
        pa.array([f"v{i}" for i in range(3000)]),
        pa.array(range(3000), pa.timestamp("us")),
        pa.array(range(3000), pa.time64("us")),
        pa.array([True, False, None]),
    ]
    hashes = np.concatenate([hash_column(column) for column in columns])
    assert len(np.unique(hashes)) == len(hashes)


@given(st.lists(st.one_of(st.none(), st.text()), max_size=20), st.integers(0, 2**64 - 1))
def test_strings_are_xxh3(texts, seed):
    hashes = hash_column(pa.array(texts, pa.string()), seed)
    for text, found in zip(texts, hashes.tolist(), strict=True):
        if text is not None:
            assert found == xxhash.xxh3_64_intdigest(text.encode(), seed)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=7))
def test_a_decimal_is_hashed_as_the_nearest_float(value):
    nearest = float(Fraction(value))
    assert hash_column(pa.array([value], pa.decimal128(30, 7)))[0] == hash_column(pa.array([nearest]))[0]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, unique=True))
def test_an_integer_is_equal_to_its_float_only_when_that_is_exact(values):
    hashes, floats = hash_column(pa.array(values)), hash_column(pa.array([float(value) for value in values]))
    assert (hashes == floats).tolist() == [int(float(value)) == value for value in values]
    assert len(set(hashes.tolist())) == len(values)


FIXED_CELLS = [9860564707913756141, 17606427253252083309, 16629034431890738719, 11131921045574106320]
FIXED_ROWS = [330839324021056009, 13992434709344006434]


def test_the_format_does_not_change():
    """Splits depend on these numbers: a change is a new `HASH_FORMAT`."""
    batch = pa.record_batch({"n": [1, None], "x": [0.5, 2.0], "s": ["a", ""], "d": pa.array([0, 1], pa.date32())})
    assert [int(hash_column(column)[0]) for column in batch.columns] == FIXED_CELLS
    assert hash_rows(batch, batch.schema.names, 7).tolist() == FIXED_ROWS


def test_hashes_are_the_same_in_another_process():
    code = "import pyarrow as pa; from shardwise.data.hashing import hash_rows\n"
    code += "print(hash_rows(pa.record_batch({'a': [1, 2], 'b': ['x', None]}), ['a', 'b'], 3).tolist())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == str(hash_rows(pa.record_batch({"a": [1, 2], "b": ["x", None]}), ["a", "b"], 3).tolist())


def test_rows_do_not_depend_on_the_order_of_columns_and_rows():
    rng = np.random.default_rng(0)
    batch = pa.record_batch({"a": rng.integers(0, 5, 100), "b": rng.normal(size=100), "c": ["x", "y"] * 50})
    hashes = hash_rows(batch, ["a", "b", "c"], 1)
    assert (hash_rows(batch.select(["c", "a", "b"]), ["b", "c", "a"], 1) == hashes).all()
    order = rng.permutation(100)
    assert (hash_rows(batch.take(pa.array(order)), ["a", "b", "c"], 1) == hashes[order]).all()
    assert (combine({name: hash_column(batch[name]) for name in "abc"}, 100, 1) == hashes).all()


def test_rows_know_which_column_holds_a_value():
    batch = pa.record_batch({"a": [1, 2, None, 1], "b": [2, 1, 1, None]})
    assert len(set(hash_rows(batch, ["a", "b"]).tolist())) == 4


@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_hashes_are_uniform_and_seeds_independent(seed):
    batch = pa.record_batch({"id": np.arange(100_000)})
    parts = hash_rows(batch, ["id"], seed) >> np.uint64(60)
    counts = np.bincount(parts.astype(np.int64), minlength=16)
    assert ((counts - 6250) ** 2 / 6250).sum() < 50  # chi-squared, 15 degrees of freedom: 1 in 100,000
    other = hash_rows(batch, ["id"], seed + 1) >> np.uint64(60)
    assert abs((parts == other).mean() - 1 / 16) < 0.005


def test_a_chunked_column_is_hashed_as_one():
    assert (hash_column(pa.chunked_array([[1], [2, None]])) == hash_column(pa.array([1, 2, None]))).all()


def test_what_cannot_be_hashed_is_an_error():
    with pytest.raises(DataError, match="list"):
        hash_column(pa.array([[1]]))
    with pytest.raises(SchemaError, match="'z'"):
        hash_rows(pa.record_batch({"a": [1]}), ["z"])
