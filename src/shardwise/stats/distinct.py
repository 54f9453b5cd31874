"""How many distinct values, and how many rows share theirs with another: bottom-k of the hashes, with counts."""

import math
from copy import copy
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.state import State
from shardwise.stats.arrays import runs
from shardwise.stats.hashes import hash_column

_HASHES = 2.0**64


class Distinct:
    """Distinct values of a column; nulls and NaN are left out.

    Keeps the `capacity` smallest hashes and how many rows have each: a sample of the distinct values with all of their
    rows (KMV, Bar-Yossef et al. 2002; theta, Dasgupta, Lang, Rhodes and Thaler 2016). Exact up to `capacity`
    distinct values; then the standard error of `estimate` is 1 / sqrt(capacity - 1), 1.6 % for 4096. `unique_share` is
    a mean over the sample: it is 1 whenever no value occurs twice. The state depends on the values alone, not on
    their order or on how they were split.

    >>> distinct = Distinct("x")
    >>> distinct.update(pa.record_batch({"x": ["a", "b", "a", None]}))
    >>> distinct.estimate, distinct.unique_share
    (2.0, 0.6666666666666666)
    """

    def __init__(self, column: str = "", *, capacity: int = 4096) -> None:
        self.column = column
        self.capacity = capacity
        self._below: int | None = None  # all hashes below are kept; None: all hashes
        self._hashes = np.empty(0, dtype=np.uint64)  # rising
        self._counts = np.empty(0, dtype=np.int64)
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []
        self._pending_size = 0

    def update(self, batch: pa.RecordBatch) -> None:
        """Add the cells of the column."""
        cells = batch.column(self.column)
        self.add(hash_column(cells.filter(pc.invert(pc.is_null(cells, nan_is_null=True)))))

    def add(self, hashes: np.ndarray, counts: np.ndarray | None = None) -> None:
        """Add hashes uint64 `(rows,)` of present cells; with `counts`, of different values and the rows of each."""
        if self._below is not None:
            small = hashes < np.uint64(self._below)
            hashes, counts = hashes[small], None if counts is None else counts[small]
        if counts is None:
            hashes, counts = runs(np.sort(hashes))
        if len(hashes) > self.capacity:  # most of a large batch is dropped before it is brought in order
            self._below = int(np.partition(hashes, self.capacity)[self.capacity])
            small = hashes < np.uint64(self._below)
            hashes, counts = hashes[small], counts[small]
        self._put(hashes, counts)

    def add_sorted(self, hashes: np.ndarray, counts: np.ndarray) -> None:
        """Add different hashes uint64 in rising order, with the rows of each."""
        if self._below is not None:
            hashes = hashes[: np.searchsorted(hashes, np.uint64(self._below))]
        if len(hashes) > self.capacity:
            self._below, hashes = int(hashes[self.capacity]), hashes[: self.capacity]
        first = not self._pending_size and not len(self._hashes)
        self._put(hashes, counts[: len(hashes)])
        if first and self._pending_size:  # in order already
            self._hashes, self._counts = (part.copy() for part in self._pending[-1])
            self._pending, self._pending_size = [], 0

    def _put(self, hashes: np.ndarray, counts: np.ndarray) -> None:
        self._pending.append((hashes, counts))
        self._pending_size += len(hashes)
        if self._pending_size > self.capacity:
            self._settle()

    def copy(self) -> Self:
        other = copy(self)
        other._pending = list(self._pending)
        return other

    def merge(self, other: Self) -> None:
        other._settle()
        if other._below is not None:
            self._settle()
            self._cut(min(other._below, self._below or other._below))
        self.add_sorted(other._hashes, other._counts)

    def _settle(self) -> None:
        """Bring what is pending in order; cut to the capacity."""
        if not self._pending_size:
            return
        hashes = np.concatenate([self._hashes, *(hashes for hashes, _ in self._pending)])
        counts = np.concatenate([self._counts, *(counts for _, counts in self._pending)])
        order = np.argsort(hashes)  # ties may fall as they like: their counts are added up
        self._hashes, lengths = runs(hashes[order])
        self._counts = np.add.reduceat(counts[order], np.cumsum(lengths) - lengths)
        self._pending, self._pending_size = [], 0
        if self._below is not None:
            self._cut(self._below)
        if len(self._hashes) > self.capacity:
            self._cut(int(self._hashes[self.capacity]))

    def _cut(self, below: int) -> None:
        kept = int(np.searchsorted(self._hashes, np.uint64(below)))
        self._below = below
        self._hashes, self._counts = self._hashes[:kept].copy(), self._counts[:kept].copy()

    @property
    def is_exact(self) -> bool:
        self._settle()
        return self._below is None

    @property
    def estimate(self) -> float:
        """Estimated number of distinct values."""
        self._settle()
        return float(len(self._hashes)) if self._below is None else len(self._hashes) * (_HASHES / self._below)

    @property
    def relative_error(self) -> float:
        """Standard error of `estimate`, relative to it."""
        return 0.0 if self.is_exact else 1.0 / math.sqrt(max(1, len(self._hashes) - 1))

    @property
    def unique_share(self) -> float:
        """Distinct values per row: 1.0 when each row has its own; NaN without rows."""
        self._settle()
        rows = int(self._counts.sum())
        return len(self._hashes) / rows if rows else math.nan

    def smallest(self, count: int) -> list[int]:
        """The smallest hashes, rising."""
        self._settle()
        return [int(value) for value in self._hashes[:count]]

    def result(self) -> float:
        return self.estimate

    def state(self) -> State:
        self._settle()
        return {
            "column": self.column,
            "capacity": self.capacity,
            "below": self._below,
            "hashes": self._hashes,
            "counts": self._counts.astype(np.min_scalar_type(int(self._counts.max(initial=0)))),
        }

    @classmethod
    def from_state(cls, state: State) -> Self:
        distinct = cls(state["column"], capacity=state["capacity"])
        distinct._below = state["below"]
        distinct._hashes, distinct._counts = state["hashes"], state["counts"].astype(np.int64)
        return distinct
