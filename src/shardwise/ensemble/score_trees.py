"""Small trees on the scores of models: what they add to a linear stack. What learns them is in `growing`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

SPLITS = 3  # of a tree, at most
PLACES = 2**SPLITS
_BLOCK_ROWS = 16_384
_FEW_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class ScoreTrees:
    """Trees, each with `SPLITS` splits `score[features] > bounds` and the table of its answers, `PLACES` values: at the
    place whose bits are the splits' answers, the first one's highest. A split that a tree does not need has the bound
    infinity. `columns`: to which raw score each of them adds.
    """

    columns: tuple[int, ...]
    features: tuple[tuple[int, ...], ...]
    bounds: tuple[tuple[float, ...], ...]
    values: tuple[tuple[float, ...], ...]

    def added(self, scores: np.ndarray, columns: int) -> np.ndarray:
        """Float64 `(rows, columns)` of scores `(rows, features)`; trees are added in their order, row by row."""
        if len(scores) < _FEW_ROWS:
            return self._of_few(scores, columns)
        found = np.zeros((columns, len(scores)))
        trees = list(zip(self.columns, *self.arrays, strict=True))
        for start in range(0, len(scores), _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            by_feature = np.ascontiguousarray(scores[rows].T)
            for column, features, bounds, values in trees:
                place = np.zeros(by_feature.shape[1], np.uint8)
                for feature, bound in zip(features, bounds, strict=True):
                    place += place
                    place += by_feature[feature] > bound
                found[column, rows] += values.take(place)
        return found.T

    def _of_few(self, scores: np.ndarray, columns: int) -> np.ndarray:
        """All trees at once: calls of NumPy cost more than what is computed."""
        found = np.zeros((len(scores), columns))
        features, bounds, values = self.arrays
        place = np.zeros((len(scores), len(values)), np.intp)
        for feature, bound in zip(features.T, bounds.T, strict=True):
            place += place
            place += scores.take(feature, axis=1) > bound
        place += np.arange(0, values.size, PLACES)
        answers = values.take(place)
        for column, trees in self._of_column.items():
            found[:, column] = answers.take(trees, axis=1).cumsum(axis=1)[:, -1]
        return found

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features and bounds `(trees, SPLITS)`, values `(trees, PLACES)`."""
        trees = len(self.columns)  # none, too, have these shapes
        features = np.array(self.features, np.intp).reshape(trees, SPLITS)
        bounds, values = (np.array(each, np.float64) for each in (self.bounds, self.values))
        return features, bounds.reshape(trees, SPLITS), values.reshape(trees, PLACES)

    @cached_property
    def _of_column(self) -> Mapping[int, np.ndarray]:
        columns = np.array(self.columns)
        return {column: np.flatnonzero(columns == column) for column in np.unique(columns).tolist()}

    def to_json(self) -> list[dict[str, Any]]:
        """A dict for each tree; the bound of a split that it does not need is None."""
        trees = zip(self.columns, self.features, self.bounds, self.values, strict=True)
        return [
            {"column": column, "features": list(features), "bounds": [b if b < np.inf else None for b in bounds],
             "values": list(values)}
            for column, features, bounds, values in trees
        ]  # fmt: skip

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """Inverse of `to_json`; raises `KeyError`, `TypeError` or `ValueError` for another content."""
        found = cls(
            columns=tuple(int(tree["column"]) for tree in content),
            features=tuple(tuple(map(int, tree["features"])) for tree in content),
            bounds=tuple(tuple(np.inf if b is None else float(b) for b in tree["bounds"]) for tree in content),
            values=tuple(tuple(map(float, tree["values"])) for tree in content),
        )
        sizes = (found.features, SPLITS), (found.bounds, SPLITS), (found.values, PLACES)
        if any(len(each) != size for several, size in sizes for each in several):
            raise ValueError("no trees")
        return found
