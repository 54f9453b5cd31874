"""Hashes of rows by value: the same in any process, on any engine, for any release.

Format 1. A row is mix(sum over the columns of hash(cell, seed 0) * (xxh3_64(name, seed) | 1), seed) modulo 2**64: the
order of columns has no say. `stats.hashes` says what mix and the hash of a cell are: int 3, float 3.0 and decimal 3 are
equal, and so are a date and the timestamp at its midnight, or a dictionary column and the plain one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import xxhash

from shardwise.core.errors import SchemaError
from shardwise.data.blocks import are_blocks, float_blocks
from shardwise.stats.arrays import is_text, plain, used_words
from shardwise.stats.hashes import HASH_FORMAT, hash_column, hash_numbers, mix

__all__ = ["HASH_FORMAT", "HashedBatch", "column_salt", "combine", "hash_column", "hash_rows"]


@dataclass(frozen=True)
class HashedBatch:
    """A batch whose strings are dictionaries, and the hashes uint64 `(rows,)` of each column's cells.

    Both cost more than most of what is done with them, so that they are worked out once for the split and the profile.
    After `filter` a dictionary may hold words that no row has.
    """

    batch: pa.RecordBatch
    hashes: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> Self:
        """Dictionaries, without a word twice or null, are taken over. Raises `DataError` for nested columns."""
        columns = [_encoded(column) for column in batch.columns]
        encoded = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
        return cls(encoded, hash_columns(encoded, encoded.schema.names))

    def filter(self, kept: np.ndarray) -> Self:
        """The rows where `kept` bool `(rows,)` is true."""
        places = np.flatnonzero(kept)
        hashes = {name: hashed[places] for name, hashed in self.hashes.items()}
        return type(self)(self.batch.take(pa.array(places)), hashes)

    @classmethod
    def concat(cls, parts: Sequence[Self]) -> Self:
        """The rows of all parts, at least one, in order."""
        table = pa.Table.from_batches([part.batch for part in parts]).unify_dictionaries().combine_chunks()
        hashes = {name: np.concatenate([part.hashes[name] for part in parts]) for name in parts[0].hashes}
        return cls(table.to_batches()[0], hashes)


def _encoded(cells: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(cells.type) and cells.type.value_type == pa.string():
        return used_words(cells)
    cells = plain(cells)
    return cells.cast(pa.string()).dictionary_encode() if is_text(cells.type) else cells


def hash_columns(batch: pa.RecordBatch | pa.Table, names: Sequence[str]) -> dict[str, np.ndarray]:
    """`hash_column` of each of these columns; floats of a wide batch are hashed many columns at a time."""
    cells = [batch.column(name) for name in names]
    if isinstance(batch, pa.Table):
        cells = [column.combine_chunks() for column in cells]
    hashed: dict[int, np.ndarray] = {}
    if are_blocks(len(names), batch.num_rows):
        for places, matrix in float_blocks(cells):
            found = hash_numbers(matrix.reshape(-1)).reshape(matrix.shape)
            hashed |= dict(zip(places, found, strict=True))
    return {name: hashed[place] if place in hashed else hash_column(cells[place]) for place, name in enumerate(names)}


def hash_rows(
    batch: pa.RecordBatch | pa.Table,
    columns: Sequence[str],
    seed: int = 0,
    hashes: Mapping[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Hashes uint64 `(rows,)` of the rows by the values of `columns`, in whatever order these are named.

    `hashes` are those of the cells (seed 0) where they are known. Raises `SchemaError` when a column is missing.

    >>> batch = pa.record_batch({"a": [1, 2], "b": ["x", "y"]})
    >>> bool((hash_rows(batch, ["a", "b"]) == hash_rows(batch, ["b", "a"])).all())
    True
    """
    there = set(batch.schema.names)
    missing = [name for name in columns if name not in there]
    if missing:
        raise SchemaError(f"there is no column {missing[0]!r} to hash", hint=f"There are: {batch.schema.names}.")
    known = hashes or {}
    fresh = hash_columns(batch, [name for name in columns if name not in known])
    cells = {name: known[name] if name in known else fresh[name] for name in columns}
    return combine(cells, batch.num_rows, seed)


def combine(columns: Mapping[str, np.ndarray], rows: int, seed: int = 0) -> np.ndarray:
    """Row hashes from the cell hashes (seed 0) of named columns."""
    total, scratch = np.zeros(rows, dtype=np.uint64), np.empty(rows, dtype=np.uint64)
    for name, hashed in columns.items():
        np.multiply(hashed, column_salt(name, seed), out=scratch)
        np.add(total, scratch, out=total)
    return mix(total, seed)


def column_salt(name: str, seed: int = 0) -> np.uint64:
    """The odd factor by which the cell hashes of a column enter the row hash."""
    return np.uint64(xxhash.xxh3_64_intdigest(name.encode(), seed % 2**64) | 1)
