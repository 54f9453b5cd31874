"""What a column of strings looks like: length, words, whether all of it reads as numbers or as dates."""

from collections.abc import Iterable, Sequence
from copy import copy
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.state import State
from shardwise.data import dates
from shardwise.stats.arrays import as_floats
from shardwise.stats.quantiles import Quantiles

ISO, ISO_ZONED = "ISO 8601", "ISO 8601 with zone"
_ISO_KINDS = {ISO: pa.timestamp("us"), ISO_ZONED: pa.timestamp("us", tz="UTC")}


class TextProfile:
    """Sums over the strings of a column; nulls are left out.

    `times` holds, for each format in which every string so far is a date (see `data.dates`), the quantiles of these
    dates in seconds since 1970 UTC: none, one, or two when day and month cannot be told apart. None: no strings yet.
    """

    def __init__(self, *, capacity: int = 1024) -> None:
        self.capacity = capacity  # of the quantiles
        self.count = self.characters = self.words = self.empty = self.longest = 0
        self.is_numeric = True  # until a string is not
        self.times: dict[str, Quantiles] | None = None

    def add(self, values: pa.Array, counts: np.ndarray) -> None:
        """Add distinct strings without nulls, with the rows `(values,)` of each."""
        if not len(values):
            return
        lengths = pc.utf8_length(values).to_numpy()
        self.count += int(counts.sum())
        self.characters += int(lengths @ counts)
        self.words += int((pc.count_substring(values, " ").to_numpy() + 1) @ counts)
        self.empty += int(counts[lengths == 0].sum())
        self.longest = max(self.longest, int(lengths.max()))
        self.is_numeric = self.is_numeric and _is_numeric(values)
        if self.times is None:
            self.times = self._empty(_formats(values))
        if self.times:
            self._add_times(values, counts)

    def _add_times(self, values: pa.Array, counts: np.ndarray) -> None:
        kept = {}
        for form, quantiles in (self.times or {}).items():
            seconds = _seconds(values, form)
            if seconds is not None:
                quantiles.add_sorted(np.sort(np.repeat(seconds, counts)))
                kept[form] = quantiles
        self.times = kept

    def _empty(self, formats: Iterable[str]) -> dict[str, Quantiles]:
        return {form: Quantiles(capacity=self.capacity) for form in formats}

    def copy(self) -> Self:
        other = copy(self)
        if self.times is not None:
            other.times = {form: quantiles.copy() for form, quantiles in self.times.items()}
        return other

    def merge(self, other: Self) -> None:
        self.count += other.count
        self.characters += other.characters
        self.words += other.words
        self.empty += other.empty
        self.longest = max(self.longest, other.longest)
        self.is_numeric = self.is_numeric and other.is_numeric
        if other.times is not None:
            mine = (
                self.times
                if self.times is not None
                else {form: Quantiles(capacity=self.capacity) for form in other.times}
            )
            self.times = {form: quantiles for form, quantiles in mine.items() if form in other.times}
            for form, quantiles in self.times.items():
                quantiles.merge(other.times[form])

    @property
    def time_format(self) -> str | None:
        """The one format in which every string is a date; None when there is none, or more than one."""
        return next(iter(self.times)) if self.times is not None and len(self.times) == 1 else None

    @property
    def mean_length(self) -> float:
        """Characters per string."""
        return self.characters / self.count if self.count else 0.0

    @property
    def mean_words(self) -> float:
        """Words per string, counted as blanks plus one."""
        return self.words / self.count if self.count else 0.0

    def state(self) -> State:
        return {
            "capacity": self.capacity,
            "sums": [self.count, self.characters, self.words, self.empty, self.longest],
            "is_numeric": self.is_numeric,
            # a list, because which format comes first counts
            "times": None if self.times is None else [[form, found.state()] for form, found in self.times.items()],
        }

    @classmethod
    def from_state(cls, state: State) -> Self:
        text = cls(capacity=state["capacity"])
        text.count, text.characters, text.words, text.empty, text.longest = state["sums"]
        text.is_numeric = state["is_numeric"]
        if state["times"] is not None:
            text.times = {form: Quantiles.from_state(found) for form, found in state["times"]}
        return text


def _is_numeric(values: pa.Array) -> bool:
    try:
        pc.cast(values.slice(0, 1), pa.float64())  # Arrow looks at all values, also behind the first that is none
        pc.cast(values, pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _formats(values: pa.Array) -> Sequence[str]:
    if dates.guess_iso(values.slice(0, 1)) is not None:
        return (ISO, ISO_ZONED)
    return dates.guess(values)


def _seconds(values: pa.Array, form: str) -> np.ndarray | None:
    """Seconds since 1970 UTC `(values,)`; None when one is no date of that format."""
    if form not in _ISO_KINDS:
        moments = dates.parse(values, form)
        return None if moments.null_count else as_floats(moments)
    try:
        return as_floats(pc.cast(values, _ISO_KINDS[form]))
    except pa.ArrowInvalid:
        return None
