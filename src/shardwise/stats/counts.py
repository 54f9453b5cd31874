"""How often each value occurs: exactly up to a number of values, then the heaviest with a bound on the error."""

from copy import copy
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.state import State
from shardwise.core.target import canonical
from shardwise.stats.arrays import array_from_state, array_to_state, plain

SHORT_BYTES = 256  # up to which a string is kept whatever the others
LONG_BYTES = 64  # of the longer ones, for each value of the capacity


class Counts:
    """Rows per value of a column; nulls and NaN are left out.

    Exact up to `capacity` distinct values. Beyond, the summary of Misra and Gries (1982) as merged by Agarwal et al.
    (2012, "Mergeable summaries"): the (capacity + 1)-th largest count is taken off all, and what is not above zero is
    dropped. A count is then too small by at most `error` rows, and a value that is not listed has at most `error` rows;
    `error` is below rows / capacity. Of strings longer than 256 bytes the heaviest are kept, as long as all of them
    together have at most 64 bytes for each value of the capacity; what is left out of them counts for the error.

    >>> counts = Counts("x")
    >>> counts.update(pa.record_batch({"x": ["b", "a", "b", None]}))
    >>> counts.top(), counts.error
    ([('b', 2), ('a', 1)], 0)
    """

    def __init__(self, column: str = "", *, capacity: int = 10_000) -> None:
        self.column = column
        self.capacity = capacity
        self.rows = 0
        self._error = 0
        self._values: list[pa.Array] = []  # distinct within a piece, not across pieces
        self._counts: list[np.ndarray] = []
        self._long_bytes = 0  # of the long strings among them
        self._top: list[tuple[str, int]] | None = None

    def update(self, batch: pa.RecordBatch) -> None:
        """Add the cells of the column."""
        cells = plain(batch.column(self.column))
        cells = cells.filter(pc.invert(pc.is_null(cells, nan_is_null=True)))
        if pa.types.is_floating(cells.type):
            cells = pc.add(cells, pa.scalar(0.0, cells.type))  # -0.0 becomes 0.0
        encoded = cells.dictionary_encode()
        self.add(encoded.dictionary, np.bincount(encoded.indices, minlength=len(encoded.dictionary)))

    def add(self, values: pa.Array, counts: np.ndarray) -> None:
        """Add distinct values, of one type throughout and without nulls, with the rows `(values,)` of each."""
        if not len(values):
            return
        self._top = None
        self.rows += int(counts.sum())
        values, counts, _ = self._fit_long(values, counts)
        values, counts = self._prune(values, counts)
        self._put(values, counts)

    def add_single(self, values: pa.Array) -> None:
        """Add distinct numbers, of one type throughout and without nulls, that have a row each."""
        self._top = None
        self.rows += len(values)
        if len(values) > self.capacity:  # none stays when a row is taken off all
            self._error += 1
        else:
            self._put(values, np.ones(len(values), dtype=np.int64))

    def copy(self) -> Self:
        other = copy(self)
        other._values, other._counts = list(self._values), list(self._counts)
        return other

    def merge(self, other: Self) -> None:
        self._top = None
        self.rows += other.rows
        self._error += other._error
        for values, counts in zip(other._values, other._counts, strict=True):
            self._put(values, counts)

    def _put(self, values: pa.Array, counts: np.ndarray) -> None:
        if len(values):
            self._values.append(values)
            self._counts.append(counts)
            self._long_bytes += int(_long(values).sum()) if pa.types.is_string(values.type) else 0
        if sum(map(len, self._counts)) > 2 * self.capacity or self._long_bytes > 2 * LONG_BYTES * self.capacity:
            self._settle()

    def _settle(self) -> None:
        """Add up the pieces; at most `capacity` values remain."""
        if len(self._values) > 1:
            encoded = pa.concat_arrays(self._values).dictionary_encode()
            weights = np.concatenate(self._counts).astype(np.float64)  # exact up to 2**53 rows
            sums = np.bincount(encoded.indices, weights=weights, minlength=len(encoded.dictionary)).astype(np.int64)
            values, counts = self._prune(encoded.dictionary, sums)
            values, counts, self._long_bytes = self._fit_long(values, counts)
            self._values, self._counts = [values], [counts]

    def _prune(self, values: pa.Array, counts: np.ndarray) -> tuple[pa.Array, np.ndarray]:
        if len(counts) <= self.capacity:
            return values, counts
        spent = 1  # most often: values that occur but once
        if np.count_nonzero(counts > 1) > self.capacity:
            place = len(counts) - self.capacity - 1
            spent = int(np.partition(counts, place)[place])
        self._error += spent
        kept = np.flatnonzero(counts > spent)
        return values.take(pa.array(kept)), counts[kept] - spent

    def _fit_long(self, values: pa.Array, counts: np.ndarray) -> tuple[pa.Array, np.ndarray, int]:
        """Without the lightest of the long strings, where these are too many bytes; and how many are left."""
        if not pa.types.is_string(values.type):
            return values, counts, 0
        sizes = _long(values)
        if sizes.sum() <= LONG_BYTES * self.capacity:
            return values, counts, int(sizes.sum())
        long = np.flatnonzero(sizes)
        long = long[np.argsort(-counts[long], kind="stable")]
        fits = np.cumsum(sizes[long]) <= LONG_BYTES * self.capacity
        gone = long[~fits]
        self._error += int(counts[gone].max())
        kept = np.ones(len(counts), dtype=bool)
        kept[gone] = False
        return values.filter(pa.array(kept)), counts[kept], int(sizes[kept].sum())

    @property
    def error(self) -> int:
        """Rows by which a count can be too small, and the most that a value has that is not listed."""
        self._settle()
        return self._error

    @property
    def is_exact(self) -> bool:
        """Whether all values are there with all of their rows."""
        return self.error == 0

    def __len__(self) -> int:
        """Values that are kept."""
        self._settle()
        return sum(map(len, self._counts))

    def values(self) -> tuple[pa.Array, np.ndarray]:
        """The values that are kept, in rising order, and the rows of each."""
        self._settle()
        if not self._values:
            return pa.nulls(0), np.zeros(0, dtype=np.int64)
        if _is_rising(self._values[0]):
            return self._values[0], self._counts[0]
        order = pc.sort_indices(self._values[0])
        return self._values[0].take(order), self._counts[0][order.to_numpy()]

    def top(self) -> list[tuple[str, int]]:
        """All values that are kept under their canonical spelling, by falling count, then by spelling."""
        if self._top is None:
            values, counts = self.values()
            texts = canonical(values).to_pylist()
            self._top = sorted(zip(texts, counts.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
        return self._top

    def result(self) -> list[tuple[str, int]]:
        return self.top()

    def state(self) -> State:
        values, counts = self.values()
        return {
            "column": self.column,
            "capacity": self.capacity,
            "rows": self.rows,
            "error": self._error,  # after `values` has settled it
            "values": array_to_state(values),
            "counts": counts.astype(np.min_scalar_type(int(counts.max(initial=0)))),
        }

    @classmethod
    def from_state(cls, state: State) -> Self:
        restored = cls(state["column"], capacity=state["capacity"])
        restored.rows, restored._error = state["rows"], state["error"]
        restored._put(array_from_state(state["values"]), state["counts"].astype(np.int64))
        return restored


def _long(values: pa.Array) -> np.ndarray:
    """Int64 `(values,)`: bytes of the strings that are long, else 0."""
    sizes = pc.binary_length(values).to_numpy().astype(np.int64)
    return np.where(sizes > SHORT_BYTES, sizes, 0)


def _is_rising(values: pa.Array) -> bool:
    """Whether numbers are in order already, as they mostly come; of other types it is not looked at."""
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        return False
    numbers = values.to_numpy()
    return bool((numbers[1:] > numbers[:-1]).all())
