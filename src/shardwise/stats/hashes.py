"""Hashes of cells by value: the same in any process, on any engine, for any release.

Format 1. All arithmetic is on unsigned 64-bit integers, modulo 2**64.

| cell                               | hash of a cell, with `seed` s                                    |
|------------------------------------|------------------------------------------------------------------|
| number (any width, float, decimal) | mix(bits of the value as float64, -0.0 as 0.0)                   |
| integer that float64 cannot hold   | mix(two's complement of the integer, XOR `INTEGER`)              |
| string, binary                     | xxh3_64 of the UTF-8 bytes, seeded with s                        |
| boolean                            | as the string `true` or `false`                                  |
| date, timestamp                    | mix(microseconds since 1970 UTC, XOR `INSTANT`); naive means UTC |
| time of day, duration              | mix(microseconds, XOR `SPAN`)                                    |
| null, NaN                          | mix(`NULL`)                                                      |

where mix(x) is the finaliser of SplitMix64 (Steele, Lea and Flood 2014) of x + (s + 1) * `GOLDEN`. So int 3, float 3.0
and decimal 3 are equal, a date equals the timestamp at its midnight, and a dictionary column equals the plain one.
Digits beyond float64 count in integers, not in fractions; nanoseconds are cut to microseconds.
"""

from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from shardwise.core.errors import DataError
from shardwise.stats.arrays import EXACT, decimal_floats, filled, microseconds

HASH_FORMAT = 1
GOLDEN = 0x9E3779B97F4A7C15
INTEGER = 0xA0761D6478BD642F
INSTANT = 0xE7037ED1A0B428DB
SPAN = 0x8EBC6AF09C88C6E3
NULL = 0x589965CC75374CC3
_MASK = (1 << 64) - 1
_BLOCK = 1 << 14


def mix(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """SplitMix64's finaliser, uint64 to uint64; a bijection for each seed. The argument is left alone."""
    hashed: np.ndarray = values + np.uint64((seed + 1) * GOLDEN & _MASK)
    for start in range(0, len(hashed), _BLOCK):  # all steps on a piece that stays in the processor's cache
        _mix_block(hashed[start : start + _BLOCK])
    return hashed


def _mix_block(hashed: np.ndarray) -> None:
    scratch = np.empty_like(hashed)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, None)):
        np.right_shift(hashed, np.uint64(shift), out=scratch)
        np.bitwise_xor(hashed, scratch, out=hashed)
        if factor is not None:
            np.multiply(hashed, np.uint64(factor), out=hashed)


def hash_column(array: pa.Array | pa.ChunkedArray, seed: int = 0) -> np.ndarray:
    """Hashes uint64 `(rows,)` of the cells by value; raises `DataError` for nested types.

    >>> bool((hash_column(pa.array([3, None])) == hash_column(pa.array([3.0, float("nan")]))).all())
    True
    """
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    kind = array.type
    if pa.types.is_dictionary(kind):
        words = array.dictionary
        hashes = hash_texts(words, seed) if _is_text(words.type) else hash_column(words, seed)
        hashed = take_hashes(hashes, array.indices, seed)
    elif _is_text(kind):
        encoded = array.dictionary_encode()
        return take_hashes(hash_texts(encoded.dictionary, seed), encoded.indices, seed)
    elif pa.types.is_boolean(kind):
        words = hash_texts(pa.array(["false", "true"]), seed)
        hashed = words[filled(array)]
    elif pa.types.is_null(kind):
        return np.full(len(array), _null(seed), dtype=np.uint64)
    elif pa.types.is_decimal(kind):
        hashed = _hash_decimals(array, seed)
    elif pa.types.is_temporal(kind):
        is_instant = pa.types.is_date(kind) or pa.types.is_timestamp(kind)
        hashed = hash_numbers(microseconds(array), INSTANT if is_instant else SPAN, seed=seed)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        hashed = hash_numbers(filled(array), seed=seed)
    else:
        raise DataError(f"values of type {kind} cannot be hashed", hint="Flatten nested columns, or leave them out.")
    return _with_nulls(hashed, array, seed)


def hash_texts(values: pa.Array, seed: int = 0) -> np.ndarray:
    """xxh3_64 of each string or binary value `(rows,)`; nulls as in `hash_column`."""
    contents = pc.cast(values, pa.large_binary())
    contents = pc.fill_null(contents, b"") if contents.null_count else contents
    hashes = map(xxhash.xxh3_64_intdigest, contents.to_pylist(), repeat(seed & _MASK))
    return _with_nulls(np.fromiter(hashes, dtype=np.uint64, count=len(values)), values, seed)


def hash_numbers(values: np.ndarray, salt: int = 0, *, seed: int = 0) -> np.ndarray:
    """Hashes of float64 values, of integers (by value), or of salted integers (instants and spans)."""
    if salt:
        return mix(values.view(np.uint64) ^ np.uint64(salt), seed)
    if values.dtype.kind == "f":
        numbers = values.astype(np.float64) + 0.0  # -0.0 becomes 0.0
        hashed = mix(numbers.view(np.uint64), seed)
        missing = np.isnan(numbers)
        if missing.any():
            hashed[missing] = _null(seed)
        return hashed
    hashed = mix(values.astype(np.float64).view(np.uint64), seed)
    if len(values) and (values.max() > EXACT or values.min() < -EXACT):
        inexact = ~_holds(values)
        hashed[inexact] = mix(values[inexact].astype(np.uint64) ^ np.uint64(INTEGER), seed)
    return hashed


def _holds(integers: np.ndarray) -> np.ndarray:
    """Whether float64 holds each integer exactly: no more than 53 bits from the first one to the last."""
    magnitude = np.where(integers < 0, -integers.astype(np.uint64), integers.astype(np.uint64))
    lowest = magnitude & -magnitude
    held: np.ndarray = (magnitude <= EXACT) | (magnitude // np.maximum(lowest, 1) <= EXACT)
    return held


def _hash_decimals(array: pa.Array, seed: int) -> np.ndarray:
    """By value: as float64, but whole ones beyond 2**53 as the integers that they are, so far as 64 bits hold them."""
    numbers = decimal_floats(array)
    hashed = hash_numbers(numbers, seed=seed)
    for row in np.flatnonzero(np.abs(numbers) >= EXACT):  # beyond float64's own integers: rare, so one by one
        value = array[int(row)].as_py()
        if value == int(value) and -(1 << 63) <= value < 1 << 64:
            integer = np.array([int(value)], dtype=np.int64 if value < 0 else np.uint64)
            hashed[row] = hash_numbers(integer, seed=seed)[0]
    return hashed


def take_hashes(hashed: np.ndarray, indices: pa.Array, seed: int = 0) -> np.ndarray:
    """Hashes uint64 `(rows,)` of the cells from those of the dictionary; an index that is null is a null cell."""
    if not len(hashed):
        return np.full(len(indices), _null(seed), dtype=np.uint64)
    return _with_nulls(hashed[filled(indices)], indices, seed)


def _with_nulls(hashed: np.ndarray, array: pa.Array, seed: int) -> np.ndarray:
    if array.null_count:
        hashed[array.is_null().to_numpy(zero_copy_only=False)] = _null(seed)
    return hashed


def _null(seed: int) -> Any:
    return mix(np.array([NULL], dtype=np.uint64), seed)[0]


def _is_text(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_string_view,
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_binary_view,
            pa.types.is_fixed_size_binary,
        )
    )
