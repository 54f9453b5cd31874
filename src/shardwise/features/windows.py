"""Functions of the cells in a window of time, by prefix sums: any window of any key in two binary searches.

| notation | meaning                                                                                       |
|----------|-----------------------------------------------------------------------------------------------|
| cells    | of one key, by rising time; cell i has n_i values with the sum s_i at the time t_i             |
| a, b     | the window: cells a <= i < b                                                                   |
| trend    | slope of the least-squares line of the values over time: Sxy / Sxx over the window             |

Prefix sums run over x_i minus the mean of its key, which bounds their error by what one key adds up to, however many
keys there are. Lowest and highest come from a table of powers of two (range minimum query).
"""

from typing import Any, NamedTuple

import numpy as np

from shardwise.features.cells import Cells, together

LARGEST = float(np.finfo(np.float32).max)
FLOOR = 1e-12  # of Sxx against its parts: below, it is rounding


class Window(NamedTuple):
    """Places of keys (-1: not known), first cell and end, int64 `(rows,)` each; empty where `first == stop`."""

    place: np.ndarray
    first: np.ndarray
    stop: np.ndarray


class View:
    """The cells that some rows may see, folds added up. `step_units` is the width of a step in units of the trend."""

    def __init__(self, cells: Cells, step_units: float) -> None:
        single = not len(cells.key) or bool((cells.slot == cells.slot[0]).all())
        merged = cells if single else together([cells._replace(slot=np.zeros_like(cells.slot))])
        self._values, self._step = merged.values, step_units
        self.keys, self._starts = merged.keys()
        self._ends = np.append(self._starts[1:], len(merged.key)).astype(np.int64)
        self._sizes = self._ends - self._starts
        self._times = np.unique(merged.time)
        owner = np.repeat(np.arange(len(self.keys)), self._sizes)
        self._ranked = owner * (len(self._times) + 1) + np.searchsorted(self._times, merged.time)
        self._time = merged.time
        self._made: dict[str, Any] = {}

    @property
    def rows(self) -> float:
        """Values in all cells."""
        return float(self._values["count"].sum())

    def places(self, hashes: np.ndarray) -> np.ndarray:
        """Int64 `(rows,)`: where each key stands, -1 for one that is not known."""
        if not len(self.keys):
            return np.full(len(hashes), -1, dtype=np.int64)
        found = np.minimum(np.searchsorted(self.keys, hashes), len(self.keys) - 1)
        return np.where(self.keys[found] == hashes, found, -1)

    def window(self, place: np.ndarray, low: np.ndarray | None, high: np.ndarray | None) -> Window:
        """Cells at times from `low` up to before `high`, in steps; None: no bound."""
        if not len(self.keys):
            return Window(place, np.zeros_like(place), np.zeros_like(place))
        known = place >= 0
        first = self._starts[place] if low is None else self._before(place, low)
        stop = self._ends[place] if high is None else self._before(place, high)
        first, stop = np.where(known, first, 0), np.where(known, stop, 0)
        return Window(place, first, np.maximum(first, stop))

    def _before(self, place: np.ndarray, time: np.ndarray) -> np.ndarray:
        """The first cell of a key that is not before a time."""
        rank = np.searchsorted(self._times, time)
        return np.searchsorted(self._ranked, place * (len(self._times) + 1) + rank)

    def evaluate(self, function: str, window: Window) -> np.ndarray:
        """Float64 `(rows,)`; NaN where the window does not tell."""
        count = self._total("count", window)
        if function == "count":
            return count
        empty = window.stop <= window.first
        if function == "sum":
            return self._total("sum", window)
        if function in ("min", "max"):
            found = self._extreme(function, window)
        elif function == "last":
            found = self._last(window)
        elif function == "trend":
            return self._trend(window, count)
        else:
            found = self._total("sum", window) / np.where(empty, 1.0, count)
        return np.where(empty, np.nan, found)

    def _total(self, name: str, window: Window) -> np.ndarray:
        """Sum over the window of a statistic of the cells."""
        prefix, mean = self._prefix(name)
        if not len(mean):
            return np.zeros(len(window.place))
        total = prefix[window.stop] - prefix[window.first] + (window.stop - window.first) * mean[window.place]
        return np.where(window.stop > window.first, total, 0.0)

    def _prefix(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        if name not in self._made:
            values = self._values[name] if name in self._values else self._moment(name)
            if not len(values):
                return np.zeros(1), np.zeros(0)
            mean = np.add.reduceat(values, self._starts) / self._sizes
            if name == "count":  # whole numbers: exact without the mean
                mean = np.zeros(len(mean))
            apart = values - np.repeat(mean, self._sizes)
            self._made[name] = np.concatenate([[0.0], np.cumsum(apart)]), mean
        made: tuple[np.ndarray, np.ndarray] = self._made[name]
        return made

    def _moment(self, name: str) -> np.ndarray:
        """n t, n t t and t s of each cell, times from the middle of the key, and values from its mean."""
        middle = (self._time[self._starts] + self._time[self._ends - 1]) / 2.0
        time: np.ndarray = (self._time - np.repeat(middle, self._sizes)) * self._step
        if name == "ts":
            moment: np.ndarray = time * self._centred()
            return moment
        counted: np.ndarray = self._values["count"] * time
        return counted if name == "t" else counted * time

    def _centred(self) -> np.ndarray:
        """Sum of the values of each cell, from the mean of its key."""
        count, total = self._values["count"], self._values["sum"]
        mean = np.add.reduceat(total, self._starts) / np.add.reduceat(count, self._starts)
        centred: np.ndarray = total - count * np.repeat(mean, self._sizes)
        return centred

    def _trend(self, window: Window, count: np.ndarray) -> np.ndarray:
        if not len(self.keys):
            return np.full(len(count), np.nan)
        if "s" not in self._values:
            self._values = {**self._values, "s": self._centred()}
        t, tt, ts, s = (self._total(name, window) for name in ("t", "tt", "ts", "s"))
        n = np.maximum(count, 1.0)
        sxx = tt - t * t / n
        told = (window.stop - window.first >= 2) & (sxx > FLOOR * tt)
        return np.where(told, (ts - t * s / n) / np.where(told, sxx, 1.0), np.nan)

    def _last(self, window: Window) -> np.ndarray:
        """Mean of the values of the latest cell."""
        if not len(self.keys):
            return np.full(len(window.place), np.nan)
        cell = np.maximum(window.stop - 1, 0)
        latest: np.ndarray = self._values["sum"][cell] / self._values["count"][cell]
        return latest

    def _extreme(self, function: str, window: Window) -> np.ndarray:
        better = np.minimum if function == "min" else np.maximum
        table = self._table(function, int((window.stop - window.first).max(initial=0)))
        found = np.full(len(window.place), np.nan)
        width = window.stop - window.first
        for power, best in enumerate(table):
            chosen = (width >> power) == 1  # this power of two covers the window from both ends
            first, stop = window.first[chosen], window.stop[chosen]
            found[chosen] = better(best[first], best[stop - (1 << power)])
        return found

    def _table(self, function: str, widest: int) -> list[np.ndarray]:
        """Float32: row `power` holds the best of the 2**power cells from each one on; grown as far as is asked."""
        better, name = (np.minimum, "low") if function == "min" else (np.maximum, "high")
        known: list[np.ndarray] = self._made.get(name, [])
        table = known or [np.clip(self._values[name], -LARGEST, LARGEST).astype(np.float32)]
        while (1 << len(table)) <= widest:
            last, half = table[-1], 1 << (len(table) - 1)
            table = [*table, better(last[: len(last) - half], last[half:])]
        self._made[name] = table  # as a whole: other threads may be reading
        return table
