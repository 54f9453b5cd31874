"""JSON lines against the standard library."""

import json
from decimal import Decimal

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from shardwise.serve.json_lines import to_json_lines

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.none() | st.text(),
            "number": st.none() | st.floats(allow_nan=False, allow_infinity=False),
            "whole": st.none() | st.integers(-(2**63), 2**63 - 1),
            "flag": st.none() | st.booleans(),
        }
    )
)
SCHEMA = pa.schema([("text", pa.string()), ("number", pa.float64()), ("whole", pa.int64()), ("flag", pa.bool_())])


def read(content):
    return [json.loads(line) for line in content.decode().split("\n")[:-1]]


@given(ROWS)
def test_what_is_written_is_read_again(rows):
    assert read(to_json_lines(pa.RecordBatch.from_pylist(rows, SCHEMA))) == rows


@given(st.text())
def test_any_column_name_will_do(name):
    assert read(to_json_lines(pa.record_batch([pa.array([1])], names=[name]))) == [{name: 1}]


def test_a_slice_is_written_as_its_rows():
    batch = pa.RecordBatch.from_pylist([{"text": f"row {number}"} for number in range(9)], SCHEMA)
    assert read(to_json_lines(batch.slice(3, 4))) == batch.slice(3, 4).to_pylist()


def test_what_json_has_no_word_for():
    batch = pa.record_batch(
        {
            "x": pa.array([float("nan"), float("inf")]),
            "d": pa.array([Decimal("1.50"), None]),
            "day": pa.array([0, None], pa.date32()),
            "at": pa.array([0, None], pa.timestamp("s", tz="UTC")),
        }
    )
    assert read(to_json_lines(batch)) == [
        {"x": None, "d": 1.5, "day": "1970-01-01", "at": "1970-01-01 00:00:00Z"},
        {"x": None, "d": None, "day": None, "at": None},
    ]
