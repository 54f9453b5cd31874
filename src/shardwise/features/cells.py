"""What aggregates are made of: values added up per (key, time, fold), bounded and mergeable.

A cell holds the number of values, their sum, the lowest and the highest: what the functions of the aggregate need of
these. Cells begin exact: rows of the same key and the same instant share one. When there are more than `most_cells`,
times are cut to coarser steps, one after the other, which divide each other; when that is not enough, or when there
are more than `most_keys`, the lightest keys are dropped. A key that was dropped and comes back is undercounted.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa

from shardwise.core.state import State
from shardwise.data.hashing import combine
from shardwise.features.category import spelled
from shardwise.features.dates import read_instants
from shardwise.features.numeric import read_numbers
from shardwise.features.target_sums import Visibility, labelled
from shardwise.stats.hashes import hash_column, hash_numbers

SECOND = 1_000_000
HOUR, DAY = 3600 * SECOND, 86_400 * SECOND
STEPS = (1, 1000, SECOND, 60 * SECOND, 600 * SECOND, HOUR, 6 * HOUR, DAY, 7 * DAY, 28 * DAY, 364 * DAY)
NUMBER_STEPS = tuple(10**power for power in range(16))
OVERALL_CELLS = 1 << 16
_COMPACT_CELLS = 1 << 16
_REDUCE: Mapping[str, Any] = {"count": np.add, "sum": np.add, "low": np.minimum, "high": np.maximum}
_FAR = 2.0**62
NEEDS = {
    "count": ("count",), "mean": ("count", "sum"), "sum": ("count", "sum"), "min": ("count", "low"),
    "max": ("count", "high"), "last": ("count", "sum"), "trend": ("count", "sum"),
}  # fmt: skip


class Cells(NamedTuple):
    """Sorted by key, time and fold: uint64 hashes, int64 times in steps, int64 slots of folds, statistics by name."""

    key: np.ndarray
    time: np.ndarray
    slot: np.ndarray
    values: Mapping[str, np.ndarray]

    @classmethod
    def empty(cls, stats: Sequence[str]) -> Self:
        none = np.zeros(0, dtype=np.int64)
        return cls(none.astype(np.uint64), none, none.astype(np.int16), {stat: np.zeros(0) for stat in stats})

    def coarser(self, factor: int) -> Self:
        return self if factor == 1 else self._replace(time=np.floor_divide(self.time, factor))

    def take(self, chosen: np.ndarray) -> Self:
        values = {stat: values[chosen] for stat, values in self.values.items()}
        return self._replace(key=self.key[chosen], time=self.time[chosen], slot=self.slot[chosen], values=values)

    def keys(self) -> tuple[np.ndarray, np.ndarray]:
        """Distinct keys, rising, and where the cells of each begin."""
        starts = np.flatnonzero(np.append(True, self.key[1:] != self.key[:-1])) if len(self.key) else self.time
        return self.key[starts], starts


def together(parts: Sequence[Cells]) -> Cells:
    """One of several: cells of the same key, time and fold are added up, in the order of the parts."""
    key, time, slot = (np.concatenate([getattr(part, name) for part in parts]) for name in ("key", "time", "slot"))
    order = np.lexsort((slot, time, key))
    key, time, slot = key[order], time[order], slot[order]
    if not len(key):
        return Cells(key, time, slot, {stat: np.zeros(0) for stat in parts[0].values})
    changed = (key[1:] != key[:-1]) | (time[1:] != time[:-1]) | (slot[1:] != slot[:-1])
    starts = np.flatnonzero(np.append(True, changed))
    values = {
        stat: _REDUCE[stat].reduceat(np.concatenate([part.values[stat] for part in parts])[order], starts)
        for stat in parts[0].values
    }
    return Cells(key[starts], time[starts], slot[starts], values)


class Store:
    """Cells up to a bound. `level` is the step of time, a place in `steps`; `dropped` says that keys are missing."""

    def __init__(self, stats: Sequence[str], steps: Sequence[int], most_cells: int, most_keys: int) -> None:
        self.steps, self.most_cells, self.most_keys = tuple(steps), most_cells, most_keys
        self.cells, self.level, self.dropped = Cells.empty(stats), 0, False
        self._pending: list[tuple[Cells, int]] = []

    def add(self, cells: Cells, level: int = 0) -> None:
        self._pending.append((cells, level))
        if sum(len(part.key) for part, _ in self._pending) > max(_COMPACT_CELLS, len(self.cells.key)):
            self.settle()

    def merge(self, other: Self) -> None:
        other.settle()
        self.dropped = self.dropped or other.dropped
        self.add(other.cells, other.level)

    def settle(self, slack: int = 2) -> None:
        """Add up what is pending; bounds may be passed by `slack` times until the end, so that few keys come back."""
        parts, self._pending = [(self.cells, self.level), *self._pending], []
        self.level = max(level for _, level in parts)
        aligned = [part.coarser(self.steps[self.level] // self.steps[level]) for part, level in parts]
        self.cells = together(aligned) if len(aligned) > 1 else aligned[0]
        while len(self.cells.key) > self.most_cells and self.level + 1 < len(self.steps):
            self.level += 1
            factor = self.steps[self.level] // self.steps[self.level - 1]
            self.cells = together([self.cells.coarser(factor)])
        self._drop(slack)

    def _drop(self, slack: int) -> None:
        keys, starts = self.cells.keys()
        if len(keys) <= slack * self.most_keys and len(self.cells.key) <= slack * self.most_cells:
            return
        sizes = np.diff(np.append(starts, len(self.cells.key)))
        weights = np.add.reduceat(self.cells.values["count"], starts)
        order = np.lexsort((keys, -weights))[: self.most_keys]
        kept = order[np.cumsum(sizes[order]) <= self.most_cells]
        chosen = np.zeros(len(keys), dtype=bool)
        chosen[kept] = True
        self.cells, self.dropped = self.cells.take(np.repeat(chosen, sizes)), True

    def state(self) -> State:
        self.settle()
        return {"cells": cells_to_state(self.cells), "level": self.level, "dropped": self.dropped}

    def restore(self, state: State) -> None:
        self.cells, self.level, self.dropped = cells_from_state(state["cells"]), state["level"], state["dropped"]


def cells_to_state(cells: Cells) -> State:
    keys, starts = cells.keys()
    first = int(cells.time.min(initial=0)) if len(cells.time) else 0
    return {
        "keys": keys,
        "sizes": narrow(np.diff(np.append(starts, len(cells.key)))),
        "first": first,
        "time": narrow(cells.time - first),
        "slot": narrow(cells.slot),
        "values": {stat: narrow(values) if stat == "count" else values for stat, values in cells.values.items()},
    }


def cells_from_state(state: State) -> Cells:
    values = {stat: np.asarray(values, dtype=np.float64) for stat, values in state["values"].items()}
    key = np.repeat(state["keys"], state["sizes"])
    time = state["time"].astype(np.int64) + state["first"]
    return Cells(key, time, state["slot"].astype(np.int16), values)


def narrow(values: np.ndarray) -> np.ndarray:
    """Whole numbers from 0 up, in as few bytes as they need."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


class Reading(NamedTuple):
    """How rows are read: `keys` are (column, `text`, `number` or `instant`); `scale` ticks make 1 of a numeric time.

    Ticks are microseconds of a time that is an instant, in the `format` of its text.
    """

    keys: tuple[tuple[str, str], ...]
    time: str | None = None
    format: str | None = None
    scale: int = 0  # 0: instants

    def key_hashes(self, batch: pa.RecordBatch) -> np.ndarray:
        """Uint64 `(rows,)`; null is a value like others, and 3, 3.0 and "3" are one number."""
        hashes = {name: _key_hash(batch.column(name), name, kind) for name, kind in self.keys}
        return combine(hashes, batch.num_rows)

    def ticks(self, batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
        """Int64 `(rows,)`, and whether each is known; all 0 where there is no time column."""
        if self.time is None:
            return np.zeros(batch.num_rows, dtype=np.int64), np.ones(batch.num_rows, dtype=bool)
        if self.scale == 0:
            instants = read_instants(batch.column(self.time), self.time, self.format)
            known = instants.is_valid().to_numpy(zero_copy_only=False)
            return instants.fill_null(0).to_numpy(zero_copy_only=False), known
        numbers = read_numbers(batch.column(self.time), self.time) * self.scale
        known = np.isfinite(numbers)
        return np.floor(np.clip(np.where(known, numbers, 0.0), -_FAR, _FAR)).astype(np.int64), known

    def to_json(self) -> dict[str, Any]:
        return {**self._asdict(), "keys": [list(key) for key in self.keys]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(**{**content, "keys": tuple((name, kind) for name, kind in content["keys"])})


def _key_hash(array: pa.Array, name: str, kind: str) -> np.ndarray:
    if kind == "instant":
        instants = read_instants(array, name)
        hashed = hash_numbers(instants.fill_null(0).to_numpy(zero_copy_only=False))
        hashed[instants.is_null().to_numpy(zero_copy_only=False)] = 0
        return hashed
    return hash_column(spelled(array, numeric=kind == "number"))


class CellSums:
    """The cells of an aggregate, and the same over all keys; a `stats.base.Summary` of labelled rows.

    `plan` is made by `features.aggregate`: reading, column (None: rows), of_target, stats, steps, most_cells,
    most_keys, visible.
    """

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self.plan = plan
        self._reading = Reading.from_json(plan["reading"])
        self._visibility = Visibility.from_json(plan["visible"])
        every = NUMBER_STEPS if self._reading.scale else STEPS
        self.keyed = Store(plan["stats"], plan["steps"], plan["most_cells"], plan["most_keys"])
        self.overall = Store(plan["stats"], every, OVERALL_CELLS, 1)

    def update(self, batch: pa.RecordBatch) -> None:
        target, slots, labels = labelled(batch, self._visibility)
        batch = batch if labels is None else batch.filter(labels)
        values, known = self._values(batch, target)
        ticks, timed = self._reading.ticks(batch)
        known &= timed
        key = self._reading.key_hashes(batch)[known]
        value = values[known]
        parts = {"count": np.ones(len(key)), "sum": value, "low": value, "high": value}
        cells = Cells(
            key, ticks[known], slots[known].astype(np.int16), {stat: parts[stat] for stat in self.plan["stats"]}
        )
        self.keyed.add(together([cells]))
        self.overall.add(together([cells._replace(key=np.zeros_like(key))]))

    def _values(self, batch: pa.RecordBatch, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Float64 `(rows,)`, and which of them count."""
        column = self.plan["column"]
        if self.plan["of_target"]:
            return target, np.isfinite(target)
        if column is None:
            return np.zeros(batch.num_rows), np.ones(batch.num_rows, dtype=bool)
        if "sum" in self.plan["stats"] or len(self.plan["stats"]) > 1:
            numbers = read_numbers(batch.column(column), column)
            return numbers, np.isfinite(numbers)
        return np.zeros(batch.num_rows), ~batch.column(column).is_null(nan_is_null=True).to_numpy(zero_copy_only=False)

    def merge(self, other: Self) -> None:
        self.keyed.merge(other.keyed)
        self.overall.merge(other.overall)

    def result(self) -> tuple[Store, Store]:
        """By key and over all keys, within their bounds."""
        self.keyed.settle(slack=1)
        self.overall.settle(slack=1)
        return self.keyed, self.overall

    def state(self) -> State:
        return {"plan": dict(self.plan), "keyed": self.keyed.state(), "overall": self.overall.state()}

    @classmethod
    def from_state(cls, state: State) -> Self:
        loaded = cls(state["plan"])
        loaded.keyed.restore(state["keyed"])
        loaded.overall.restore(state["overall"])
        return loaded
