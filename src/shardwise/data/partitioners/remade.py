"""Remedies as partitioners: another one's partitions split or merged, and hot keys taken out of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from shardwise.data.base import Partitioner
from shardwise.data.hashing import hash_rows
from shardwise.data.partitioners.base import check_count, row_numbers
from shardwise.stats.hashes import mix

SALT_SEED = 0x5A17  # so that a salt has nothing to do with a random partition of the same rows


class Remapped:
    """Partition p of `base` becomes the `pieces[p]` partitions from `starts[p]` on; a row draws one by its number.

    With one piece each, partitions that share a start are merged.

    >>> from shardwise.data.partitioners.positions import Stretches
    >>> by = Remapped(Stretches([1, 2]), [0, 1, 1], [1, 1, 1])
    >>> by.assign(pa.record_batch({"x": [1, 2, 3]}), 0).tolist(), by.label(1)
    ([0, 1, 1], 'rows, stretch 1 and 1 more')
    """

    kind = "remapped"

    def __init__(self, base: Partitioner, starts: Sequence[int], pieces: Sequence[int]) -> None:
        self.base = base
        self.columns = base.columns
        self.starts, self.pieces = np.asarray(starts, dtype=np.int32), np.asarray(pieces, dtype=np.int32)
        self.count = check_count(int((self.starts + self.pieces).max()))

    def assign(self, batch: pa.RecordBatch, first_row: int) -> np.ndarray:
        """Partition numbers int32 `(rows,)`."""
        numbers = self.base.assign(batch, first_row)
        placed: np.ndarray = self.starts[numbers] + salts(batch.num_rows, first_row, self.pieces[numbers])
        return placed

    def label(self, number: int) -> str:
        here = np.flatnonzero((self.starts <= number) & (number < self.starts + self.pieces))
        if not len(here):
            return f"none {number}"
        first, pieces = int(here[0]), int(self.pieces[here[0]])
        text = self.base.label(first)
        if pieces > 1:
            return f"{text}, piece {number - int(self.starts[first])} of {pieces}"
        return f"{text} and {len(here) - 1} more" if len(here) > 1 else text

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "base": self.base.to_json(), "starts": self.starts.tolist(),
                "pieces": self.pieces.tolist()}  # fmt: skip


class HotKeys:
    """Rows of hot keys leave the partitions of `base` for partitions of their own behind these.

    keys     row hashes uint64 (`data.hashing`, seed 0) of the hot keys over `columns`
    pieces   partitions for each: 1 isolates a key, more salt it (a row draws one by its number)
    names    the keys, for people

    >>> from shardwise.data.partitioners.hashed import HashPartitioner
    >>> batch = pa.record_batch({"city": ["Rome"] * 4 + ["Oslo"]})
    >>> by = HotKeys(HashPartitioner(("city",), 1), ("city",), hash_rows(batch, ["city"])[:1], [2], ["Rome"])
    >>> by.assign(batch, 0).tolist(), by.label(2)
    ([1, 1, 2, 1, 0], 'city = Rome, salt 1 of 2')
    """

    kind = "hotkeys"

    def __init__(
        self, base: Partitioner, columns: Sequence[str], keys: np.ndarray, pieces: Sequence[int], names: Sequence[str]
    ) -> None:
        order = np.argsort(np.asarray(keys, dtype=np.uint64), kind="stable")
        self.base = base
        self.key = tuple(columns)
        self.columns = tuple(dict.fromkeys([*base.columns, *columns]))
        self.keys = np.asarray(keys, dtype=np.uint64)[order]
        self.pieces = np.asarray(pieces, dtype=np.int32)[order]
        self.names = [names[place] for place in order]
        self.starts = (base.count + np.cumsum(self.pieces) - self.pieces).astype(np.int32)
        self.count = check_count(base.count + int(self.pieces.sum()))

    def assign(self, batch: pa.RecordBatch, first_row: int) -> np.ndarray:
        """Partition numbers int32 `(rows,)`."""
        numbers = self.base.assign(batch, first_row)
        hashes = hash_rows(batch, self.key)
        places = np.minimum(np.searchsorted(self.keys, hashes), len(self.keys) - 1)
        drawn = self.starts[places] + salts(batch.num_rows, first_row, self.pieces[places])
        return np.where(self.keys[places] == hashes, drawn, numbers).astype(np.int32)

    def label(self, number: int) -> str:
        if number < self.base.count:
            return self.base.label(number)
        place = int(np.searchsorted(self.starts, number, side="right")) - 1
        name, pieces = f"{', '.join(self.key)} = {self.names[place]}", int(self.pieces[place])
        return f"{name}, salt {number - int(self.starts[place])} of {pieces}" if pieces > 1 else f"{name}, alone"

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "base": self.base.to_json(), "columns": list(self.key), "keys": self.keys.tolist(),
                "pieces": self.pieces.tolist(), "names": self.names}  # fmt: skip


def salts(rows: int, first_row: int, pieces: np.ndarray) -> np.ndarray:
    """A number int32 `(rows,)` below `pieces[row]` for each row, drawn by its number."""
    hashes = mix(row_numbers(rows, first_row).astype(np.uint64), SALT_SEED)
    return (hashes % pieces.astype(np.uint64)).astype(np.int32)


def load_remapped(content: Mapping[str, Any], base: Partitioner) -> Remapped:
    return Remapped(base, content["starts"], content["pieces"])


def load_hot_keys(content: Mapping[str, Any], base: Partitioner) -> HotKeys:
    keys = np.array(content["keys"], dtype=np.uint64)
    return HotKeys(base, content["columns"], keys, content["pieces"], content["names"])
