"""Live values in the types of training, column by column, as sketches read them, and how many could not be read."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.errors import ShardwiseError
from shardwise.features.numeric import MISSING_WORDS, is_string, parse_numbers
from shardwise.monitor.drift import kind_of
from shardwise.monitor.windows import Reference

Column: TypeAlias = "list[Any] | pa.ChunkedArray"
_REFUSED = (pa.ArrowException, OverflowError, UnicodeEncodeError, ValueError)


def sketched_schema(inputs: pa.Schema, reference: Reference) -> pa.Schema:
    """Types in which live rows are compared: those of training, but float64 for whole numbers and decimals that are
    compared as numbers, since a model reads 1.5 where it has learned from whole numbers; dictionaries as their values.
    """
    known = reference.inputs.columns
    return pa.schema([
        pa.field(field.name, _sketched_type(field.type, field.name in known and kind_of(known[field.name]) == "number"))
        for field in inputs
    ])  # fmt: skip


def _sketched_type(kind: pa.DataType, is_number: bool) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return kind.value_type
    return pa.float64() if is_number and not pa.types.is_floating(kind) else kind


def as_trained(columns: Mapping[str, Column], schema: pa.Schema) -> tuple[pa.RecordBatch, dict[str, int]]:
    """One batch in the types of `schema`, and by column how many values count as missing because they cannot be read.

    Columns are lists of Python values, or Arrow's of any type.
    """
    arrays: list[pa.Array] = []
    unread: dict[str, int] = {}
    for field in schema:
        given = columns[field.name]
        array = _cast(given, field.type) if isinstance(given, pa.ChunkedArray) else _of_values(given, field.type)
        if array is None:
            values: list[Any] = given if isinstance(given, list) else given.to_pylist()
            read = _by_value(values, field.type)
            lost = sum(own is None and not _is_missing(value) for own, value in zip(read, values, strict=True))
            unread |= {field.name: lost} if lost else {}
            array = pa.array(read, field.type)
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema), unread


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array | None:
    """None where a value does not fit."""
    try:
        exact = not (pa.types.is_floating(kind) and not is_string(column.type))
        return pc.cast(column, kind, safe=exact).combine_chunks()
    except _REFUSED:
        return None


def _of_values(values: list[Any], kind: pa.DataType) -> pa.Array | None:
    if pa.types.is_integer(kind) and float in set(map(type, values)):
        return None  # Arrow would cut 2.5 to 2
    try:
        return pa.array(values, kind)
    except _REFUSED:
        return None


def _by_value(values: list[Any], kind: pa.DataType) -> list[Any]:
    """Each value by itself, as the recipe reads texts; None where it cannot be read."""
    found: dict[Any, Any] = {}
    for value in values:
        key = type(value), value
        if key not in found:
            found[key] = _cell(value, kind)
    return [found[type(value), value] for value in values]


def _cell(value: Any, kind: pa.DataType) -> Any:
    for read in (_widened, _number, _time):
        try:
            return read(value, kind)
        except (*_REFUSED, TypeError, ShardwiseError):
            continue
    return None


def _widened(value: Any, kind: pa.DataType) -> Any:
    return pa.scalar(value).cast(kind).as_py()


def _number(value: Any, kind: pa.DataType) -> Any:
    """A text such as ` 1.5 `, or a number too large to be exact."""
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        raise TypeError
    if isinstance(value, str):
        (number,) = parse_numbers(pa.array([value]), "").to_pylist()
    else:
        number = float(value)
    return number if number is None or pa.types.is_floating(kind) else pa.scalar(number).cast(kind).as_py()


def _time(value: Any, kind: pa.DataType) -> Any:
    """A text with a zone, or more than a date."""
    if not (pa.types.is_temporal(kind) and isinstance(value, str)):
        raise TypeError
    for zone in (None, "UTC"):
        with suppress(pa.ArrowInvalid):
            time = pa.scalar(value).cast(pa.timestamp("us", tz=zone)).cast(pa.timestamp("us"))
            return pc.cast(time, kind, safe=False).as_py()
    raise ValueError


def _is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in MISSING_WORDS
    return value is None or (isinstance(value, float) and np.isnan(value))
