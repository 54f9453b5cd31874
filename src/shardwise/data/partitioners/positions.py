"""By the place of a row in the data: in turn, at random, or in stretches of rows, bytes or cost."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa

from shardwise.data.partitioners.base import check_count, row_numbers, row_places
from shardwise.stats.hashes import mix


class RoundRobin:
    """One row to each partition in turn, beginning anew one further on in each partition of the source.

    >>> RoundRobin(3).assign(pa.record_batch({"x": [1, 2, 3, 4]}), 1).tolist()
    [1, 2, 0, 1]
    """

    kind = "roundrobin"
    columns: tuple[str, ...] = ()

    def __init__(self, count: int) -> None:
        self.count = check_count(count)

    def assign(self, batch: pa.RecordBatch, first_row: int) -> np.ndarray:
        """Partition numbers int32 `(rows,)`."""
        return (row_places(batch.num_rows, first_row) % self.count).astype(np.int32)

    def label(self, number: int) -> str:
        return f"turn {number}"

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "count": self.count}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(content["count"])


class Random:
    """Drawn for each row number by the seed: a uniform shuffle into partitions, the same in each run.

    >>> Random(3, seed=7).assign(pa.record_batch({"x": [1, 2, 3, 4]}), 0).tolist()
    [2, 0, 2, 1]
    """

    kind = "random"
    columns: tuple[str, ...] = ()

    def __init__(self, count: int, *, seed: int = 0) -> None:
        self.count = check_count(count)
        self.seed = seed

    def assign(self, batch: pa.RecordBatch, first_row: int) -> np.ndarray:
        """Partition numbers int32 `(rows,)`."""
        hashes = mix(row_numbers(batch.num_rows, first_row).astype(np.uint64), self.seed)
        return (hashes % np.uint64(self.count)).astype(np.int32)

    def label(self, number: int) -> str:
        return f"drawn {number}"

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "count": self.count, "seed": self.seed}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(content["count"], seed=content["seed"])


class Stretches:
    """Consecutive rows: partition i ends before row number `cuts[i]`, the last one holds the rest.

    `cuts` rise; they are planned by `partitioners.lengths` so that each stretch has its rows, bytes or cost.

    >>> Stretches([2, 3], name="rows").assign(pa.record_batch({"x": [1, 2, 3, 4]}), 0).tolist()
    [0, 0, 1, 2]
    """

    kind = "stretches"
    columns: tuple[str, ...] = ()

    def __init__(self, cuts: Sequence[int], *, name: str = "rows", first: int = 0) -> None:
        self.cuts = np.asarray(cuts, dtype=np.int64)
        self.first = first  # the number of the first stretch: those below were written before
        self.count = check_count(first + len(cuts) + 1)
        self.name = name

    def assign(self, batch: pa.RecordBatch, first_row: int) -> np.ndarray:
        """Partition numbers int32 `(rows,)`."""
        numbers = row_numbers(batch.num_rows, first_row)
        return (self.first + np.searchsorted(self.cuts, numbers, side="right")).astype(np.int32)

    def label(self, number: int) -> str:
        return f"{self.name}, stretch {number}"

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "cuts": self.cuts.tolist(), "name": self.name, "first": self.first}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(content["cuts"], name=content["name"], first=content["first"])


class ByPiece:
    """All rows of source partition i go to partition `numbers[i]`: for files whose partition is known already.

    >>> ByPiece([4, 2]).assign(pa.record_batch({"x": [1, 2]}), 1 << 40).tolist()
    [2, 2]
    """

    kind = "bypiece"
    columns: tuple[str, ...] = ()

    def __init__(self, numbers: Sequence[int]) -> None:
        self.numbers = tuple(numbers)
        self.count = check_count(max(self.numbers, default=0) + 1)

    def assign(self, batch: pa.RecordBatch, first_row: int) -> np.ndarray:
        """Partition numbers int32 `(rows,)`."""
        return np.full(batch.num_rows, self.numbers[first_row >> 40], dtype=np.int32)

    def label(self, number: int) -> str:
        return f"partition {number}"

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "numbers": list(self.numbers)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(content["numbers"])
