"""Values of other types as those of training, as far as a model would read them."""

import datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from shardwise.data.profile import Profile
from shardwise.monitor.windows import Reference
from shardwise.serve.online.training_types import as_trained, sketched_schema

DAY = datetime.date(2024, 5, 6)


def test_whole_numbers_that_are_compared_as_numbers_are_floats():
    table = pa.table({
        "many": np.arange(500) % 250, "few": np.arange(500) % 3, "single": np.arange(500, dtype=np.float32) % 250,
        "price": pa.array([Decimal(number % 250) / 10 for number in range(500)]),
        "word": pa.array(["a", "b"] * 250).dictionary_encode(),
    })  # fmt: skip
    profile = Profile(table.schema)
    profile.update(table.combine_chunks().to_batches()[0])
    schema = sketched_schema(table.schema, Reference(inputs=profile, answers=None))
    kinds = [pa.float64(), pa.int64(), pa.float32(), pa.float64(), pa.string()]
    assert schema.types == kinds


@pytest.mark.parametrize(
    ("kind", "values", "expected", "lost"),
    [
        (pa.float64(), [1, 2.5, True, "3.5", " 4 ", 2**62, None, "na", "much"],
         [1, 2.5, 1, 3.5, 4, 2.0**62, None, None, None], 1),
        (pa.int64(), [3, "7", 2.0, 2.5, 2**70, None], [3, 7, 2, None, None, None], 2),
        (pa.int64(), [3, 2.5], [3, None], 1),
        (pa.date32(), ["2024-05-06", "2024-05-06T07:08:09", "2024-05-06T07:08:09Z", DAY, "soon", "", None],
         [DAY] * 4 + [None] * 3, 1),
        (pa.bool_(), [True, 0, "false", None], [True, False, False, None], 0),
        (pa.string(), ["Ulm", 4, "na", None], ["Ulm", "4", "na", None], 0),
    ],
)  # fmt: skip
def test_values_are_read_one_by_one_where_they_must_be(kind, values, expected, lost):
    batch, unread = as_trained({"a": values}, pa.schema([("a", kind)]))
    assert batch.column("a").to_pylist() == expected
    assert unread == ({"a": lost} if lost else {})


@pytest.mark.parametrize(
    ("kind", "column", "expected"),
    [
        (pa.float64(), pa.array([1, 2**62]), [1.0, 2.0**62]),
        (pa.float64(), pa.array(["1.5", " 2"]), [1.5, 2.0]),
        (pa.float32(), pa.array([0.1]), [float(np.float32(0.1))]),
        (pa.string(), pa.array(["a", None]).dictionary_encode(), ["a", None]),
        (pa.date32(), pa.array([datetime.datetime(2024, 5, 6, 7)]), [DAY]),
        (pa.int64(), pa.array([1.0, None]), [1, None]),
    ],
)
def test_columns_of_arrow_are_cast(kind, column, expected):
    batch, unread = as_trained({"a": pa.chunked_array([column])}, pa.schema([("a", kind)]))
    assert (batch.column("a").to_pylist(), unread) == (expected, {})
