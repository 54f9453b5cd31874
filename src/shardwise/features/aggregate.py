"""Aggregates by key: what other rows of the same group hold, before the time of the row where there is a time.

A row sees the cells (`features.cells`) of its key at times before its own, less the lag, and no further back than the
window: [t - lag - window, t - lag). Rows of the same instant do not see each other. New rows see what was trained on; a
training row sees the folds that its fold may see, and is computed by the same code. What derives from the target sees
no hidden fold. A key that was never seen has an empty history: count and sum are 0, the others missing. When there were
too many keys to keep, the keys that are not kept read the aggregate over all keys, and count and sum are missing.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa

from shardwise.core.aggregates import AggregateSpec
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.state import State
from shardwise.features.base import TEST
from shardwise.features.cells import (
    DAY,
    NUMBER_STEPS,
    STEPS,
    Cells,
    CellSums,
    Reading,
    Store,
    cells_from_state,
    cells_to_state,
    together,
)
from shardwise.features.target_sums import Visibility
from shardwise.features.windows import LARGEST, View, Window
from shardwise.stats.base import Summary

_DESCRIBED = 20_000  # cells from which the spread of the features is told
_VIEWS = 8  # at most so many sets of folds are kept in memory
_NO_END = np.int64(1 << 62)
_STEP_NAMES = ("microsecond", "millisecond", "second", "minute", "10 minutes", "hour", "6 hours", "day", "week",
               "4 weeks", "52 weeks")  # fmt: skip


class _Kept(NamedTuple):
    """Cells of all folds (sealed: of none), at a step of ticks; `dropped` says that keys are missing."""

    cells: Cells
    step: int
    dropped: bool

    @classmethod
    def of(cls, store: Store) -> Self:
        return cls(store.cells, store.steps[store.level], store.dropped)

    def state(self) -> State:
        return {"cells": cells_to_state(self.cells), "step": self.step, "dropped": self.dropped}

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls(cells_from_state(state["cells"]), state["step"], state["dropped"])


class _Rows(NamedTuple):
    """Keys, ticks, whether the time is known, and the steps at which what their folds see ends; `(rows,)` each."""

    key: np.ndarray
    ticks: np.ndarray
    known: np.ndarray
    ends: Sequence[np.ndarray] | None = None

    def take(self, chosen: np.ndarray) -> Self:
        ends = None if self.ends is None else [end[chosen] for end in self.ends]
        return self._replace(key=self.key[chosen], ticks=self.ticks[chosen], known=self.known[chosen], ends=ends)


class Aggregate:
    """The functions of one `AggregateSpec`, a feature each. `plan` is made by `features.aggregate_plan`."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self._plan = dict(plan)
        self._spec = AggregateSpec.read(plan["spec"])
        self._reading = Reading.from_json(plan["reading"])
        self._visibility = Visibility.from_json(plan["visible"])
        self.reads = tuple(dict.fromkeys([*self._spec.key, *([self._spec.time] if self._spec.time else [])]))
        self.gathers: tuple[str, ...] = (plan["column"],) if plan["column"] and not plan["of_target"] else ()
        self.uses_target = bool(plan["of_target"])
        self._kept: tuple[_Kept, _Kept] | None = None  # by key, over all keys
        self._sealed = False
        self._views: dict[tuple[int, ...], tuple[View, View]] = {}
        self._ends: tuple[np.ndarray, np.ndarray] | None = None  # of what each fold sees, for both
        self._features: tuple[Feature, ...] = ()

    @property
    def spec(self) -> AggregateSpec:
        return self._spec

    def summaries(self) -> Mapping[str, Summary]:
        names = ("reading", "column", "of_target", "stats", "steps", "most_cells", "most_keys", "visible")
        return {"cells": CellSums({name: self._plan[name] for name in names})}

    def fit(self, results: Mapping[str, Summary]) -> None:
        keyed, overall = results["cells"].result()
        self._adopt((_Kept.of(keyed), _Kept.of(overall)))
        self._features = self._describe()
        self._views = {}  # memory: they are made again where rows are transformed

    def _adopt(self, kept: tuple[_Kept, _Kept]) -> None:
        self._kept, self._views, self._ends = kept, {}, None
        if self._plan["ordered"] and self._spec.time is not None:
            ends = [self._ends_of(each.cells) for each in kept]
            self._ends = None if ends[0] is None or ends[1] is None else (ends[0], ends[1])

    def _ends_of(self, cells: Cells) -> np.ndarray | None:
        """Int64 `(256,)` by fold + 128: the step before which all cells are of folds that it may see.

        None where folds overlap in time. With it one view serves the rows of all folds.
        """
        ends = np.full(256, _NO_END)
        for fold in (*self._visibility.folds, TEST):
            seen = np.isin(cells.slot, self._seen(fold, ()))
            ends[fold + 128] = cells.time[~seen].min(initial=_NO_END)
            if cells.time[seen].max(initial=-_NO_END) >= ends[fold + 128]:
                return None
        return ends

    @property
    def told(self) -> list[str]:
        """What a person should know of how it was kept."""
        assert self._kept is not None
        keyed, said = self._kept[0], []
        if keyed.step > 1:
            step = self._step_name(keyed.step)
            said.append(f"times are kept by {step}, which is what fits: rows of the same {step} do not see each other")
        if keyed.dropped:
            keys = len(keyed.cells.keys()[0])
            said.append(f"the {keys:,} heaviest keys are kept, the others read the aggregate over all keys")
        return said

    def _step_name(self, step: int) -> str:
        if self._reading.scale:
            return f"step of {step / self._reading.scale:g}"
        return _STEP_NAMES[STEPS.index(step)]

    def output(self) -> Sequence[Feature]:
        return self._features

    def _describe(self) -> tuple[Feature, ...]:
        """Features with the spread that they have on rows of the cells' own keys and times."""
        assert self._kept is not None
        keyed = self._kept[0]
        chosen = np.linspace(0, len(keyed.cells.key) - 1, min(len(keyed.cells.key), _DESCRIBED)).astype(np.int64)
        key, ticks = keyed.cells.key[chosen], keyed.cells.time[chosen] * keyed.step
        columns = self._columns(self._seen(TEST, ()), _Rows(key, ticks, np.ones(len(key), dtype=bool)))
        described = zip(self._spec.functions, columns, strict=True)
        return tuple(self._feature(function, values) for function, values in described)

    def _feature(self, function: str, values: np.ndarray) -> Feature:
        name, source = f"{function}{self._spec.tail}", self._spec.key[0]
        known = values[np.isfinite(values)]
        if not len(known):
            return Feature(name=name, source=source, kind=FeatureKind.NUMBER)
        low, middle, high = map(float, np.quantile(known, (0.005, 0.5, 0.995)))
        if not high > low:
            low, high = -np.inf, np.inf
        clipped = np.clip(known, low, high)
        scale = float(clipped.std())
        return Feature(
            name=name, source=source, kind=FeatureKind.NUMBER, low=low, high=high, fill=middle,
            center=float(clipped.mean()), scale=scale if scale > 0 else 1.0,
        )  # fmt: skip

    def transform(
        self, batch: pa.RecordBatch, out: np.ndarray, folds: np.ndarray | None = None, hidden: Collection[int] = ()
    ) -> None:
        key = self._reading.key_hashes(batch)
        ticks, known = self._reading.ticks(batch)
        for slots, rows in self._groups(folds, hidden, batch.num_rows):
            columns = self._columns(slots, _Rows(key[rows], ticks[rows], known[rows], self._end_of(folds, hidden)))
            for place, values in enumerate(columns):
                out[rows, place] = np.clip(values, -LARGEST, LARGEST)

    def _end_of(self, folds: np.ndarray | None, hidden: Collection[int]) -> list[np.ndarray] | None:
        """The steps `(rows,)` before which the rows of each fold see cells, by key and over all keys."""
        if folds is None or self._ends is None or hidden:
            return None
        return [end[folds.astype(np.int64) + 128] for end in self._ends]

    def _groups(
        self, folds: np.ndarray | None, hidden: Collection[int], rows: int
    ) -> Iterator[tuple[tuple[int, ...], Any]]:
        """Rows that see the same folds, with the slots of these."""
        if folds is None:
            yield self._seen(TEST, ()), slice(0, rows)
            return
        if self._sealed:
            raise ValueError("a sealed recipe holds no folds: transform without folds")
        if self._ends is not None and not hidden:
            yield self._seen(TEST, ()), slice(0, rows)
            return
        by_slots: dict[tuple[int, ...], list[int]] = {}
        for fold in np.unique(folds).tolist():
            by_slots.setdefault(self._seen(fold, hidden), []).append(fold)
        for slots, members in by_slots.items():
            yield slots, np.isin(folds, members)

    def _seen(self, fold: int, hidden: Collection[int]) -> tuple[int, ...]:
        """Slots of the folds that the rows of a fold may see."""
        if self._sealed:
            return (0,)
        seen = set(self._visibility.visible.get(fold, ()))
        if fold in self._plan["own"]:
            seen.add(fold)
        hides = hidden if self.uses_target else ()
        return tuple(slot for slot, each in enumerate(self._visibility.folds) if each in seen and each not in hides)

    def _view(self, slots: tuple[int, ...]) -> tuple[View, View]:
        if slots not in self._views:
            assert self._kept is not None
            if len(self._views) >= _VIEWS:
                self._views = {}
            keyed, overall = self._kept
            self._views[slots] = self._made(keyed, slots), self._made(overall, slots)
        return self._views[slots]

    def _made(self, kept: _Kept, slots: tuple[int, ...]) -> View:
        chosen = np.isin(kept.cells.slot, slots)
        return View(kept.cells if chosen.all() else kept.cells.take(chosen), kept.step / self._unit)

    @property
    def _unit(self) -> int:
        """Ticks of what the trend is told by: a day, or 1 of a numeric time."""
        return self._reading.scale or DAY

    def _columns(self, slots: tuple[int, ...], rows: "_Rows") -> list[np.ndarray]:
        """Float64 `(rows,)` for each function; rows without a time see nothing."""
        assert self._kept is not None
        keyed, overall = self._view(slots)
        place = np.where(rows.known, keyed.places(rows.key), -1)
        window = self._window(0, keyed, place, rows)
        scale = self._scale(slots)
        columns = [
            keyed.evaluate(function, window) * (scale if function in ("count", "sum") else 1.0)
            for function in self._spec.functions
        ]
        rare = rows.known & (place < 0)
        if self._kept[0].dropped and rare.any():
            some = rows.take(rare)
            everywhere = self._window(1, overall, overall.places(np.zeros_like(some.key)), some)
            for function, values in zip(self._spec.functions, columns, strict=True):
                unknown = function in ("count", "sum")
                values[rare] = np.nan if unknown else overall.evaluate(function, everywhere)
        return columns

    def _window(self, which: int, view: View, place: np.ndarray, rows: "_Rows") -> Window:
        """Of the cells by key (0) or over all keys (1)."""
        if self._spec.time is None:
            return view.window(place, None, None)
        assert self._kept is not None
        step, window = self._kept[which].step, self._plan["window"]
        end = rows.ticks - self._plan["lag"]
        low = None if window is None else np.floor_divide(end - window, step)
        high = np.floor_divide(end, step)
        return view.window(place, low, high if rows.ends is None else np.minimum(high, rows.ends[which]))

    def _scale(self, slots: tuple[int, ...]) -> float:
        """Counts and sums mean the same whatever share of the rows is seen; but folds that follow each other differ."""
        if self._sealed or self._plan["ordered"]:
            return 1.0
        all_rows, rows = (self._view(each)[1].rows for each in (self._seen(TEST, ()), slots))
        return all_rows / rows if rows else 1.0

    def sealed(self) -> Self:
        """A copy for new rows: folds are added up."""
        assert self._kept is not None
        copy = type(self)(self._plan)
        slots, made = self._seen(TEST, ()), []
        for kept in self._kept:
            seen = kept.cells.take(np.isin(kept.cells.slot, slots))
            made.append(kept._replace(cells=together([seen._replace(slot=np.zeros_like(seen.slot))])))
        copy._adopt((made[0], made[1]))
        copy._features, copy._sealed = self._features, True
        return copy

    def state(self) -> State:
        content: State = {"plan": self._plan, "sealed": self._sealed}
        if self._kept is not None:
            content |= {"keyed": self._kept[0].state(), "overall": self._kept[1].state()}
            content["features"] = [feature.to_json() for feature in self._features]
        return content

    @classmethod
    def from_state(cls, state: State) -> Self:
        loaded = cls(state["plan"])
        if "keyed" in state:
            loaded._adopt((_Kept.from_state(state["keyed"]), _Kept.from_state(state["overall"])))
            loaded._features = tuple(Feature.from_json(feature) for feature in state["features"])
            loaded._sealed = state["sealed"]
        return loaded


def steps_of(scale: int, span: int | None) -> list[int]:
    """Steps of time that a window of `span` ticks allows: a quarter of it at most."""
    every = NUMBER_STEPS if scale else STEPS
    return [step for step in every if step == 1 or span is None or step <= span // 4]
