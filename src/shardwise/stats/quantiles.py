"""Quantiles in one pass: a deterministic, mergeable sketch of sorted samples."""

import math
from copy import copy
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa

from shardwise.core.state import State
from shardwise.stats.arrays import as_floats


class Thinned(NamedTuple):
    """Of sorted numbers `(..., rows)`: those that stand for one row each, and `values`, each for 2**level rows."""

    level: int
    single: np.ndarray
    values: np.ndarray

    def of(self, row: int) -> "Thinned":
        return Thinned(self.level, self.single[row], self.values[row])


def thinned(values: np.ndarray, capacity: int) -> Thinned:
    """What a sketch keeps of numbers `(..., rows)` in rising order, rows > 0: at most about `capacity` of them."""
    rows = values.shape[-1]
    level = max(0, math.ceil(math.log2(rows / capacity)))
    step = 1 << level
    rest = rows % step
    if not level:
        return Thinned(0, values[..., :0], values)
    # What does not fill a step is taken from evenly spread ranks, so that it leans to neither side.
    spread = ((np.arange(rest) + 0.5) * (rows / max(1, rest))).astype(np.int64)
    others = np.delete(values, spread, axis=-1) if rest else values
    return Thinned(level, values[..., spread], others[..., step // 2 :: step])


class Quantiles:
    """Quantiles of a column of numbers; missing and infinite values are left out.

    Level h holds at most `capacity` values, each of which stands for 2**h rows. A full level is sorted and every second
    value moves up, first the even ranks, next time the odd ones, and so on (Manku, Rajagopalan and Lindsay 1998; KLL of
    Karnin, Lang and Liberty 2016 draws lots instead). Nothing is random: the same batches give the same bytes. A large
    batch enters at the level where it fits, as every 2**h-th of its sorted values.

    It is exact up to `capacity` values; from then on the rank of an answer is off by at most `rank_error()`, usually by
    a tenth of that. `minimum` and `maximum` are always exact.

    >>> quantiles = Quantiles("x")
    >>> quantiles.update(pa.record_batch({"x": list(range(101))}))
    >>> quantiles.at(np.array([0.0, 0.25, 1.0]))
    array([  0.,  25., 100.])
    """

    def __init__(self, column: str = "", *, capacity: int = 1024) -> None:
        self.column = column
        self.capacity = capacity
        self.count = 0
        self.minimum, self.maximum = math.inf, -math.inf
        self._levels: list[list[np.ndarray]] = [[]]  # pieces, not merged until the level is full
        self._sizes: list[int] = [0]
        self._odd: list[bool] = [False]
        self._error = 0.0  # rows by which a rank can be off

    def update(self, batch: pa.RecordBatch) -> None:
        """Add the column's finite values; raises `DataError` when it holds no numbers."""
        values = as_floats(batch.column(self.column))
        self.add_sorted(np.sort(values[np.isfinite(values)]))

    def add_sorted(self, values: np.ndarray) -> None:
        """Add finite numbers `(rows,)` in rising order, of any width."""
        if len(values):
            self.add_thinned(len(values), (float(values[0]), float(values[-1])), thinned(values, self.capacity))

    def add_thinned(self, rows: int, ends: tuple[float, float], kept: "Thinned") -> None:
        """Add `rows` > 0 finite numbers from `ends[0]` to `ends[1]` of which `kept` is what `thinned` left."""
        self.count += rows
        self.minimum, self.maximum = min(self.minimum, ends[0]), max(self.maximum, ends[1])
        if kept.level:
            self._error += (1 << kept.level) / 2
            self._put(0, kept.single)
        self._put(kept.level, kept.values)
        self._compact()

    def copy(self) -> Self:
        other = copy(self)
        other._levels = [list(pieces) for pieces in self._levels]
        other._sizes, other._odd = list(self._sizes), list(self._odd)
        return other

    def _put(self, level: int, values: np.ndarray) -> None:
        while len(self._levels) <= level:
            self._levels.append([])
            self._sizes.append(0)
            self._odd.append(False)
        if len(values):
            self._levels[level].append(values.astype(np.float64))
            self._sizes[level] += len(values)

    def _compact(self) -> None:
        level = 0
        while level < len(self._levels):
            if self._sizes[level] > self.capacity:
                values = np.sort(np.concatenate(self._levels[level]))
                keep = values[len(values) - len(values) % 2 :]  # of an odd number the largest stays
                paired = values[: len(values) - len(keep)]
                self._levels[level], self._sizes[level] = [keep] if len(keep) else [], len(keep)
                self._put(level + 1, paired[int(self._odd[level]) :: 2])
                self._odd[level] = not self._odd[level]
                self._error += 1 << level
            level += 1

    def merge(self, other: Self) -> None:
        for level, pieces in enumerate(other._levels):
            for values in pieces:
                self._put(level, values)
        self.count += other.count
        self._error += other._error
        self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        self._compact()

    def at(self, ranks: np.ndarray) -> np.ndarray:
        """Values float64 `(ranks,)` at `ranks` in [0, 1], linear in between as `numpy.quantile`; NaN without values."""
        if not self.count:
            return np.full(len(ranks), np.nan)
        values, weights = self.weighted()
        if weights[-1] == 1 and weights[0] == 1 and len(values) == self.count:
            exact: np.ndarray = np.quantile(values, ranks)
            return exact
        centres = np.cumsum(weights) - weights / 2
        positions = np.concatenate([[0.0], centres, [float(self.count)]])
        heights = np.concatenate([[self.minimum], values, [self.maximum]])
        found: np.ndarray = np.interp(np.asarray(ranks, dtype=np.float64) * self.count, positions, heights)
        return found

    def shares(self, values: np.ndarray) -> np.ndarray:
        """Share of the rows at or below each of `values`, float64 `(values,)`; NaN without rows. See `rank_error`."""
        if not self.count:
            return np.full(len(values), np.nan)
        kept, weights = self.weighted()
        below = np.concatenate([[0.0], np.cumsum(weights)])
        found: np.ndarray = below[np.searchsorted(kept, values, side="right")] / self.count
        found[values < self.minimum], found[values >= self.maximum] = 0.0, 1.0
        return found

    def rank_error(self) -> float:
        """Bound on how far the rank of an answer can be off, as a share of the rows."""
        coarsest = (1 << (len(self._levels) - 1)) / 2 if len(self._levels) > 1 else 0.0
        return (self._error + coarsest) / self.count if self.count else 0.0

    def values(self) -> np.ndarray:
        """Some real values of the column in rising order, with both extremes."""
        kept = [values for held in self._levels for values in held]
        return np.unique(np.concatenate([*kept, [self.minimum, self.maximum]])) if self.count else np.empty(0)

    def weighted(self) -> tuple[np.ndarray, np.ndarray]:
        """Values in rising order float64 `(kept,)`, and the rows that each stands for; together they are all rows."""
        if not self.count:
            return np.empty(0), np.empty(0)
        pieces = [(values, 1 << level) for level, held in enumerate(self._levels) for values in held]
        values = np.concatenate([values for values, _ in pieces])
        weights = np.concatenate([np.full(len(values), weight, dtype=np.float64) for values, weight in pieces])
        order = np.argsort(values, kind="stable")
        return values[order], weights[order]

    def result(self) -> np.ndarray:
        """The percentiles 0, 1, ... 100."""
        return self.at(np.linspace(0.0, 1.0, 101))

    def state(self) -> State:
        levels = [np.sort(np.concatenate(held)) if held else np.empty(0) for held in self._levels]
        return {
            "column": self.column,
            "capacity": self.capacity,
            "count": self.count,
            "extremes": np.array([self.minimum, self.maximum]),
            "levels": [len(values) for values in levels],
            "values": np.concatenate(levels),
            "odd": np.array(self._odd, dtype=np.uint8),
            "error": self._error,
        }

    @classmethod
    def from_state(cls, state: State) -> Self:
        sketch = cls(state["column"], capacity=state["capacity"])
        ends = np.cumsum(state["levels"])
        sketch._put(len(ends) - 1, np.empty(0))
        for level, values in enumerate(np.split(state["values"], ends[:-1])):
            sketch._put(level, values)
        sketch.count, sketch._error = state["count"], state["error"]
        sketch._odd = [bool(odd) for odd in state["odd"]]
        sketch.minimum, sketch.maximum = (float(value) for value in state["extremes"])
        return sketch
