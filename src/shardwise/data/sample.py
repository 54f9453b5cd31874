"""A uniform sample of rows that is bounded, mergeable and the same whatever the batches were."""

from copy import copy
from typing import Self

import numpy as np
import pyarrow as pa

from shardwise.core.state import State
from shardwise.stats.arrays import array_from_state, array_to_state, plain
from shardwise.stats.hashes import mix


class RowSample:
    """The `capacity` rows with the smallest keys; a key is mix(row hash + number of the row in its partition).

    The number is in it so that equal rows are drawn one by one. All rows whose key is below a bound are in the sample,
    and a merge takes the smaller bound, so a sample of partitions is a sample of the whole even when their capacities
    differ: a partition that holds a tenth of the rows needs little more than a tenth of the capacity.
    """

    def __init__(self, schema: pa.Schema, *, capacity: int) -> None:
        self.schema = schema
        self.capacity = capacity
        self.seen = 0  # rows offered
        self._below: int | None = None  # None: all rows are kept
        self._keys: list[np.ndarray] = []
        self._rows: list[pa.Table] = []

    def add(self, batch: pa.RecordBatch, hashes: np.ndarray) -> None:
        """Offer the rows of a batch with the columns of `schema`, and their hashes uint64 `(rows,)`.

        Strings may come as dictionaries.
        """
        keys = mix(hashes + np.arange(self.seen, self.seen + len(hashes), dtype=np.uint64))
        self.seen += len(hashes)
        if len(keys) > self.capacity:  # what cannot stay is not copied
            bound = int(np.partition(keys, self.capacity)[self.capacity])
            self._below = bound if self._below is None else min(bound, self._below)
        if self._below is not None:
            chosen = np.flatnonzero(keys < np.uint64(self._below))
            if not len(chosen):
                return
            keys, batch = keys[chosen], batch.take(pa.array(chosen))
        self._keys.append(keys)
        cells = [plain(column).cast(kind) for column, kind in zip(batch.columns, self.schema.types, strict=True)]
        self._rows.append(pa.table(cells, schema=self.schema))
        if self._held() >= 2 * self.capacity:
            self._settle()

    def copy(self) -> Self:
        other = copy(self)
        other._keys, other._rows = list(self._keys), list(self._rows)
        return other

    def merge(self, other: Self) -> None:
        other._settle()
        self.seen += other.seen
        if other._below is not None:
            self._below = min(other._below, other._below if self._below is None else self._below)
        self._keys += other._keys
        self._rows += other._rows
        if self._held() >= 2 * self.capacity:
            self._settle()

    def _held(self) -> int:
        return sum(map(len, self._keys))

    def _settle(self) -> None:
        """Rows in the order of their keys, those under the bound, at most `capacity` of them."""
        if not self._keys:
            return
        keys = np.concatenate(self._keys)
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        kept = len(keys) if self._below is None else int(np.searchsorted(ordered, np.uint64(self._below)))
        if kept > self.capacity:
            kept, self._below = self.capacity, int(ordered[self.capacity])
        rows = pa.concat_tables(self._rows).take(pa.array(order[:kept])).combine_chunks()
        self._keys, self._rows = [ordered[:kept]], [rows]

    def table(self) -> pa.Table:
        """The rows of the sample in random but fixed order."""
        self._settle()
        return self._rows[0] if self._rows else self.schema.empty_table()

    def state(self) -> State:
        table = self.table()
        return {
            "capacity": self.capacity,
            "seen": self.seen,
            "below": self._below,
            "keys": self._keys[0] if self._keys else np.empty(0, dtype=np.uint64),
            "columns": [array_to_state(plain(column)) for column in table.columns],
        }

    @classmethod
    def from_state(cls, schema: pa.Schema, state: State) -> Self:
        sample = cls(schema, capacity=state["capacity"])
        sample.seen, sample._below = state["seen"], state["below"]
        if len(state["keys"]):
            arrays = [array_from_state(column) for column in state["columns"]]
            sample._keys = [state["keys"]]
            sample._rows = [pa.table(dict(zip(schema.names, arrays, strict=True))).cast(schema)]
        return sample
