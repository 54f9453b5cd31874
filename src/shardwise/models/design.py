"""How features become the columns of a linear model: standardised numbers, and categories as rows of a weight table.

A design has `numbers` columns, then one slot for each category of each CODE feature and one for its missing value. A
category is looked up (`W[slot]`), never written out as a one-hot vector.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from shardwise.core.schema import Feature, FeatureKind
from shardwise.data.rows import Chunk

BLOCK_CELLS = 1 << 18  # float64 that are standardised at a time


@dataclass(frozen=True)
class Block:
    """Prepared rows.

    `numbers` float32 `(rows, numbers)`, row-major; `slots` int32 `(rows, codes)`, numbers of the table's rows;
    `y` float32 `(rows,)`; `weight` float32 `(rows,)` with the mean 1, or None.
    """

    numbers: np.ndarray
    slots: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None

    def take(self, rows: np.ndarray | slice) -> "Block":
        weight = None if self.weight is None else self.weight[rows]
        return Block(self.numbers[rows], self.slots[rows], self.y[rows], weight)

    def __len__(self) -> int:
        return len(self.y)


class Design:
    """The columns of a linear model for some features; `width` counts numbers and slots.

    Features in the places `apart` are left out.
    """

    def __init__(self, features: Sequence[Feature], onehot_limit: int, apart: Collection[int] = ()) -> None:
        self._features = tuple(features)
        places = frozenset(apart)
        left = [i for i in range(len(self._features)) if i not in places]
        self._numbers = [i for i in left if features[i].kind is not FeatureKind.CODE]
        coded = (i for i in left if features[i].kind is FeatureKind.CODE)
        self._codes = [i for i in coded if features[i].cardinality <= onehot_limit]
        sizes = [features[i].cardinality + 1 for i in self._codes]  # and one for the missing value
        self._starts = np.cumsum([len(self._numbers), *sizes]).tolist()
        self.width = self._starts[-1]

    @property
    def numbers(self) -> int:
        return len(self._numbers)

    @property
    def codes(self) -> int:
        """Features that are looked up."""
        return len(self._codes)

    @property
    def row_bytes(self) -> int:
        """Bytes of a prepared row."""
        return 4 * (len(self._numbers) + len(self._codes) + 2)

    @property
    def code_columns(self) -> list[int]:
        """Which columns of X are looked up."""
        return list(self._codes)

    @property
    def slot_ranges(self) -> list[tuple[int, int]]:
        """The slots of each feature that is looked up: (first, one past the last)."""
        return list(pairwise(self._starts))

    def prepare(self, chunk: Chunk, y: np.ndarray, mean_weight: float) -> Block:
        """Rows ready for the descent; `y` are the chunk's targets on the scale of the model."""
        numbers, slots = self.columns(chunk.X)
        weight = None if chunk.weight is None else (chunk.weight / mean_weight).astype(np.float32)
        return Block(numbers, slots, y.astype(np.float32), weight)

    def widened(self, block: Block) -> Block:
        """The block with columns that are made of others; here there are none."""
        return block

    def columns(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`Block.numbers` and `Block.slots` of X `(rows, features)`."""
        slots = np.empty((len(X), len(self._codes)), np.int32)
        for place, i in enumerate(self._codes):
            slots[:, place] = self._slots(place, X[:, i])
        return self.plain(X), slots

    def plain(self, X: np.ndarray) -> np.ndarray:
        """The numbers of rows, float32 `(rows, numbers)`."""
        numbers = np.empty((len(X), len(self._numbers)), np.float32)
        for places, values in self._blocks(X, range(len(self._numbers))):
            numbers[:, places] = values.T
        return numbers

    def _blocks(self, X: np.ndarray, places: Sequence[int]) -> Iterator[tuple[Sequence[int], np.ndarray]]:
        """The numbers at these places standardised, float64 `(places, rows)`, as many at a time as the cache holds."""
        most = max(1, BLOCK_CELLS // max(1, len(X)))
        for start in range(0, len(places), most):
            block = places[start : start + most]
            values = X[:, [self._numbers[place] for place in block]].astype(np.float64, order="F").T
            self._scales.of(block).standardise(values)
            yield block, values

    @cached_property
    def _scales(self) -> "_Scales":
        return _Scales.of_features([self._features[i] for i in self._numbers])

    def _slots(self, place: int, column: np.ndarray) -> np.ndarray:
        """Numbers of the table's rows; a code beyond the known ones counts as unseen, 0."""
        start, missing = self._starts[place], self._starts[place + 1] - 1 - self._starts[place]
        known = (column >= 0) & (column < missing)
        codes = np.where(known, column, np.where(np.isnan(column), missing, 0))
        return np.asarray(codes.astype(np.int32) + np.int32(start))

    def scores(self, X: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Float64 `(rows, scores)`: summed column by column, in the same order whatever the number of rows."""
        total = np.repeat(weights[-1][:, None], len(X), axis=1)
        for places, block in self._blocks(X, np.flatnonzero(weights[: len(self._numbers)].any(axis=1)).tolist()):
            for place, values in zip(places, block, strict=True):
                total += values * weights[place][:, None]
        for place, i in enumerate(self._codes):
            total += weights[self._slots(place, X[:, i])].T
        return np.ascontiguousarray(total.T)

    def terms(self, X: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """What the `scores` are sums of, float64 `(rows, features + 1, scores)`; the last one is the intercept."""
        terms = np.zeros((len(X), len(self._features) + 1, weights.shape[1]))
        for places, block in self._blocks(X, range(len(self._numbers))):
            for place, values in zip(places, block, strict=True):
                terms[:, self._numbers[place]] = values[:, None] * weights[place]
        for place, i in enumerate(self._codes):
            terms[:, i] = weights[self._slots(place, X[:, i])]
        terms[:, -1] = weights[-1]
        return terms

    def for_rows(self, weights: np.ndarray) -> "RowScores":
        """The scores of single rows with these weights."""
        used = [place for place in range(len(self._numbers)) if weights[place].any()]
        features = [self._features[self._numbers[place]] for place in used]
        return RowScores(self, weights, used, features)

    def number_columns(self, places: Sequence[int]) -> list[int]:
        """Which columns of X the numbers at these places are."""
        return [self._numbers[place] for place in places]

    def slots_of(self, X: np.ndarray) -> list[int]:
        """Numbers of the table's rows for X `(1, features)`."""
        return [int(self._slots(place, X[:, i])[0]) for place, i in enumerate(self._codes)]

    def spread(self, weights: np.ndarray) -> np.ndarray:
        """How much each feature moves the scores, float64 `(features,)`.

        Of a number its weight (it is standardised), of a category the standard deviation of its weights.
        """
        spread = np.zeros(len(self._features))
        spread[self._numbers] = np.abs(weights[: len(self._numbers)]).sum(axis=1)
        for place, i in enumerate(self._codes):
            spread[i] = weights[self._starts[place] : self._starts[place + 1]].std(axis=0).sum()
        return spread


def shares(features: Sequence[Feature], spread: np.ndarray) -> dict[str, float]:
    """Share of each feature in the `spread` `(features,)` of the scores; empty where nothing moves them."""
    total = spread.sum()
    return {f.name: float(s) for f, s in zip(features, spread / total, strict=True)} if total > 0 else {}


class RowScores:
    """`Design.scores` of one row: all numbers at once, summed in the same order, so that the bits are the same."""

    def __init__(self, design: Design, weights: np.ndarray, places: Sequence[int], features: Sequence[Feature]) -> None:
        self._design, self._weights = design, weights
        self._columns = design.number_columns(places)
        self._of_numbers = weights[list(places)]
        self._scales = _Scales.of_features(features)

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Float64 `(1, scores)` for X `(1, features)`."""
        values = X[:, self._columns].astype(np.float64).T
        self._scales.standardise(values)
        slots = self._design.slots_of(X)
        terms = np.concatenate([self._weights[-1:], values * self._of_numbers, self._weights[slots]])
        return np.asarray(np.add.accumulate(terms, axis=0)[-1:])


class _Scales(NamedTuple):
    """How numbers are standardised, float64 `(numbers, 1)`."""

    low: np.ndarray
    high: np.ndarray
    fill: np.ndarray
    center: np.ndarray
    scale: np.ndarray

    @classmethod
    def of_features(cls, features: Sequence[Feature]) -> "_Scales":
        facts = [(f.low, f.high, f.fill, f.center, f.scale if f.scale > 0 else 1.0) for f in features]
        return cls(*np.array(facts, dtype=np.float64).reshape(-1, 5).T[:, :, None])

    def of(self, places: Sequence[int]) -> "_Scales":
        chosen = list(places)
        return _Scales(*(part[chosen] for part in self))

    def standardise(self, values: np.ndarray) -> None:
        """(clip(x or fill) - center) / scale of float64 `(numbers, rows)`, in place."""
        np.copyto(values, self.fill, where=np.isnan(values))
        np.clip(values, self.low, self.high, out=values)
        np.copyto(values, self.fill, where=~np.isfinite(values))
        values -= self.center
        values /= self.scale
