"""Arrow columns as NumPy numbers, and as state."""

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.errors import DataError
from shardwise.core.schema import parse_type
from shardwise.core.state import State

EXACT = 1 << 53  # float64 holds every integer up to here
_TICKS_US = {"s": 1_000_000, "ms": 1_000, "us": 1}


def filled(array: pa.Array) -> np.ndarray:
    """A column of numbers, booleans (uint8), or ticks of time `(rows,)` in its own width; nulls are 0.

    >>> filled(pa.array([1.5, None]))
    array([1.5, 0. ])
    """
    kind = array.type
    if pa.types.is_boolean(kind):
        array, stored = array.cast(pa.uint8()), pa.uint8()
    elif pa.types.is_temporal(kind):
        stored = pa.int32() if kind.bit_width == 32 else pa.int64()
        array = array.view(stored)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        stored = kind
    else:
        raise DataError(f"a column of type {kind} holds no numbers")
    if array.null_count:
        array = pc.fill_null(array, pa.scalar(0, stored))
    values: np.ndarray = array.to_numpy(zero_copy_only=False)
    return values


def microseconds(array: pa.Array) -> np.ndarray:
    """Int64 microseconds `(rows,)` of dates and timestamps (since 1970 UTC), times of day, durations; nulls are 0."""
    ticks = filled(array).astype(np.int64)
    if pa.types.is_date32(array.type):
        return ticks * (86_400 * 1_000_000)
    unit = "ms" if pa.types.is_date64(array.type) else array.type.unit
    return np.floor_divide(ticks, 1_000) if unit == "ns" else ticks * _TICKS_US[unit]


def decimal_floats(array: pa.Array) -> np.ndarray:
    """Float64 `(rows,)` nearest to each decimal; nulls are 0. Arrow's own cast is off by one in the last place."""
    kind = array.type
    plain = pc.fill_null(array, pa.scalar(Decimal(0), kind)) if array.null_count else array
    if 0 <= kind.scale <= 22:  # the quotient of two numbers that float64 holds is rounded once
        unscaled = _unscaled(plain)
        if unscaled is not None:
            quotients: np.ndarray = unscaled / 10.0**kind.scale
            return quotients
    return filled(pc.cast(pc.cast(plain, pa.string()), pa.float64()))


def _unscaled(decimals: pa.Array) -> np.ndarray | None:
    """The integers that are stored, int64; None when one is beyond float64's own integers."""
    width = decimals.type.byte_width
    words = np.frombuffer(decimals.buffers()[1] or b"", dtype=np.int32 if width == 4 else np.int64)
    words = words.reshape(-1, max(1, width // 8))[decimals.offset : decimals.offset + len(decimals)]
    low = words[:, 0].astype(np.int64)
    fits = low.max(initial=0) <= EXACT and low.min(initial=0) >= -EXACT and (words[:, 1:] == (low >> 63)[:, None]).all()
    return low if fits else None


def as_floats(array: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Float64 `(rows,)` of numbers, booleans, decimals, and of times in seconds; nulls are NaN.

    Raises `DataError` for a type that has no numbers.

    >>> as_floats(pa.array([True, None]))
    array([ 1., nan])
    """
    array = plain(array)
    if pa.types.is_null(array.type):
        return np.full(len(array), np.nan)
    if pa.types.is_decimal(array.type):
        numbers = decimal_floats(array)
    elif pa.types.is_temporal(array.type):
        numbers = microseconds(array) / 1e6
    else:
        numbers = filled(array).astype(np.float64)
    if array.null_count:
        numbers[array.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return numbers


def plain(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One array without a dictionary."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def used_words(cells: pa.DictionaryArray) -> pa.DictionaryArray:
    """The same cells, with a dictionary without words that no cell has.

    >>> used_words(pa.DictionaryArray.from_arrays([2, 2], ["a", "b", "c"])).dictionary.to_pylist()
    ['c']
    """
    places, words = filled(cells.indices.drop_null()), cells.dictionary
    counts = np.bincount(places, minlength=len(words))
    if not counts.all():
        used = np.flatnonzero(counts)
        renamed = np.zeros(len(words), dtype=np.int32)
        renamed[used] = np.arange(len(used), dtype=np.int32)
        words = words.take(pa.array(used))
        cells = pa.DictionaryArray.from_arrays(_renamed(cells.indices, renamed), words)
    return cells


def _renamed(indices: pa.Array, names: np.ndarray) -> pa.Array:
    if not indices.null_count:
        return pa.array(names[filled(indices)])
    return pa.array(names[filled(indices)], mask=indices.is_null().to_numpy(zero_copy_only=False))


def array_to_state(array: pa.Array) -> State:
    """Type, nulls and values of a column: the same bytes for the same values, whatever Arrow keeps under a null."""
    array = plain(array)
    state: State = {"type": str(array.type), "rows": len(array)}
    if pa.types.is_null(array.type):
        return state
    if array.null_count:
        state["nulls"] = np.packbits(array.is_null().to_numpy(zero_copy_only=False))
    if pa.types.is_decimal(array.type):
        array = array.cast(pa.string())
    if is_text(array.type):
        content = pc.fill_null(array.cast(pa.large_binary()), b"")
        ends = np.frombuffer(content.buffers()[1] or b"\0" * 8, dtype=np.int64)
        ends = ends[content.offset : content.offset + len(content) + 1]
        data = memoryview(content.buffers()[2] or b"")[ends[0] : ends[-1]] if len(content) else b""
        return state | {"lengths": narrow(np.diff(ends)), "bytes": bytes(data)}
    numbers = filled(array)
    return state | {"values": narrow(numbers) if numbers.dtype.kind in "iu" else numbers}


def array_from_state(state: State) -> pa.Array:
    """Inverse of `array_to_state`; a dictionary column comes back plain."""
    kind, rows = parse_type(state["type"]), state["rows"]
    if pa.types.is_null(kind):
        return pa.nulls(rows)
    nulls = np.unpackbits(state["nulls"], count=rows).astype(bool) if "nulls" in state else None
    if "lengths" in state:
        ends = np.concatenate([[0], np.cumsum(state["lengths"], dtype=np.int64)]).astype(np.int64)
        mask = None if nulls is None else pa.py_buffer(np.packbits(~nulls, bitorder="little"))
        text = pa.Array.from_buffers(pa.large_string(), rows, [mask, pa.py_buffer(ends), pa.py_buffer(state["bytes"])])
        return text.cast(kind)
    if pa.types.is_boolean(kind):
        return pa.array(state["values"], mask=nulls).cast(kind)
    stored = f"int{kind.bit_width}" if pa.types.is_temporal(kind) else kind.to_pandas_dtype()
    return pa.array(state["values"].astype(stored), mask=nulls).view(kind)


def narrow(values: np.ndarray) -> np.ndarray:
    """Whole numbers in as few bytes as they need, whether they come as integers or as floats."""
    if values.dtype.kind == "f" and np.abs(values).max(initial=0.0) < EXACT and (values == np.rint(values)).all():
        values = values.astype(np.int64)
    if values.dtype.kind not in "iu":
        return values
    ends = (int(values.min(initial=0)), int(values.max(initial=0)))
    narrow = np.result_type(*map(np.min_scalar_type, ends))
    return values.astype(narrow) if narrow.kind in "iu" else values


def is_text(kind: Any) -> bool:
    """Whether a type is one of Arrow's strings."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def sorted_runs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values in rising order, the distinct ones of them, and how often each occurs.

    Whole numbers that lie close together are counted instead of sorted, which is some times faster.

    >>> sorted_runs(np.array([7, 5, 7]))
    (array([5, 7, 7]), array([5, 7]), array([1, 2]))
    """
    if values.dtype.kind in "iu" and len(values):
        low = int(values.min())
        if int(values.max()) - low < 2 * len(values):
            # differences of narrow numbers may wrap round: without their sign they are right again
            offsets = (values - values.dtype.type(low)).view(f"u{values.dtype.itemsize}")
            counts = np.bincount(offsets.astype(np.intp))
            held = np.flatnonzero(counts)
            uniques, counts = held.astype(values.dtype) + values.dtype.type(low), counts[held]
            return np.repeat(uniques, counts), uniques, counts
    ordered = np.sort(values)
    return ordered, *runs(ordered)


def runs(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values of a sorted array and how often each occurs.

    >>> runs(np.array([1, 1, 5]))
    (array([1, 5]), array([2, 1]))
    """
    if not len(ordered):
        return ordered, np.zeros(0, dtype=np.int64)
    starts = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])
    return ordered[starts], np.diff(starts, append=len(ordered))
