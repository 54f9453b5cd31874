"""Sums of the target per (category, fold): what out-of-fold features are computed from."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.state import State
from shardwise.core.target import Target
from shardwise.features.base import FOLD, TARGET, TEST
from shardwise.features.category import spelled
from shardwise.stats.arrays import array_from_state, array_to_state, filled, narrow, used_words

_COMPACT_CELLS = 1 << 22  # sums that are held at most before they are added up; fewer where columns share the memory
_GATHERED_ROWS = 1 << 19  # at most, that are added up at once; fewer where columns share the memory


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
        self._rows: list[tuple[pa.Array, np.ndarray, np.ndarray, np.ndarray]] = []  # words, code, slot, target
        self._row_count = 0

    def update(self, batch: pa.RecordBatch) -> None:
        target, slots, known = labelled(batch, self.visibility)
        column = batch.column(self.column)
        words, codes = _coded(column if known is None else column.filter(known), numeric=self.numeric)
        self._rows.append((words, codes, slots.astype(np.int8), target))
        self._row_count += len(codes)
        if self._row_count > min(_GATHERED_ROWS, 4 * self.cap):
            self._add_up()

    def _add_up(self) -> None:
        """Sum the rows that were gathered; many at once, because each batch has most of the words again."""
        if not self._row_count:
            return
        gathered, self._rows, self._row_count = self._rows, [], 0
        encoded = pa.concat_arrays([words for words, *_ in gathered]).dictionary_encode()
        size, folds, start = len(encoded.dictionary), len(self.visibility.folds), 0
        names, cells = filled(encoded.indices).astype(np.intp) * folds, []
        for words, codes, slots, _ in gathered:
            cells.append(np.append(names[start : start + len(words)], size * folds)[codes] + slots)
            start += len(words)
        parts = self.labels.indicators(np.concatenate([target for *_, target in gathered]))
        sums = _sum_by(np.concatenate(cells), (size + 1) * folds, [*parts, None]).reshape(size + 1, folds, -1)
        total = sums.sum(axis=0)
        if self.labels.classes:
            self._squares += total[:, :-1]  # of 0 and 1
        else:
            slots = np.concatenate([slots for *_, slots, _ in gathered])
            self._squares += _sum_by(slots, folds, [part**2 for part in parts])
        self._null += sums[size]
        self._total += total
        self._hold(encoded.dictionary, sums[:size])

    def _hold(self, values: pa.Array, sums: np.ndarray) -> None:
        self._pending.append((values, sums))
        most = max(min(_COMPACT_CELLS // self._null.size, 4 * self.cap), 3 * len(self._values))
        if sum(len(held) for held, _ in self._pending) > most:
            self._compact()

    def _compact(self) -> None:
        self._add_up()
        if not self._pending:
            return
        parts, self._pending = [(self._values, self._sums), *self._pending], []
        if len(parts) == 2 and not len(self._values):  # no value comes twice
            self._values, self._sums = parts[1]
        else:
            self._join(parts)
        if len(self._values) > 2 * self.cap:
            self._keep(heaviest(self._values, self._counts(), self.cap))

    def _join(self, parts: Sequence[tuple[pa.Array, np.ndarray]]) -> None:
        encoded = pa.concat_arrays([values for values, _ in parts]).dictionary_encode()
        codes, start = encoded.indices.to_numpy(zero_copy_only=False), 0
        self._values = encoded.dictionary
        self._sums = np.zeros((len(self._values), *self._null.shape))
        for values, sums in parts:  # in a part no value comes twice, so that no row is added to twice
            self._sums[codes[start : start + len(values)]] += sums
            start += len(values)

    def _counts(self) -> np.ndarray:
        counts: np.ndarray = self._sums[:, :, -1].sum(axis=1)
        return counts

    def _keep(self, places: np.ndarray) -> None:
        self._values, self._sums = self._values.take(pa.array(places)), self._sums[places]

    def merge(self, other: Self) -> None:
        other._compact()
        self._null += other._null
        self._total += other._total
        self._squares += other._squares
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
            "values": array_to_state(self._values),
            "sums": narrow(self._sums),
            "null": self._null,
            "total": self._total,
            "squares": self._squares,
        }

    @classmethod
    def from_state(cls, state: State) -> Self:
        labels = Labels(tuple(state["classes"]), tuple(state["names"]))
        visibility = Visibility.from_json(state["visible"])
        loaded = cls(state["column"], numeric=state["numeric"], visibility=visibility, labels=labels, cap=state["cap"])
        loaded._values = array_from_state(state["values"])
        loaded._sums, loaded._null = state["sums"].astype(np.float64), state["null"]
        loaded._total, loaded._squares = state["total"], state["squares"]
        return loaded


def _coded(column: pa.Array, *, numeric: bool) -> tuple[pa.Array, np.ndarray]:
    """The spellings that occur, each once, and int32 `(rows,)` which one a cell has; nulls come after the last.

    Only distinct values are spelled out.
    """
    encoded = used_words(column) if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    if encoded.dictionary.type == pa.string() and not numeric:  # no two words have one spelling
        return encoded.dictionary, filled(pc.fill_null(encoded.indices, len(encoded.dictionary)))
    words = spelled(encoded.dictionary, numeric=numeric).dictionary_encode()
    size = len(words.dictionary)
    codes = np.append(filled(pc.fill_null(words.indices, size)), np.int32(size))
    cells: np.ndarray = codes[filled(pc.fill_null(encoded.indices, len(encoded.dictionary)))]
    return words.dictionary, cells


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
