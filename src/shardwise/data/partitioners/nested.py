"""Several levels: each partition of the first is cut by the second, and so on."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import pyarrow as pa

from shardwise.data.base import Partitioner
from shardwise.data.partitioners.base import check_count


class Nested:
    """The number of a row counts through the levels, the last one fastest.

    >>> from shardwise.data.partitioners.positions import RoundRobin, Stretches
    >>> by = Nested([Stretches([2]), RoundRobin(2)])
    >>> by.assign(pa.record_batch({"x": [1, 2, 3, 4]}), 0).tolist(), by.label(3)
    ([0, 1, 2, 3], 'rows, stretch 1 / turn 1')
    """

    kind = "nested"

    def __init__(self, levels: Sequence[Partitioner]) -> None:
        self.levels = tuple(levels)
        self.columns = tuple(dict.fromkeys(name for level in self.levels for name in level.columns))
        self.count = check_count(prod(level.count for level in self.levels))

    def assign(self, batch: pa.RecordBatch, first_row: int) -> np.ndarray:
        """Partition numbers int32 `(rows,)`."""
        numbers = np.zeros(batch.num_rows, dtype=np.int32)
        for level in self.levels:
            numbers = numbers * np.int32(level.count) + level.assign(batch, first_row)
        return numbers

    def label(self, number: int) -> str:
        parts = []
        for level in reversed(self.levels):
            number, inner = divmod(number, level.count)
            parts.append(level.label(inner))
        return " / ".join(reversed(parts))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "levels": [level.to_json() for level in self.levels]}
