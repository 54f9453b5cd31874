"""The scores of predictions that come in pieces: exact up to a limit of memory, sums and a sample above it."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
from scipy.special import logit

from shardwise.core.state import State
from shardwise.core.target import Target
from shardwise.stats.hashes import mix
from shardwise.stats.intervals import Interval, interval_around
from shardwise.stats.metrics import (
    METRICS,
    Additive,
    Metric,
    OneVsRest,
    Pairs,
    Ranked,
    decided,
    mean_defined,
    metric_named,
    metrics_for,
)
from shardwise.stats.paired import group_sizes, units_of
from shardwise.stats.slices import Slice, SliceConfig, evaluate_slices, slice_values

_SLACK = 1.25  # pruning waits until this many times the limit is held
_REACH = 16.0  # logits beyond are one bin


class Evaluation:
    """Labels and predictions, gathered batch by batch and merged; then metrics with intervals, and slices.

    Up to `limit_bytes` all rows are kept, and all numbers are exact. Above it

    - additive metrics stay exact: their sums are kept;
    - ranked metrics come from a histogram of scores, 2048 bins per unit of logit for two classes, fewer for many;
      scores in one bin count as tied, which moves an AUC by less than 1e-4 where scores are spread;
    - intervals and slices come from a uniform sample of rows (those with the lowest priority, a hash of the row's
      number), the intervals narrowed by the square root of its share.

    `first_row` numbers the first row of this piece (a partition's `first_row`), so that the sample depends neither on
    the batches nor on the order of merging.
    """

    def __init__(self, target: Target, *, limit_bytes: int = 64 << 20, first_row: int = 0) -> None:
        self.target = target
        self.limit_bytes = limit_bytes
        self.rows = 0
        self._next_row = first_row
        self._threshold = np.uint64(2**64 - 1)  # rows of a priority above are not in the sample
        self._kept = _Table({})
        self._totals: dict[str, np.ndarray] | None = None  # from the first pruning on
        self._middle = 0.0  # taken off labels and predictions in sums of squares, which it keeps exact

    @property
    def is_exact(self) -> bool:
        """Whether all rows are kept."""
        return self._totals is None

    def update(
        self,
        y: np.ndarray,
        prediction: np.ndarray,
        weight: np.ndarray | None = None,
        slices: Mapping[str, pa.Array] | None = None,
    ) -> None:
        """Add labels `(rows,)`, predictions `(rows,)` or `(rows, classes)`, weights, and columns to slice by."""
        y = np.asarray(y, dtype=np.float64)
        priority = _priorities(self._next_row, len(y))
        self._next_row += len(y)
        mass = np.ones(len(y)) if weight is None else np.asarray(weight, dtype=np.float64)
        table = _Table({"y": y, "prediction": np.asarray(prediction, np.float64), "weight": mass, "priority": priority})
        table.columns.update({f"slice:{name}": slice_values(values) for name, values in (slices or {}).items()})
        self._add(table.take(~np.isnan(y) & (mass > 0)))

    def _add(self, table: "_Table") -> None:
        if not self.rows and len(table):
            self._middle = float(np.mean(table.columns["y"]))
        self.rows += len(table)
        if self._totals is not None:
            self._totals = _added(self._totals, self._sums(table.pairs(), self._middle))
            table = table.take(table.columns["priority"] <= self._threshold)
        self._kept = self._kept.joined(table)
        self._prune()

    def merge(self, other: Self) -> None:
        """Add what another evaluation has gathered; its columns to slice by must be the same."""
        if not self.rows:
            self._middle = other._middle
        if self._totals is not None or other._totals is not None:
            self._totals = _added(self._all_totals(), other._all_totals(self._middle))
        self.rows += other.rows
        self._threshold = min(self._threshold, other._threshold)
        self._kept = self._kept.joined(other._kept)
        self._next_row = max(self._next_row, other._next_row)
        self._prune()

    def _all_totals(self, middle: float | None = None) -> dict[str, np.ndarray]:
        """Sums of squares about `middle`; None: about the own one."""
        off = 0.0 if middle is None else self._middle - middle
        if self._totals is None:
            return self._sums(self._kept.pairs(), self._middle - off)
        return {name: _moved(sums, off) if name == "r2" and off else sums for name, sums in self._totals.items()}

    @property
    def limit_rows(self) -> int:
        """Rows that are kept at most, but for a quarter on top between prunings."""
        return max(1000, self.limit_bytes // self._kept.row_bytes)

    def _prune(self) -> None:
        if len(self._kept) <= self.limit_rows * (_SLACK if self._totals is not None else 1.0):
            return
        self._totals = self._all_totals()
        priority = self._kept.columns["priority"]
        self._threshold = min(self._threshold, np.partition(priority, self.limit_rows - 1)[self.limit_rows - 1])
        self._kept = self._kept.take(priority <= self._threshold)

    def sample(self) -> Pairs:
        """All rows as long as the evaluation is exact, else a uniform sample of them, by priority."""
        return self._ordered().pairs()

    def sliced(self) -> dict[str, np.ndarray]:
        """The columns to slice by, of the rows of `sample` and in their order."""
        columns = self._ordered().columns
        return {name.removeprefix("slice:"): values for name, values in columns.items() if name.startswith("slice:")}

    @property
    def share(self) -> float:
        """The share of all rows that the sample holds."""
        return len(self._ordered()) / max(self.rows, 1)

    def value(self, metric: Metric) -> float:
        """The metric of all rows, without an interval."""
        with np.errstate(all="ignore"):
            if self._totals is None:
                return metric.of(decided(metric, self.sample(), self.target), self.target.quantile)
            return float("nan") if self._totals.get("nan", 0) else _from_totals(metric, self._totals)

    def _ordered(self) -> "_Table":
        """The sample in an order that does not depend on how it came together."""
        table = self._kept.take(self._kept.columns["priority"] <= self._threshold) if self.rows else self._kept
        return table.take(np.argsort(table.columns["priority"], kind="stable")) if self.rows else table

    def result(
        self, metrics: Sequence[str] | None = None, *, bootstrap: int = 200, seed: int = 0, looks: int = 1,
        group: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """`{"rows": .., "metrics": {name: {"value", "low", "high"}}, "groups": ..}`; what is not defined is None.

        Intervals are widened by the number of `looks` at the rows (`stats.intervals.interval_around`). Rows with the
        same value of `group`, one of the columns to slice by, depend on each other: `groups` is then `{"count": how
        many there are, "worth": how many of equal size are worth as much, "largest_share": of the rows}`, else None.

        Raises `ConfigError` for a metric that does not exist or does not fit the task.
        """
        chosen = [metric_named(name, self.target.task) for name in metrics or metrics_for(self.target.task)]
        pairs, units = self.sample(), self.units(group)
        how = {"resamples": bootstrap, "seed": seed, "looks": looks, "units": units}
        scores = {metric.name: self._score(metric, pairs, how).to_json() for metric in chosen}
        groups = None if units is None or not len(units) else group_sizes(units, pairs.weight)
        return {"rows": self.rows, "metrics": scores, "groups": groups}

    def _score(self, metric: Metric, pairs: Pairs, how: Mapping[str, Any]) -> Interval:
        quantile, value = self.target.quantile, self.value(metric)
        share = len(pairs) / max(self.rows, 1)
        pairs = decided(metric, pairs, self.target)
        return interval_around(metric, value, pairs, share=share, quantile=quantile, **how)

    def units(self, group: str | None) -> np.ndarray | None:
        """Codes `(rows,)` of the groups of the rows of `sample`; None: each row is on its own."""
        return None if group is None else units_of(self.sliced()[group])

    def slices(
        self, metric: str | None = None, config: SliceConfig | None = None, *, columns: Sequence[str] | None = None,
        looks: int = 1, group: str | None = None,
    ) -> list[Slice]:  # fmt: skip
        """The metric for the parts of `columns` (None: all) that were given to `update`; intervals as in `result`."""
        chosen = metric_named(metric or metrics_for(self.target.task)[0], self.target.task)
        pairs, every = decided(chosen, self.sample(), self.target), self.sliced()
        cut = {name: every[name] for name in (every if columns is None else columns)}
        how = {"looks": looks, "quantile": self.target.quantile, "share": self.share}
        return evaluate_slices(chosen, pairs, cut, config=config, units=self.units(group), how=how)

    def _sums(self, pairs: Pairs, middle: float) -> dict[str, np.ndarray]:
        """What ranked and additive metrics of the task are computed from, and how many predictions are none."""
        sums: dict[str, np.ndarray] = {}
        if not len(pairs):
            return sums
        sums["nan"] = np.array(float(np.isnan(pairs.prediction).sum()))
        off = Pairs(pairs.y - middle, pairs.prediction - middle, pairs.weight)
        with np.errstate(all="ignore"):
            for name in metrics_for(self.target.task):
                metric = METRICS[name]
                if isinstance(metric, Additive):
                    counted = off if metric.centred else decided(metric, pairs, self.target)
                    sums[name] = metric.sums(counted, self.target.quantile)
            if self.target.task.is_classification:
                sums["scores"] = _histograms(pairs)
        return sums

    def state(self) -> State:
        return {
            "target": self.target.to_json(),
            "limit_bytes": self.limit_bytes,
            "rows": self.rows,
            "next_row": self._next_row,
            "threshold": str(self._threshold),
            "middle": self._middle,
            "kept": [
                [name, values if values.dtype.kind != "O" else {"texts": values.tolist()}]
                for name, values in self._kept.columns.items()
            ],
            "totals": self._totals,
        }

    @classmethod
    def from_state(cls, state: State) -> Self:
        loaded = cls(Target.from_json(state["target"]), limit_bytes=state["limit_bytes"], first_row=state["next_row"])
        loaded.rows = state["rows"]
        loaded._threshold = np.uint64(state["threshold"])
        loaded._middle = state["middle"]
        loaded._kept = _Table(
            {
                name: np.array(values["texts"], dtype=object) if isinstance(values, dict) else values
                for name, values in state["kept"]
            }
        )
        loaded._totals = state["totals"]
        return loaded


class _Table:
    """Columns of equal length; a batch costs no copy of what is there."""

    def __init__(self, columns: dict[str, np.ndarray]) -> None:
        self._parts: list[dict[str, np.ndarray]] = [columns] if columns else []

    @property
    def columns(self) -> dict[str, np.ndarray]:
        if len(self._parts) > 1:
            self._parts = [{name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]}]
        return self._parts[0] if self._parts else {}

    def joined(self, other: "_Table") -> "_Table":
        table = _Table({})
        table._parts = [*self._parts, *other._parts]
        return table

    def take(self, rows: np.ndarray) -> "_Table":
        return _Table({name: values[rows] for name, values in self.columns.items()})

    def pairs(self) -> Pairs:
        if not self._parts:
            return Pairs(np.empty(0), np.empty(0), np.empty(0))
        return Pairs(self.columns["y"], self.columns["prediction"], self.columns["weight"])

    @property
    def row_bytes(self) -> int:
        """Bytes of a row; a reference to a text counts as the text of some twenty letters that it is."""
        if not self._parts:
            return 8
        return sum(
            8 * (values.shape[1] if values.ndim == 2 else 8 if values.dtype.kind == "O" else 1)
            for values in self._parts[0].values()
        )

    def __len__(self) -> int:
        return sum(len(part["y"]) for part in self._parts)


def _priorities(first_row: int, rows: int) -> np.ndarray:
    """SplitMix64 of the row numbers, uint64 `(rows,)`."""
    return mix(np.arange(first_row, first_row + rows, dtype=np.uint64))


def _added(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: a[name] + b[name] if name in a and name in b else {**a, **b}[name] for name in {**a, **b}}


def _histograms(pairs: Pairs) -> np.ndarray:
    """Weights `(classes or 1, 2, bins)` of rows in and out of a class by the logit of its probability, best first."""
    scores = [pairs.score] if pairs.prediction.ndim == 1 or pairs.prediction.shape[1] == 2 else pairs.prediction.T
    per_unit = max(4, 2048 // len(scores))
    bins = int(2 * _REACH * per_unit)
    out = np.empty((len(scores), 2, bins))
    for k, score in enumerate(scores):
        place = (_REACH - np.clip(logit(np.clip(score, 0.0, 1.0)), -_REACH, _REACH)) * per_unit
        codes = np.minimum(np.nan_to_num(place), bins - 1).astype(np.int64)
        own = pairs.y == (1 if len(scores) == 1 else k)
        out[k, 0] = np.bincount(codes, weights=pairs.weight * own, minlength=bins)
        out[k, 1] = np.bincount(codes, weights=pairs.weight * ~own, minlength=bins)
    return out


def _moved(sums: np.ndarray, by: float) -> np.ndarray:
    """Sums of r2 - of 1, y, y^2 and the squared error - of labels that are larger `by` so much."""
    rows, total, squares, error = sums
    return np.array([rows, total + by * rows, squares + 2 * by * total + by**2 * rows, error])


def _from_totals(metric: Metric, totals: Mapping[str, np.ndarray]) -> float:
    if isinstance(metric, Additive):
        return float(metric.finish(totals[metric.name]))
    if isinstance(metric, Ranked):
        return float(metric.curve(totals["scores"][0, 0], totals["scores"][0, 1]))
    assert isinstance(metric, OneVsRest)
    return mean_defined(np.array([metric.ranked.curve(up, down) for up, down in totals["scores"]]))
