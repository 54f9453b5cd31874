"""Hashes of rows by value: the same in any process, on any engine, for any release.

Format 1. A row is mix(sum over the columns of hash(cell, seed 0) * (xxh3_64(name, seed) | 1), seed) modulo 2**64: the
order of columns has no say. `stats.hashes` says what mix and the hash of a cell are: int 3, float 3.0 and decimal 3 are
equal, and so are a date and the timestamp at its midnight, or a dictionary column and the plain one.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import xxhash

from shardwise.core.errors import SchemaError
from shardwise.stats.hashes import HASH_FORMAT, hash_column, mix

__all__ = ["HASH_FORMAT", "column_salt", "combine", "hash_column", "hash_rows"]


def hash_rows(batch: pa.RecordBatch | pa.Table, columns: Sequence[str], seed: int = 0) -> np.ndarray:
    """Hashes uint64 `(rows,)` of the rows by the values of `columns`, in whatever order these are named.

    Raises `SchemaError` when a column is missing.

    >>> batch = pa.record_batch({"a": [1, 2], "b": ["x", "y"]})
    >>> bool((hash_rows(batch, ["a", "b"]) == hash_rows(batch, ["b", "a"])).all())
    True
    """
    missing = [name for name in columns if name not in batch.schema.names]
    if missing:
        raise SchemaError(f"there is no column {missing[0]!r} to hash", hint=f"There are: {batch.schema.names}.")
    return combine({name: hash_column(batch.column(name)) for name in columns}, batch.num_rows, seed)


def combine(columns: Mapping[str, np.ndarray], rows: int, seed: int = 0) -> np.ndarray:
    """Row hashes from the cell hashes (seed 0) of named columns."""
    total = np.zeros(rows, dtype=np.uint64)
    for name, hashed in columns.items():
        total += hashed * column_salt(name, seed)
    return mix(total, seed)


def column_salt(name: str, seed: int = 0) -> np.uint64:
    """The odd factor by which the cell hashes of a column enter the row hash."""
    return np.uint64(xxhash.xxh3_64_intdigest(name.encode(), seed % 2**64) | 1)
