"""The key of a row: a hash of its canonical bytes.

Two rows have one key only if the predictor gives them one answer: columns are taken by name, in the order of the
package; others are left out; a number in a column of numbers counts as the number that it is, whatever the width of its
type. Any other difference of types makes another key: that costs a second computation, and never a wrong answer.

    0x00                       null
    0x01, 8 bytes              a number of a column of numbers, as float64
    0x02, length, UTF-8        a string
    0x03, length, type, value  anything else: Arrow's name of the type, and the value
"""

import datetime
import hashlib
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.serve.cache.base import KEY_BYTES

_NULL = b"\x00"
_EXACT = 2**53  # integers up to here are exact in float64
_NUMBER = struct.Struct("<cd")
_LENGTH = struct.Struct("<cI")
_TEMPORAL = (pa.types.is_timestamp, pa.types.is_time, pa.types.is_duration, pa.types.is_date)
ToArray = Callable[[Any, pa.Field], pa.Array]


class RowKeys:
    """Keys of rows that have the columns `inputs`; `to_array` makes of a Python value what the predictor does."""

    def __init__(self, inputs: pa.Schema, to_array: ToArray) -> None:
        self._fields = list(inputs)
        self._numeric = [is_number(field.type) for field in self._fields]
        self._quick = [_quick(field.type) for field in self._fields]
        self._to_array = to_array

    def of_batch(self, batch: pa.RecordBatch) -> list[bytes]:
        """A key for each row; the batch has all columns, others do not count."""
        if batch.num_rows == 0:
            return []
        columns = [
            cells(batch.column(field.name), numeric) for field, numeric in zip(self._fields, self._numeric, strict=True)
        ]
        return [_digest(b"".join(row)) for row in zip(*columns, strict=True)]

    def of_row(self, row: Mapping[str, Any]) -> bytes:
        """The key of a row of Python values: that of the batch which the predictor makes of it."""
        parts = []
        for field, quick, numeric in zip(self._fields, self._quick, self._numeric, strict=True):
            value = row[field.name]
            cell = quick(value) if value is not None else _NULL
            parts.append(cell if cell is not None else cells(self._to_array(value, field), numeric)[0])
        return _digest(b"".join(parts))


def is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def cells(column: pa.Array, numeric: bool) -> list[bytes]:
    """The canonical bytes of each cell; `numeric`: numbers count as numbers."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if numeric and is_number(column.type):
        return _numbers(column)
    if _is_text(column.type):
        return [_NULL if text is None else _text(text) for text in column.to_pylist()]
    tag = str(column.type).encode()
    if any(matches(column.type) for matches in _TEMPORAL):
        column = _ticks(column)
    return [_NULL if value is None else _other(tag, value) for value in column.to_pylist()]


def _numbers(column: pa.Array) -> list[bytes]:
    if not _fits(column):
        tag = str(column.type).encode()
        return [_NULL if value is None else _whole(value, tag) for value in column.to_pylist()]
    floats = pc.cast(column, pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False)
    bytes_of = np.ascontiguousarray(floats, dtype="<f8").tobytes()
    found = [b"\x01" + bytes_of[start : start + 8] for start in range(0, len(bytes_of), 8)]
    if column.null_count:
        for place in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)):
            found[place] = _NULL
    return found


def _fits(column: pa.Array) -> bool:
    """Whether each number is exact as float64."""
    if pa.types.is_floating(column.type):
        return True
    bounds = pc.min_max(column)
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    return low is None or (low >= -_EXACT and high <= _EXACT)


def _whole(value: int, tag: bytes) -> bytes:
    return _NUMBER.pack(b"\x01", value) if -_EXACT <= value <= _EXACT else _other(tag, value)


def _text(text: str) -> bytes:
    content = text.encode("utf-8", "surrogatepass")
    return _LENGTH.pack(b"\x02", len(content)) + content


def _other(tag: bytes, value: Any) -> bytes:
    content = tag + b"\x00" + repr(value).encode("utf-8", "backslashreplace")
    return _LENGTH.pack(b"\x03", len(content)) + content


def _ticks(column: pa.Array) -> pa.Array:
    """Whole numbers in the unit of a type of time, of which Python values can be less exact."""
    narrow = pa.types.is_date32(column.type) or pa.types.is_time32(column.type)
    return column.view(pa.int32() if narrow else pa.int64())


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _quick(kind: pa.DataType) -> Callable[[Any], bytes | None]:
    """Cells of frequent Python values of a column without Arrow; None where Arrow decides."""
    if pa.types.is_float64(kind):
        return lambda value: _NUMBER.pack(b"\x01", value) if type(value) is float else None
    if pa.types.is_int64(kind):
        return lambda value: _whole(value, b"int64") if type(value) is int and -(2**63) <= value < 2**63 else None
    if pa.types.is_string(kind):
        return lambda value: _text(value) if type(value) is str else None
    if pa.types.is_timestamp(kind) and kind.tz is None and kind.unit == "us":
        return lambda value: _instant(value, kind) if type(value) is datetime.datetime else None
    return lambda value: None  # noqa: ARG005


def _instant(value: datetime.datetime, kind: pa.DataType) -> bytes | None:
    if value.tzinfo is not None:
        return None
    delta = value - datetime.datetime(1970, 1, 1)
    ticks = (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
    return _other(str(kind).encode(), ticks)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=KEY_BYTES).digest()
