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
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.state import State
from shardwise.core.target import Target
from shardwise.features.base import FOLD, TARGET, TEST
from shardwise.features.category import Vocabulary, spelled
from shardwise.stats.base import Summary

_COMPACT_ROWS = 1 << 16
_LEAST_SMOOTHING, _MOST_SMOOTHING = 0.1, 1e6


class Visibility:
    """Folds as slots 0..n-1 of an array, and which of them the rows of each fold may see."""

    def __init__(self, visible: Mapping[int, Sequence[int]]) -> None:
        seen = {fold for folds in visible.values() for fold in folds}
        self.folds = tuple(sorted(fold for fold in seen | set(visible) if fold != TEST))
        self.visible = {int(fold): tuple(sorted(folds)) for fold, folds in sorted(visible.items())}
        self.visible.setdefault(TEST, self.folds)
        self._slots = np.full(257, -1, dtype=np.int64)
        for slot, fold in enumerate(self.folds):
            self._slots[fold + 128] = slot

    def slots(self, folds: np.ndarray) -> np.ndarray:
        """Slot of each row's fold, int64 `(rows,)`; -1 for the test fold and unknown ones."""
        return self._slots[folds.astype(np.int64) + 128]

    def weights(self, hidden: Collection[int] = ()) -> np.ndarray:
        """Float64 `(folds + 1, folds)`: 1 where the rows of a fold see another; the last row is of the test fold.

        Nobody sees the `hidden` folds.
        """
        seen = [
            [float(other in self.visible.get(fold, ()) and other not in hidden) for other in self.folds]
            for fold in (*self.folds, TEST)
        ]
        return np.array(seen).reshape(len(self.folds) + 1, len(self.folds))

    def to_json(self) -> dict[str, list[int]]:
        return {str(fold): list(folds) for fold, folds in self.visible.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Sequence[int]]) -> Self:
        return cls({int(fold): folds for fold, folds in content.items()})


class Labels(NamedTuple):
    """What is summed of a target: its value (no classes), or whether it is one of `classes` (indices)."""

    classes: tuple[int, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, target: Target, most: int, heaviest: Sequence[str] = ()) -> Self:
        """One output for a mean or two classes, one per class else; the `most` heaviest when there are more."""
        if not target.task.is_classification:
            return cls((), ("target",))
        if len(target.classes) == 2:
            return cls((1,), ("target",))
        names = [str(label) for label in target.classes]
        ranks = {name: rank for rank, name in enumerate(heaviest)}
        order = sorted(range(len(names)), key=lambda k: (ranks.get(names[k], len(ranks)), k))
        chosen = sorted(order[:most])
        return cls(tuple(chosen), tuple(f"target={names[k]}" for k in chosen))

    def indicators(self, target: np.ndarray) -> list[np.ndarray]:
        """Float64 `(rows,)` each: what is summed."""
        return [(target == k).astype(np.float64) for k in self.classes] or [target]


class Sums(NamedTuple):
    """What target encoding is computed from.

    `values` Arrow strings `(n,)`; `sums` `(n + 1, folds, outputs + 1)`, last row nulls, last column row counts; `total`
    `(folds, outputs + 1)` the same over all rows; `squares` `(folds, outputs)` sums of the squared target.
    """

    values: pa.Array
    sums: np.ndarray
    total: np.ndarray
    squares: np.ndarray


class TargetSums:
    """Sums of the target and row counts per (category, fold); mergeable.

    Memory is bounded: at most some eight times `cap` categories are held until their sums are added up, and twice `cap`
    after that, of which the lightest are dropped when there are more.
    Below `cap` distinct values the sums are exact; beyond, a category that was dropped and came back is undercounted.
    """

    def __init__(self, column: str, *, numeric: bool, visibility: Visibility, labels: Labels, cap: int) -> None:
        self.column, self.numeric, self.visibility, self.labels = column, numeric, visibility, labels
        self.cap = cap
        shape = (len(visibility.folds), len(labels.names) + 1)
        self._values = pa.array([], pa.string())
        self._sums = np.zeros((0, *shape))
        self._null, self._total = np.zeros(shape), np.zeros(shape)
        self._squares = np.zeros((shape[0], shape[1] - 1))
        self._pending: list[tuple[pa.Array, np.ndarray]] = []

    def update(self, batch: pa.RecordBatch) -> None:
        target, slots, known = labelled(batch, self.visibility)
        column = batch.column(self.column)
        texts = spelled(column if known is None else column.filter(known), numeric=self.numeric)
        encoded = texts.dictionary_encode()
        size, folds = len(encoded.dictionary), len(self.visibility.folds)
        codes = pc.fill_null(encoded.indices, size).to_numpy(zero_copy_only=False).astype(np.int64)
        parts = self.labels.indicators(target)
        sums = _sum_by(codes * folds + slots, (size + 1) * folds, [*parts, None]).reshape(size + 1, folds, -1)
        self._squares += _sum_by(slots, folds, [part**2 for part in parts])
        self._null += sums[size]
        self._total += sums.sum(axis=0)
        self._hold(encoded.dictionary, sums[:size])

    def _hold(self, values: pa.Array, sums: np.ndarray) -> None:
        self._pending.append((values, sums))
        if sum(len(held) for held, _ in self._pending) > max(_COMPACT_ROWS, 3 * len(self._values)):
            self._compact()

    def _compact(self) -> None:
        if not self._pending:
            return
        parts, self._pending = [(self._values, self._sums), *self._pending], []
        encoded = pa.concat_arrays([values for values, _ in parts]).dictionary_encode()
        codes, start = encoded.indices.to_numpy(zero_copy_only=False), 0
        self._values = encoded.dictionary
        self._sums = np.zeros((len(self._values), *self._null.shape))
        for values, sums in parts:  # in a part no value comes twice, so that no row is added to twice
            self._sums[codes[start : start + len(values)]] += sums
            start += len(values)
        if len(self._values) > 2 * self.cap:
            self._keep(heaviest(self._values, self._counts(), self.cap))

    def _counts(self) -> np.ndarray:
        counts: np.ndarray = self._sums[:, :, -1].sum(axis=1)
        return counts

    def _keep(self, places: np.ndarray) -> None:
        self._values, self._sums = self._values.take(pa.array(places)), self._sums[places]

    def merge(self, other: Self) -> None:
        self._null += other._null
        self._total += other._total
        self._squares += other._squares
        other._compact()
        self._hold(other._values, other._sums)

    def result(self) -> Sums:
        """At most `cap` categories, the heaviest first, ties in the order of the text."""
        self._compact()
        places = heaviest(self._values, self._counts(), self.cap)
        sums = np.concatenate([self._sums[places], [self._null]])
        return Sums(self._values.take(pa.array(places)), sums, self._total, self._squares)

    def state(self) -> State:
        self._compact()
        return {
            "column": self.column,
            "numeric": self.numeric,
            "visible": self.visibility.to_json(),
            "classes": list(self.labels.classes),
            "names": list(self.labels.names),
            "cap": self.cap,
            "values": self._values.to_pylist(),
            "sums": self._sums,
            "null": self._null,
            "total": self._total,
            "squares": self._squares,
        }

    @classmethod
    def from_state(cls, state: State) -> Self:
        labels = Labels(tuple(state["classes"]), tuple(state["names"]))
        visibility = Visibility.from_json(state["visible"])
        loaded = cls(state["column"], numeric=state["numeric"], visibility=visibility, labels=labels, cap=state["cap"])
        loaded._values = pa.array(state["values"], pa.string())
        loaded._sums, loaded._null = state["sums"], state["null"]
        loaded._total, loaded._squares = state["total"], state["squares"]
        return loaded


def labelled(batch: pa.RecordBatch, visibility: Visibility) -> tuple[np.ndarray, np.ndarray, pa.Array | None]:
    """Target and fold slot of the rows that count, and their mask (None: all rows do)."""
    target = batch.column(TARGET).to_numpy(zero_copy_only=False)
    slots = visibility.slots(batch.column(FOLD).to_numpy(zero_copy_only=False))
    known = ~np.isnan(target) & (slots >= 0)
    if known.all():
        return target, slots, None
    return target[known], slots[known], pa.array(known)


def _sum_by(cells: np.ndarray, size: int, weights: Sequence[np.ndarray | None]) -> np.ndarray:
    """Sums of each of `weights` (None: row counts) per cell, `(size, len(weights))`."""
    columns = [np.bincount(cells, weights=each, minlength=size) for each in weights]
    return np.stack(columns, axis=1).astype(np.float64)


def heaviest(values: pa.Array, counts: np.ndarray, most: int) -> np.ndarray:
    """Places of the `most` heaviest values by falling count, ties in the order of the text."""
    table = pa.table({"count": counts, "text": values})
    order = pc.sort_indices(table, sort_keys=[("count", "descending"), ("text", "ascending")])
    places: np.ndarray = order.to_numpy()[:most].astype(np.int64)
    return places


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
        return np.stack([_table(sums, weights, self._plan["smoothing"]) for weights in seen], axis=1)

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

    def sealed(self) -> Self:
        """A copy that encodes new rows only: the sums per fold are left out."""
        copy = type(self)(self.reads[0], numeric=self._numeric, plan=self._plan)
        copy._vocabulary, copy._features, copy._tables = self._vocabulary, self._features, self._tables[:, -1:]
        return copy

    def state(self) -> State:
        content: State = {"column": self.reads[0], "numeric": self._numeric, "plan": self._plan}
        if self._features:
            content["values"] = self._vocabulary.values.to_pylist()
        if self._sums is not None:
            content |= {"sums": self._sums.sums, "total": self._sums.total, "squares": self._sums.squares}
        elif self._features:
            content |= {"table": self._tables, "features": [feature.to_json() for feature in self._features]}
        return content

    @classmethod
    def from_state(cls, state: State) -> Self:
        loaded = cls(state["column"], numeric=state["numeric"], plan=state["plan"])
        values = pa.array(state.get("values", []), pa.string())
        if "sums" in state:
            loaded._adopt(Sums(values, state["sums"], state["total"], state["squares"]))
        elif "table" in state:
            loaded._vocabulary, loaded._tables = Vocabulary(values, numeric=state["numeric"]), state["table"]
            loaded._features = tuple(Feature.from_json(feature) for feature in state["features"])
        return loaded


def _table(sums: Sums, weights: np.ndarray, smoothing: float | None) -> np.ndarray:
    """Float32 `(outputs + 1, categories + 2)`: encodings and log row counts.

    Null and unseen come last, where the places -2 and -1 of a `Vocabulary` reach them. Row counts are scaled to
    the size of the whole training data, so that they mean the same in every fold.
    """
    seen = np.tensordot(weights, sums.sums, axes=(0, 1))  # (categories + 1, outputs + 1)
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
