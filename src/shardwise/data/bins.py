"""Bins: a feature's float32 values as uint8 codes, a byte a cell, from which trees are learned.

Notation: `b_0 < b_1 < ... < b_m` are the bounds of a feature; the code of x is the number of bounds below x, so that
`code(x) <= k` exactly when `x <= b_k`. A tree that is learned on codes is thus the same tree on raw values, with
`b_k` in the place of k. Missing values have the code 255. A category's code is its number.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Self

import numpy as np

from shardwise.core.errors import DataError
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.state import State

MISSING = 255
MAX_BINS = 254  # of values; with the missing ones LightGBM counts 255
FORMAT = 1


class Binner:
    """Bounds of the binned features, fitted on a sample of model-ready rows.

    `columns` int64 `(binned,)` are the numbers of the features that have bins. Redundant features and those that never
    vary have none: to a tree they are a byte a row for nothing.

    >>> age = Feature(name="age", source="age", kind=FeatureKind.NUMBER)
    >>> binner = Binner.fit([age], np.array([[1.0], [2.0], [3.0], [np.nan]], np.float32))
    >>> binner.codes(np.array([[0.0], [2.0], [2.6], [np.nan]], np.float32)).tolist()
    [[0, 1, 2, 255]]
    """

    def __init__(self, columns: Sequence[int], bounds: Sequence[np.ndarray]) -> None:
        self.columns = np.asarray(columns, np.int64)
        self.bounds = tuple(np.asarray(each, np.float32) for each in bounds)

    @classmethod
    def fit(cls, features: Sequence[Feature], X: np.ndarray, *, max_bins: int = MAX_BINS) -> Self:
        """From a sample X float32 `(rows, features)`; more rows give bounds nearer to the quantiles of all rows."""
        columns, bounds = [], []
        for i, feature in enumerate(features):
            if feature.redundant:
                continue
            found = _bounds(feature, X[:, i], max_bins)
            if len(found) or np.isnan(X[:, i]).any():
                columns.append(i)
                bounds.append(found)
        return cls(columns, bounds)

    def features(self, features: Sequence[Feature]) -> tuple[Feature, ...]:
        """Those that have bins, in the order of the codes' rows."""
        return tuple(features[i] for i in self.columns.tolist())

    def codes(self, X: np.ndarray) -> np.ndarray:
        """Uint8 `(binned, rows)` for X float32 `(rows, features)`."""
        out = np.empty((len(self.columns), len(X)), np.uint8)
        for row, (column, bounds) in enumerate(zip(self.columns.tolist(), self.bounds, strict=True)):
            values = X[:, column]
            out[row] = np.searchsorted(bounds, values)
            missing = np.isnan(values)
            if missing.any():
                out[row, missing] = MISSING
        return out

    def state(self) -> State:
        return {"format": FORMAT, "columns": self.columns, "bounds": list(self.bounds)}

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Inverse of `state`; raises `DataError` for another format."""
        if state.get("format") != FORMAT:
            raise DataError(f"bins of format {state.get('format')!r}, {FORMAT} is known", hint="Encode again.")
        return cls(state["columns"], state["bounds"])


def _bounds(feature: Feature, values: np.ndarray, max_bins: int) -> np.ndarray:
    """Float32 `(bins - 1,)`: between the categories, between few distinct values, else at even counts."""
    if feature.kind is FeatureKind.CODE:
        if feature.cardinality > MISSING:
            raise DataError(f"{feature.name!r} has {feature.cardinality} categories, {MISSING} have bins")
        return np.arange(feature.cardinality - 1, dtype=np.float32) + np.float32(0.5)
    distinct, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    cuts = np.arange(1, len(distinct)) if len(distinct) <= max_bins else _even_cuts(counts, max_bins)
    below, above = distinct[cuts - 1].astype(np.float64), distinct[cuts].astype(np.float64)
    middle = (below + (above - below) / 2).astype(np.float32)
    return np.where(middle < distinct[cuts], middle, distinct[cuts - 1])  # neighbours in float32 have no middle


def _even_cuts(counts: np.ndarray, bins: int) -> np.ndarray:
    """Cuts int64 `(at most bins - 1,)`: cut k separates the distinct values k - 1 and k.

    A value with more than an even share of the rows gets a bin of its own; the others share the bins that are left.
    """
    if counts.max() == 1:  # as of most measured numbers of few rows
        return _cuts_of_single(len(counts), bins)
    heavy = np.zeros(len(counts), bool)
    for _ in range(8):  # what the heavy ones take changes what an even share of the others is
        share = counts[~heavy].sum() / max(1, bins - heavy.sum())
        more = ~heavy & (counts > share)
        if not more.any():
            break
        heavy |= more
    left = max(1, bins - 2 * int(heavy.sum()) - 1)  # a heavy value between others splits their bin in two
    starts = _starts(np.cumsum(np.where(heavy, 0, counts)), left)
    around = np.flatnonzero(heavy)
    cuts = np.unique(np.concatenate([starts, around, around + 1]))
    return cuts[(cuts > 0) & (cuts < len(counts))]


@lru_cache(maxsize=16)
def _cuts_of_single(values: int, bins: int) -> np.ndarray:
    """Where more distinct values than bins have a row each."""
    return _starts(np.arange(1, values + 1), max(1, bins - 1))


def _starts(ranks: np.ndarray, left: int) -> np.ndarray:
    """Cuts that share out rows to `left` bins; `ranks` `(values,)` counts the rows up to each value."""
    place = np.minimum((ranks - 1) * left // max(1, int(ranks[-1])), left - 1)
    return np.flatnonzero(np.diff(place) > 0) + 1
