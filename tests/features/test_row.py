"""A row of Python values gets the bits that a batch of it gets."""

import datetime as dt
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.registry.parts import make_recipe, make_target

from shardwise.core.errors import DataError
from shardwise.features.base import CellWise
from shardwise.features.row import RowEncoder
from shardwise.serve.predictor import to_array

ROWS = 300
TOWNS = ["Ulm", "Köln", "Bonn", 'Bad "X"', "07", "7", "true"]


def training_table() -> pa.Table:
    rng = np.random.default_rng(5)
    days = np.datetime64("2023-01-01") + rng.integers(0, 700, ROWS)
    moments = days.astype("datetime64[us]") + rng.integers(0, 86_400_000_000, ROWS).astype("timedelta64[us]")
    return pa.table(
        {
            "plain": pa.array(rng.normal(size=ROWS), mask=rng.random(ROWS) < 0.1),
            "big": pa.array(rng.normal(size=ROWS) + 1e9),  # centred, as float32 would blur it
            "narrow": pa.array(rng.normal(size=ROWS).astype(np.float32)),
            "narrow_big": pa.array((rng.normal(size=ROWS) + 1e7).astype(np.float32)),
            "huge": pa.array(rng.normal(size=ROWS) * 1e200),
            "whole": pa.array(rng.integers(-50, 50, ROWS)),
            "small": pa.array(rng.integers(0, 9, ROWS).astype(np.int8)),
            "store_id": pa.array(rng.integers(0, 8, ROWS)),
            "zip_code": pa.array(rng.integers(0, 6, ROWS).astype(np.float64)),
            "flag": pa.array(rng.random(ROWS) < 0.5, mask=rng.random(ROWS) < 0.1),
            "town": pa.array(rng.choice(TOWNS, ROWS), mask=rng.random(ROWS) < 0.1),
            "day": pa.array(days.astype("datetime64[D]")),
            "at": pa.array(moments),
            "at_s": pa.array(moments).cast(pa.timestamp("s"), safe=False),
            "at_ns": pa.array(moments).cast(pa.timestamp("ns")),
            "zoned": pa.array(moments).cast(pa.timestamp("us", tz="Europe/Paris")),
            "utc": pa.array(moments).cast(pa.timestamp("us", tz="UTC")),
            "words": pa.array([" ".join(rng.choice(TOWNS, 8)) for _ in range(ROWS)]),
            "y": pa.array(rng.random(ROWS) < 0.5),
        }
    )


TABLE = training_table()
INPUTS = pa.schema([field for field in TABLE.schema if field.name != "y"])


@lru_cache(maxsize=1)
def fitted():
    return make_recipe(TABLE, make_target()).sealed()


@pytest.fixture
def recipe():
    return fitted()


def to_batch(row) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([to_array(row[field.name], field) for field in INPUTS], names=INPUTS.names)


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    """NaN is NaN, whatever its payload; 0.0 is not -0.0."""
    return bool(np.array_equal(left, right, equal_nan=True) and np.array_equal(np.signbit(left), np.signbit(right)))


def outcome(encode, row):
    try:
        return encode(row)
    except DataError as error:
        return str(error)


def agree(recipe, row) -> None:
    one = outcome(RowEncoder(recipe, INPUTS, to_batch), row)
    batch = outcome(lambda row: recipe.transform(to_batch(row)), row)
    assert type(one) is type(batch)
    assert one == batch if isinstance(one, str) else same_bits(one, batch)


def test_rows_of_the_table_get_the_bits_of_the_table(recipe):
    encode = RowEncoder(recipe, INPUTS, to_batch)
    expected = recipe.transform(TABLE.select(INPUTS.names).combine_chunks().to_batches()[0])
    for number, row in enumerate(TABLE.select(INPUTS.names).to_pylist()):
        found = encode(row)
        assert found.shape == (1, len(recipe.features))
        assert found.dtype == np.float32
        assert same_bits(found[0], expected[number]), row


def test_usual_values_of_most_steps_need_no_batch(recipe):
    def none(row):
        raise AssertionError("a batch was made")

    alone = recipe.without({feature.name: "" for feature in recipe.features if feature.source == "zoned"})
    assert all(isinstance(step, CellWise) for step, _, _ in alone.steps)
    encode = RowEncoder(alone, INPUTS, none)
    row = dict.fromkeys(INPUTS.names)
    usual = {
        "plain": 0.5, "big": 1e9 + 0.25, "narrow": 0.1, "narrow_big": 1e7, "huge": 1e199, "whole": 3, "small": 4.0,
        "store_id": 3, "zip_code": 4, "flag": True, "town": "Ulm", "day": "2024-02-29", "at": "2024-02-29 23:59:59.5",
        "at_ns": dt.datetime(2024, 2, 29, 1, 2, 3, 4), "words": "Ulm Bonn",
    }  # fmt: skip
    assert encode(row).shape == encode({**row, **usual}).shape == (1, len(alone.features))


numbers = st.one_of(
    st.floats(), st.integers(-(2**70), 2**70), st.integers(-100, 100), st.floats(width=32),
    st.sampled_from([-0.0, 2**53 + 1, 3.4e38, 1e39, 16_777_217]),
)  # fmt: skip
moments = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31))
texts = st.one_of(
    st.sampled_from([*TOWNS, "", " 3", "3.0", "1e3", "nan", "NA", "2024-01-01T00:00:00Z", "2024-02-30", "2024-1-1"]),
    st.text(max_size=6),
    moments.map(str), moments.map(lambda moment: moment.isoformat(timespec="minutes")),
    moments.map(lambda moment: moment.date().isoformat()),
)  # fmt: skip
values = st.one_of(
    st.none(), st.booleans(), numbers, texts, moments, st.dates(), moments.map(lambda m: m.replace(tzinfo=dt.UTC)),
    st.just([1]), st.just({"a": 1}), st.just(b"x"), st.times(),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_value_of_a_column_gets_the_same_bits_or_the_same_error(data):
    row = TABLE.select(INPUTS.names).slice(data.draw(st.integers(0, ROWS - 1)), 1).to_pylist()[0]
    for column in data.draw(st.sets(st.sampled_from(INPUTS.names), min_size=1, max_size=2)):
        row[column] = data.draw(values, label=column)
    agree(fitted(), row)
