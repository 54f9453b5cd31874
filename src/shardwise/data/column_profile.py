"""The profile of one column: what its type says, what was counted, and what a person would notice."""

import math
from copy import copy
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.errors import DataError
from shardwise.core.schema import parse_type
from shardwise.core.state import State
from shardwise.data import flags
from shardwise.data.text_profile import TextProfile
from shardwise.stats.arrays import decimal_floats, filled, runs, sorted_runs
from shardwise.stats.counts import Counts
from shardwise.stats.distinct import Distinct
from shardwise.stats.hashes import hash_column
from shardwise.stats.moments import Moments
from shardwise.stats.quantiles import Quantiles

TEMPORAL = ("date", "timestamp", "time")
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_RAW = ("count", "null_cells", "nans", "infinities", "zeros", "negatives", "low", "high")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much is kept per column: values that are counted, values per level of the quantiles, hashes."""

    counts: int = 10_000
    quantiles: int = 1024
    distinct: int = 4096

    @classmethod
    def of(cls, columns: int, counts: int = 10_000) -> "Limits":
        """Less per column where there are many, so that the whole profile stays below some 200 MB.

        >>> Limits.of(30), Limits.of(10_000)
        (Limits(counts=10000, quantiles=1024, distinct=4096), Limits(counts=400, quantiles=128, distinct=400))
        """
        share = 4_000_000 // max(1, columns)
        quantiles = 1 << max(7, min(10, (share // 4).bit_length() - 1))
        return cls(counts=min(counts, max(256, share)), quantiles=quantiles, distinct=min(4096, max(256, share)))


@lru_cache(maxsize=1024)
def group_of(kind: pa.DataType) -> str:
    """`number`, `boolean`, `string`, `date`, `timestamp`, `time`, `decimal` or `null`; `DataError` for other types.

    >>> group_of(pa.int8()), group_of(pa.dictionary(pa.int8(), pa.string())), group_of(pa.date32())
    ('number', 'string', 'date')
    """
    types = pa.types
    if types.is_dictionary(kind):
        return group_of(kind.value_type)
    tests = {
        "number": types.is_integer(kind) or types.is_floating(kind),
        "boolean": types.is_boolean(kind),
        "string": types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind),
        "date": types.is_date(kind),
        "timestamp": types.is_timestamp(kind),
        "time": types.is_time(kind) or types.is_duration(kind),
        "decimal": types.is_decimal(kind),
        "null": types.is_null(kind),
    }
    for group, holds in tests.items():
        if holds:
            return group
    raise DataError(f"columns of type {kind} have no profile", hint="Flatten nested columns, or leave them out.")


class ColumnProfile:
    """Mergeable statistics of a column.

    `count` is rows, `nulls` is missing cells: null or, of floats, NaN (`nans` says how many of those). Extremes, mean,
    `std` and so on are of the finite values. Dates, timestamps and times of day have their numbers in seconds, since
    1970 UTC or since midnight; their `minimum` and `maximum` are Python dates and times.
    """

    def __init__(self, name: str, kind: pa.DataType, *, limits: Limits) -> None:
        self.name = name
        self.type = str(kind)
        self.group = group_of(kind)
        self.limits = limits
        self.count = self.null_cells = self.nans = self.infinities = self.zeros = self.negatives = 0
        self.low: Any = None  # as stored: a number, ticks of time, Decimal, string
        self.high: Any = None
        self.moments = Moments()
        self.sketch = Quantiles(capacity=limits.quantiles)
        self.counts = Counts(capacity=limits.counts)
        self.distincts = Distinct(capacity=limits.distinct)
        self.text = TextProfile(capacity=limits.quantiles)
        self._kind = kind.value_type if pa.types.is_dictionary(kind) else kind

    def update(self, cells: pa.Array, hashes: np.ndarray) -> int:
        """Add cells as a `HashedBatch` has them; returns their size in bytes as a plain Arrow column."""
        self.count += len(cells)
        self.null_cells += cells.null_count
        if self.group == "string":
            return self._add_texts(cells, hashes)
        if self.group == "null":
            return 0
        present = cells.drop_null() if cells.null_count else cells
        if self.group == "boolean":
            self._add_booleans(present)
        elif self.group == "decimal":
            self._add_decimals(present)
        else:
            self._add_numbers(filled(present), hashes)
        return int(cells.nbytes)

    def _add_texts(self, cells: pa.DictionaryArray, hashes: np.ndarray) -> int:
        words, places = cells.dictionary, filled(cells.indices.drop_null())
        if cells.null_count:
            hashes = hashes[cells.is_valid().to_numpy(zero_copy_only=False)]
        counts = np.bincount(places, minlength=len(words))
        word_hashes = np.zeros(len(words), dtype=np.uint64)
        word_hashes[places] = hashes
        if len(words) and not counts.all():
            used = np.flatnonzero(counts)
            words, counts, word_hashes = words.take(pa.array(used)), counts[used], word_hashes[used]
        if len(words):
            self.counts.add(words, counts)
            self.distincts.add(word_hashes, counts)
            self.text.add(words, counts)
            extremes = pc.min_max(words)
            self.stretch(extremes["min"].as_py(), extremes["max"].as_py())
        content = int(pc.binary_length(words).to_numpy() @ counts)
        return content + 4 * len(cells) + (-(-len(cells) // 8) if cells.null_count else 0)

    def _add_booleans(self, present: pa.Array) -> None:
        if len(present):
            ordered = np.sort(filled(present))
            self.stretch(bool(ordered[0]), bool(ordered[-1]))
            values, counts = runs(ordered)
            self._add_values(pa.array(values.astype(bool)), counts)
            self.zeros += int((ordered == 0).sum())
            self._add_ordered(ordered)

    def _add_decimals(self, present: pa.Array) -> None:
        if len(present):
            encoded = present.dictionary_encode()
            values, counts = encoded.dictionary, np.bincount(filled(encoded.indices), minlength=len(encoded.dictionary))
            extremes = pc.min_max(values)
            self.stretch(extremes["min"].as_py(), extremes["max"].as_py())
            self._add_values(values, counts)
            ordered = np.sort(np.repeat(decimal_floats(values), counts))
            self._add_signs(ordered)
            self._add_ordered(ordered)

    def _add_numbers(self, values: np.ndarray, hashes: np.ndarray) -> None:
        """Numbers and ticks of time: sorted once per batch, all else is read off the order."""
        if values.dtype.kind == "f":
            ordered = self._cut_ends(np.sort(values))
            uniques, counts = runs(ordered)
        else:
            ordered, uniques, counts = sorted_runs(values)
        if not len(ordered):
            return
        self.stretch(ordered[0].item(), ordered[-1].item())
        if len(ordered) == len(hashes) and len(uniques) * 4 > len(ordered):  # the hashes are there already
            self.counts.add(self._as_cells(uniques), counts)
            self.distincts.add(hashes)
        else:
            self._add_values(self._as_cells(uniques), counts)
        self._add_signs(ordered)
        self._add_ordered(ordered)

    def _cut_ends(self, ordered: np.ndarray) -> np.ndarray:
        """The finite ones of sorted floats, which end with inf and NaN; -0.0 becomes 0.0."""
        edges = np.array([-np.inf, np.inf], dtype=ordered.dtype)
        start, stop = int(np.searchsorted(ordered, edges[0], "right")), int(np.searchsorted(ordered, edges[1], "left"))
        known = int(np.searchsorted(ordered, edges[1], "right"))
        self.nans += len(ordered) - known
        self.infinities += start + known - stop
        finite: np.ndarray = ordered[start:stop] + ordered.dtype.type(0)
        return finite

    def _as_cells(self, values: np.ndarray) -> pa.Array:
        """Stored numbers as cells of the column's type."""
        cells = pa.array(values)
        return cells if cells.type == self._kind else cells.view(self._kind)

    def _add_values(self, values: pa.Array, counts: np.ndarray) -> None:
        self.counts.add(values, counts)
        self.distincts.add(hash_column(values), counts)

    def _add_signs(self, ordered: np.ndarray) -> None:
        below, above = (int(np.searchsorted(ordered, ordered.dtype.type(0), side)) for side in ("left", "right"))
        self.negatives += below
        self.zeros += above - below

    def _add_ordered(self, ordered: np.ndarray) -> None:
        numbers = ordered.astype(np.float64)
        if self.group in TEMPORAL:
            numbers /= _ticks_per_second(self._kind)
        self.moments.add(numbers)
        self.sketch.add_sorted(numbers)

    def stretch(self, low: Any, high: Any) -> None:
        """Between these are cells, both as stored."""
        self.low = low if self.low is None or low < self.low else self.low
        self.high = high if self.high is None or high > self.high else self.high

    def copy(self) -> Self:
        """One that is counted on by itself; what both hold is not copied."""
        other = copy(self)
        for part in ("moments", "sketch", "counts", "distincts", "text"):
            setattr(other, part, getattr(self, part).copy())
        return other

    def merge(self, other: Self) -> None:
        """Add the profile of other rows of the same column."""
        for name in ("count", "null_cells", "nans", "infinities", "zeros", "negatives"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.low is not None:
            self.stretch(other.low, other.high)
        self.moments.merge(other.moments)
        self.sketch.merge(other.sketch)
        self.counts.merge(other.counts)
        self.distincts.merge(other.distincts)
        self.text.merge(other.text)

    @property
    def nulls(self) -> int:
        """Missing cells: null or NaN."""
        return self.null_cells + self.nans

    @property
    def present(self) -> int:
        """Cells that are not missing."""
        return self.count - self.nulls

    @property
    def minimum(self) -> Any:
        """The smallest finite value as a Python value of the column's type; None without values."""
        return self._as_python(self.low)

    @property
    def maximum(self) -> Any:
        return self._as_python(self.high)

    def _as_python(self, stored: Any) -> Any:
        if stored is None or self.group not in TEMPORAL:
            return stored
        cell = pa.array([stored], pa.int32() if self._kind.bit_width == 32 else pa.int64()).view(self._kind)
        if not pa.types.is_date32(self._kind) and getattr(self._kind, "unit", "ms") == "ns":
            cell = pc.cast(cell, _in_microseconds(self._kind), safe=False)
        try:
            return cell[0].as_py()
        except (ValueError, OverflowError):  # beyond Python's calendar
            return pc.cast(cell, pa.string())[0].as_py()

    @property
    def mean(self) -> float:
        return self.moments.mean if self.moments.count else math.nan

    @property
    def std(self) -> float:
        return self.moments.std

    @property
    def skewness(self) -> float:
        return self.moments.skewness

    @property
    def kurtosis(self) -> float:
        return self.moments.kurtosis

    def quantiles(self, ranks: np.ndarray) -> np.ndarray:
        """Values float64 `(ranks,)` at ranks in [0, 1]; of times, and of strings that are dates, in seconds."""
        if self.time_format is not None and self.text.times:
            return self.text.times[self.time_format].at(ranks)
        return self.sketch.at(ranks)

    @property
    def distinct(self) -> float:
        """Distinct values, missing ones aside; an estimate beyond `limits.distinct`, see `distinct_error`."""
        return float(len(self.counts)) if self.counts.is_exact else self.distincts.estimate

    @property
    def distinct_error(self) -> float:
        """Standard error of `distinct`, relative to it."""
        return 0.0 if self.counts.is_exact else self.distincts.relative_error

    @property
    def unique_share(self) -> float:
        """Distinct values per present cell: 1.0 when no two are equal."""
        return self.distincts.unique_share

    @property
    def top(self) -> list[tuple[str, int]]:
        """The heaviest values under their canonical spelling, by falling count; all of them if `top_exact`."""
        return self.counts.top()

    @property
    def top_exact(self) -> bool:
        return self.counts.is_exact

    @property
    def top_error(self) -> int:
        """Rows by which a count can be too small, and the most that a value has that is not listed."""
        return self.counts.error

    @property
    def mean_length(self) -> float:
        """Characters per string."""
        return self.text.mean_length

    @property
    def mean_words(self) -> float:
        return self.text.mean_words

    @property
    def time_format(self) -> str | None:
        """The format in which every string of the column is a date, if there is exactly one."""
        return self.text.time_format

    @property
    def is_numeric_text(self) -> bool:
        """Whether every string reads as a number."""
        return self.group == "string" and self.text.count > 0 and self.text.is_numeric

    @property
    def is_constant(self) -> bool:
        """Whether there is one value at most, missing cells aside."""
        return self.present > 0 and self.infinities == 0 and self.distincts.is_exact and self.distincts.estimate <= 1

    @property
    def is_id_like(self) -> bool:
        """Whether nearly every cell has a value of its own that says no more than which row it is."""
        if self.group == "string":
            return flags.is_text_id(self.present, self.unique_share, self.mean_words)
        if not self.type.startswith(("int", "uint")) or self.low is None or self.time_hint is not None:
            return False
        return flags.is_integer_id(self.present, self.unique_share, self.high - self.low + 1)

    @property
    def is_time_like(self) -> bool:
        """Whether it holds dates or timestamps, as such or as text."""
        return self.group in ("date", "timestamp") or self.time_format is not None

    @property
    def time_hint(self) -> str | None:
        """What whole numbers look like that may be dates: `yyyymmdd`, `epoch s`, `epoch ms` ...; a hint, no more."""
        is_whole = self.type.startswith(("int", "uint")) and self.low is not None
        return flags.time_hint(self.low, self.high, self.sketch.values()) if is_whole else None

    @property
    def flags(self) -> tuple[str, ...]:
        """What a person would notice: `constant`, `id_like`, `time_like`, `numeric_text` ..., see `data.flags`."""
        return flags.flags_of(self)

    def state(self) -> State:
        raw = {name: getattr(self, name) for name in _RAW}
        if self.group == "decimal":
            raw |= {name: None if raw[name] is None else str(raw[name]) for name in ("low", "high")}
        state: State = {
            "raw": raw,
            "moments": self.moments.state(),
            "sketch": self.sketch.state(),
            "counts": self.counts.state(),
            "distincts": self.distincts.state(),
        }
        return state | ({"text": self.text.state()} if self.group == "string" else {})

    @classmethod
    def from_state(cls, name: str, kind: str, state: State, *, limits: Limits) -> Self:
        column = cls(name, parse_type(kind), limits=limits)
        for key, value in state["raw"].items():
            is_decimal = column.group == "decimal" and key in ("low", "high") and value is not None
            setattr(column, key, Decimal(value) if is_decimal else value)
        column.moments = Moments.from_state(state["moments"])
        column.sketch = Quantiles.from_state(state["sketch"])
        column.counts = Counts.from_state(state["counts"])
        column.distincts = Distinct.from_state(state["distincts"])
        if "text" in state:
            column.text = TextProfile.from_state(state["text"])
        return column


def _ticks_per_second(kind: pa.DataType) -> float:
    if pa.types.is_date32(kind):
        return 1 / 86_400
    return float(_PER_SECOND["ms" if pa.types.is_date64(kind) else kind.unit])


def _in_microseconds(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz=kind.tz)
    return pa.duration("us") if pa.types.is_duration(kind) else pa.time64("us")
