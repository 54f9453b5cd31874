"""Keys that can be put in order: numbers and dates as float64, strings by their bytes; and bounds as they are typed."""

import datetime
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.errors import ConfigError, SchemaError
from shardwise.stats.arrays import as_floats, microseconds, plain

NUMBER, INSTANT, TEXT = "number", "instant", "text"
_EPOCH = datetime.datetime(1970, 1, 1)
_PREFIX = 8  # bytes that are compared at once


def order_of(kind: pa.DataType, column: str) -> str:
    """How keys of a type are put in order; raises `SchemaError` for a type that has none."""
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return INSTANT
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return TEXT
    if pa.types.is_dictionary(kind):
        return order_of(kind.value_type, column)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return NUMBER
    raise SchemaError(f"column {column!r} is {kind}: its values have no ranges",
                      hint="Give numbers, dates or strings a range; everything has a hash and a value.")  # fmt: skip


def as_order(array: pa.Array, order: str) -> np.ndarray:
    """Float64 `(rows,)` in the order of the keys; instants as microseconds since 1970 (UTC), nulls as NaN."""
    array = plain(array)
    if order == NUMBER:
        return as_floats(array)
    instants = microseconds(array).astype(np.float64)
    if array.null_count:
        instants[array.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return instants


def parse_bound(text: str, order: str, column: str) -> float | str:
    """A bound that was typed, in the order of the keys; raises `ConfigError` for one of another type."""
    if order == TEXT:
        return text
    try:
        if order == NUMBER:
            return float(text)
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        what = "a number" if order == NUMBER else "a date"
        example = "500" if order == NUMBER else "2013-06-01 or 2013-06-01 08:00"
        said = f"bound {text!r} is not {what}, and column {column!r} holds {what.split()[1]}s"
        raise ConfigError(said, hint=f"Write it like {example}.") from None
    if moment.tzinfo is not None:
        moment = moment.astimezone(datetime.UTC).replace(tzinfo=None)
    return float((moment - _EPOCH) // datetime.timedelta(microseconds=1))


def show_bound(bound: float | str, order: str) -> str:
    """A bound for people.

    >>> show_bound(500.0, NUMBER), show_bound(86_400e6, INSTANT), show_bound("b", TEXT)
    ('500', '1970-01-02', 'b')
    """
    if isinstance(bound, str):
        return bound
    if order == INSTANT:
        moment = _EPOCH + datetime.timedelta(microseconds=int(bound))
        return moment.date().isoformat() if moment.time() == datetime.time() else moment.isoformat(sep=" ")
    return f"{bound:.10g}"


def search_texts(bounds: Sequence[str], values: pa.Array) -> np.ndarray:
    """How many `bounds` (rising) are at or below each string, int64 `(values,)`; by bytes, as Arrow and DuckDB sort.

    The first bytes after what all bounds begin with are compared as numbers; only where these are equal, and for values
    that begin otherwise, the whole strings are.

    >>> search_texts(["b", "bb"], pa.array(["a", "b", "ba", "bb", "c"])).tolist()
    [0, 1, 1, 2, 2]
    """
    known = sorted(bound.encode() for bound in bounds)
    shared = _common(known)
    content = pc.cast(values, pa.large_binary())
    marks, heads = _heads(pa.array(known, pa.large_binary()), len(shared)), _heads(content, len(shared))
    low, high = np.searchsorted(marks, heads, "left"), np.searchsorted(marks, heads, "right")
    unclear = low != high
    if shared:
        unclear |= ~pc.starts_with(content, shared).to_numpy(zero_copy_only=False)
    found = low.astype(np.int64)
    places = np.flatnonzero(unclear)
    if len(places):
        found[places] = [_count_at_most(known, value) for value in content.take(pa.array(places)).to_pylist()]
    return found


def _common(known: Sequence[bytes]) -> bytes:
    """What all of some sorted strings begin with."""
    if not known:
        return b""
    first, last = known[0], known[-1]
    differ = next(
        (place for place, letter in enumerate(first) if last[place : place + 1] != bytes([letter])), len(first)
    )
    return first[:differ]


def _count_at_most(known: Sequence[bytes], value: bytes) -> int:
    low, high = 0, len(known)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if known[middle] <= value else (low, middle)
    return low


def _heads(content: pa.Array, start: int) -> np.ndarray:
    """The `_PREFIX` bytes from `start` on of each value as a big-endian number uint64, zeros where it ends."""
    rows = len(content)
    ends = np.frombuffer(content.buffers()[1] or b"\0" * 8, dtype=np.int64)[content.offset : content.offset + rows + 1]
    data = np.frombuffer(content.buffers()[2] or b"\0", dtype=np.uint8)
    heads = np.zeros(rows, dtype=np.uint64)
    if not rows:
        return heads
    for place in range(start, start + _PREFIX):
        where = ends[:-1] + place
        inside = where < ends[1:]
        letters = np.where(inside, data[np.minimum(where, len(data) - 1)], 0).astype(np.uint64)
        heads = (heads << np.uint64(8)) | letters
    return heads
