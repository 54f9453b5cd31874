"""Out-of-fold target encoding: categories as what the target was on the rows that may be seen.

    encoding(c, f) = (S(c, V) + m * p(V)) / (N(c, V) + m)

| notation | meaning                                                                                   |
|----------|-------------------------------------------------------------------------------------------|
| f, V     | the fold of the row; the folds that its features may see, never f itself                  |
| S, N     | sum of the target (or of "is class k") and number of rows of category c in the folds V    |
| p(V)     | mean of the target over V, the prior; over all folds when V is empty                      |
| m        | smoothing: rows of prior that every category is credited with; the variance within        |
|          | categories over that between them, estimated on V by analysis of variance                 |

Micci-Barreca 2001, "A preprocessing scheme for high-cardinality categorical attributes".
Null is a category of its own; an unseen value reads the prior.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa

from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.state import State
from shardwise.features.base import Cell
from shardwise.features.category import Vocabulary
from shardwise.features.target_sums import Labels, Sums, TargetSums, Visibility
from shardwise.stats.arrays import array_from_state, array_to_state, narrow
from shardwise.stats.base import Summary

_LEAST_SMOOTHING, _MOST_SMOOTHING = 0.1, 1e6


class TargetEncoding:
    """One column as the smoothed target of its categories, one feature per output, and how many rows there were."""

    def __init__(self, column: str, *, numeric: bool, plan: Mapping[str, Any]) -> None:
        self.reads: tuple[str, ...] = (column,)
        self.gathers: tuple[str, ...] = ()
        self._numeric, self._plan = numeric, dict(plan)
        self._visibility = Visibility.from_json(self._plan["visible"])
        self._labels = Labels(tuple(self._plan["classes"]), tuple(self._plan["names"]))
        self._vocabulary = Vocabulary([], numeric=numeric)
        self._sums: Sums | None = None
        self._hidden: tuple[tuple[int, ...], np.ndarray] | None = None  # tables of the last `hidden`
        self._tables = np.zeros((0, 0, 0), dtype=np.float32)
        self._features: tuple[Feature, ...] = ()

    @classmethod
    def plan(
        cls, column: str, *, numeric: bool, visibility: Visibility, labels: Labels, smoothing: float | None, cap: int
    ) -> Self:
        content = {
            "visible": visibility.to_json(),
            "classes": list(labels.classes),
            "names": list(labels.names),
            "smoothing": smoothing,
            "cap": cap,
        }
        return cls(column, numeric=numeric, plan=content)

    def summaries(self) -> Mapping[str, Summary]:
        cap = self._plan["cap"]
        return {
            "sums": TargetSums(
                self.reads[0], numeric=self._numeric, visibility=self._visibility, labels=self._labels, cap=cap
            )
        }

    def fit(self, results: Mapping[str, Summary]) -> None:
        self._adopt(results["sums"].result())

    def _adopt(self, sums: Sums) -> None:
        self._sums = sums
        self._vocabulary = Vocabulary(sums.values, numeric=self._numeric)
        self._tables = self._tables_of(sums, ())
        self._features = self._describe(sums)

    def _tables_of(self, sums: Sums, hidden: Collection[int]) -> np.ndarray:
        """Float32 `(outputs + 1, folds + 1, categories + 2)`; the last fold is that of new rows."""
        seen = self._visibility.weights(hidden)
        by_fold = np.ascontiguousarray(np.moveaxis(sums.sums, 1, 0))
        tables = [_table(sums, by_fold, weights, self._plan["smoothing"]) for weights in seen]
        return np.stack(tables, axis=1)

    def _training_tables(self, hidden: Collection[int]) -> np.ndarray:
        if self._sums is None:
            raise ValueError("a sealed recipe holds no out-of-fold encodings: transform without folds")
        if not hidden:
            return self._tables
        key = tuple(sorted(hidden))
        if self._hidden is None or self._hidden[0] != key:
            self._hidden = key, self._tables_of(self._sums, key)
        return self._hidden[1]

    def _describe(self, sums: Sums) -> tuple[Feature, ...]:
        column, counts = self.reads[0], sums.sums[:, :, -1].sum(axis=1)
        table = self._tables[:, -1, : len(counts)].astype(np.float64)
        names = [f"{column}:{name}" for name in self._labels.names]
        kinds = [FeatureKind.ENCODED] * len(names) + [FeatureKind.NUMBER]
        features = []
        for name, kind, values in zip([*names, f"{column}:rows"], kinds, table, strict=True):
            center = float(np.average(values, weights=counts)) if counts.sum() else 0.0
            spread = float(np.sqrt(np.average((values - center) ** 2, weights=counts))) if counts.sum() else 0.0
            features.append(
                Feature(name=name, source=column, kind=kind, fill=center, center=center, scale=spread or 1.0)
            )
        return tuple(features)

    def output(self) -> Sequence[Feature]:
        return self._features

    def transform(
        self, batch: pa.RecordBatch, out: np.ndarray, folds: np.ndarray | None = None, hidden: Collection[int] = ()
    ) -> None:
        places = self._vocabulary.lookup(batch.column(self.reads[0]))
        if folds is None:
            for column, table in enumerate(self._tables[:, -1]):
                np.take(table, places, out=out[:, column], mode="wrap")
            return
        tables = self._training_tables(hidden)
        width = tables.shape[2]
        slots = self._visibility.slots(folds) % tables.shape[1]  # -1 is the last: the test fold
        cells = slots * width + places % width
        for column, table in enumerate(tables.reshape(len(tables), -1)):
            np.take(table, cells, out=out[:, column], mode="clip")

    def cell(self, kind: pa.DataType) -> Cell | None:
        find, table = self._vocabulary.finder(kind), np.ascontiguousarray(self._tables[:, -1].T)
        if find is None:
            return None

        def cell(value: Any) -> Sequence[float] | None:
            place = find(value)
            return None if place is None else table[place].tolist()

        return cell

    def sealed(self) -> Self:
        """A copy that encodes new rows only: the sums per fold are left out."""
        copy = type(self)(self.reads[0], numeric=self._numeric, plan=self._plan)
        copy._vocabulary, copy._features, copy._tables = self._vocabulary, self._features, self._tables[:, -1:]
        return copy

    def state(self) -> State:
        content: State = {"column": self.reads[0], "numeric": self._numeric, "plan": self._plan}
        if self._features:
            content["values"] = array_to_state(self._vocabulary.values)
        if self._sums is not None:
            content |= {"sums": narrow(self._sums.sums), "total": self._sums.total, "squares": self._sums.squares}
        elif self._features:
            content |= {"table": self._tables, "features": [feature.to_json() for feature in self._features]}
        return content

    @classmethod
    def from_state(cls, state: State) -> Self:
        loaded = cls(state["column"], numeric=state["numeric"], plan=state["plan"])
        values = array_from_state(state["values"]) if "values" in state else pa.array([], pa.string())
        if "sums" in state:
            loaded._adopt(Sums(values, state["sums"].astype(np.float64), state["total"], state["squares"]))
        elif "table" in state:
            loaded._vocabulary, loaded._tables = Vocabulary(values, numeric=state["numeric"]), state["table"]
            loaded._features = tuple(Feature.from_json(feature) for feature in state["features"])
        return loaded


def _table(sums: Sums, by_fold: np.ndarray, weights: np.ndarray, smoothing: float | None) -> np.ndarray:
    """Float32 `(outputs + 1, categories + 2)`: encodings and log row counts.

    `by_fold` are the sums with the folds first, `(folds, categories + 1, outputs + 1)`.

    Null and unseen come last, where the places -2 and -1 of a `Vocabulary` reach them. Row counts are scaled to
    the size of the whole training data, so that they mean the same in every fold.
    """
    seen = np.tensordot(weights, by_fold, axes=(0, 0))  # (categories + 1, outputs + 1)
    total, squares = weights @ sums.total, weights @ sums.squares
    everything = sums.total.sum(axis=0)
    prior = total[:-1] / total[-1] if total[-1] else everything[:-1] / max(1.0, everything[-1])
    counts = np.append(seen[:, -1], 0.0)
    sizes = np.vstack([seen[:, :-1], np.zeros(len(prior))])
    if smoothing is None:
        credit = np.array([estimated_smoothing(seen[:, k], seen[:, -1], square) for k, square in enumerate(squares)])
    else:
        credit = np.full(len(prior), smoothing)
    encoded = (sizes + credit * prior) / (counts[:, None] + credit)
    heavy = np.log1p(counts * (everything[-1] / total[-1] if total[-1] else 0.0))
    return np.vstack([encoded.T, heavy[None]]).astype(np.float32)


def estimated_smoothing(sums: np.ndarray, counts: np.ndarray, squares: float) -> float:
    """Variance of the target within categories over that between them: the m of the best linear shrinkage.

    From sums and row counts per category and the sum of squares over all rows, by the method of moments for one-way
    random effects (Searle, Casella and McCulloch 1992, "Variance Components", chapter 3). Very large when the
    categories tell nothing, so that all of them read the prior.

    >>> estimated_smoothing(np.array([0.0, 10.0]), np.array([10, 10]), squares=10.0)
    0.1
    """
    known = counts > 0
    sums, counts = sums[known], counts[known]
    rows, groups = counts.sum(), len(counts)
    if rows <= groups or groups < 2:
        return _MOST_SMOOTHING
    explained = (sums**2 / counts).sum()
    within = max(squares - explained, 0.0) / (rows - groups)
    spread = explained - sums.sum() ** 2 / rows - (groups - 1) * within
    between = spread / (rows - (counts**2).sum() / rows)
    if not between > 0:
        return _MOST_SMOOTHING
    return float(np.clip(within / between, _LEAST_SMOOTHING, _MOST_SMOOTHING))
