"""Which features tell nothing: by mutual information, by permutation importance, and as copies of others.

A feature is dropped where both tests find nothing, as each one is blind somewhere: mutual information sees no
interaction, importance shares between features that say the same. What counts as nothing is measured: mutual
information with labels in another order, importance of shadows (columns of the data in another order).

| notation | meaning                                                                                       |
|----------|-----------------------------------------------------------------------------------------------|
| I(x; y)  | mutual information in nats of a feature and the target, both in bins; missing is a bin        |
| noise    | mean + 3 standard deviations of I(x; y') over orders y' of the target                          |
| alike    | rank correlation of at least `COPY` with an earlier feature, missing in the same rows          |
| copy     | alike, and what is left of the one beside the other tells nothing of the target: bid and ask   |
|          | order the rows alike, and their difference is the spread                                       |

Cover and Thomas 2006, "Elements of Information Theory"; shadows: Kursa and Rudnicki 2010, "Feature Selection with the
Boruta Package".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 24
ORDERS = 24
COPY = 0.9999
_COPY_ROWS = 5_000
_STRETCHES = 100  # of rows, at most, in which one of two features that are alike is a line in the other
_LEAST_STRETCH = 20  # rows
_LEVELS = 8  # of what is left
_TRIES = 8  # features that are alike with which each is compared
_MOST_TRIES = 500  # in all: about two seconds; then the order alone decides
_SURE = 6.0  # standard deviations of noise: of many copies none is kept by chance
SELECT = ("auto", "none", "strict")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was measured of each feature, `(features,)` each; `copy_of` is the place of the one that is kept, or -1.

    `beside` says that it tells of the target beside one that is alike, whatever it tells alone.
    """

    information: np.ndarray
    noise: np.ndarray
    importance: np.ndarray
    shadow: float
    copy_of: np.ndarray
    beside: np.ndarray

    def useless(self, mode: str) -> np.ndarray:
        """Bool `(features,)`: both tests find nothing; with `strict` importance alone decides."""
        unimportant = self.importance <= self.shadow
        return unimportant if mode == "strict" else unimportant & (self.information <= self.noise) & ~self.beside

    def says(self, feature: int, names: Sequence[str]) -> str:
        """Why a feature is dropped."""
        if self.copy_of[feature] >= 0:
            return f"it orders the rows like {names[self.copy_of[feature]]!r}"
        return (
            f"it tells nothing: information {self.information[feature]:.2g} (noise {self.noise[feature]:.2g}), "
            f"importance {self.importance[feature]:.2g} (noise {self.shadow:.2g})"
        )


def binned(values: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Int64 `(rows,)`: quantile bins from 1, or whole values where there are few; 0 is missing.

    >>> binned(np.array([5.0, np.nan, 7.0, 5.0])).tolist()
    [1, 0, 2, 1]
    """
    known = np.isfinite(values)
    codes = np.zeros(len(values), dtype=np.int64)
    distinct: np.ndarray = np.unique(values[known])
    if len(distinct) > bins:
        distinct = np.unique(np.quantile(values[known], np.linspace(0, 1, bins + 1)[:-1]))
    codes[known] = np.searchsorted(distinct, values[known], side="right")
    return codes


def information(codes: np.ndarray, labels: np.ndarray) -> float:
    """Mutual information in nats of two columns of whole numbers from 0 up.

    >>> round(information(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0])), 4)
    0.6931
    """
    width = int(labels.max(initial=0)) + 1
    joint: np.ndarray = np.bincount(codes * width + labels, minlength=(int(codes.max(initial=0)) + 1) * width)
    joint = joint.reshape(-1, width) / max(1, len(codes))
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    told = joint > 0
    return float((joint[told] * np.log(joint[told] / product[told])).sum())


def informations(X: np.ndarray, y: np.ndarray, seed: int, *, classes: bool) -> tuple[np.ndarray, np.ndarray]:
    """Information and noise of each column of `X` `(rows, features)` about `y` `(rows,)`."""
    known = _Known(y, seed, classes=classes)
    pairs = [known.of(binned(X[:, feature])) for feature in range(X.shape[1])]
    found, noise = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return found, noise


class _Known:
    """The target in bins, and in other orders."""

    def __init__(self, y: np.ndarray, seed: int, *, classes: bool) -> None:
        self.labels = y.astype(np.int64) if classes else binned(y)
        rng = np.random.default_rng(seed)
        self.orders = [rng.permutation(self.labels) for _ in range(ORDERS)]

    def of(self, codes: np.ndarray, deviations: float = 3.0) -> tuple[float, float]:
        """Information and noise."""
        chance = np.array([information(codes, order) for order in self.orders])
        return information(codes, self.labels), float(chance.mean() + deviations * chance.std())


def alike(X: np.ndarray) -> list[list[int]]:
    """For each feature the earlier ones whose order of the rows is the same or the reverse."""
    X = X[:_COPY_ROWS]
    _, pattern = np.unique(~np.isfinite(X), axis=1, return_inverse=True)  # of what is missing
    ranked = np.stack([_ranks(X[:, feature]) for feature in range(X.shape[1])], axis=1) if X.size else X
    norms = np.sqrt((ranked**2).sum(axis=0))
    near = np.abs(ranked.T @ ranked) >= COPY * np.maximum(np.outer(norms, norms), 1e-300)
    return [
        np.flatnonzero(
            near[feature, :feature] & (pattern[feature] == pattern[:feature]) & (norms[feature] > 0)
        ).tolist()
        for feature in range(X.shape[1])
    ]


def copies(X: np.ndarray, y: np.ndarray, seed: int, *, classes: bool) -> tuple[np.ndarray, np.ndarray]:
    """Int64 `(features,)`: the earlier feature of which each is a copy, or -1; and bool: which tell beside another."""
    X, known = X[:_COPY_ROWS], _Known(y[:_COPY_ROWS], seed, classes=classes)
    found: np.ndarray = np.full(X.shape[1], -1, dtype=np.int64)
    beside = np.zeros(X.shape[1], dtype=bool)
    tries = 0
    for feature, others in enumerate(alike(X)):
        for other in [each for each in others if found[each] < 0][:_TRIES]:
            tries += 1
            left = _left(X[:, feature], X[:, other])
            told, noise = known.of(left, _SURE) if tries <= _MOST_TRIES else (0.0, 0.0)
            if told <= noise:
                found[feature] = other
                break
            beside[[feature, other]] = True
    return found, beside & (found < 0)


def _left(x: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Int64 `(rows,)`: levels from 1 of what is left of `x` when lines in `other` are taken off; 0 is missing.

    A line for each stretch of rows that are neighbours, and levels within it: a curve leaves nothing that tells where
    on it a row is, and a line nothing but rounding.
    """
    codes = np.zeros(len(x), dtype=np.int64)
    rows = np.flatnonzero(np.isfinite(x) & np.isfinite(other))
    length = min(len(rows), max(_LEAST_STRETCH, len(rows) // _STRETCHES))
    if not length:
        return codes
    ordered = rows[np.argsort(other[rows], kind="stable")]
    parts = ordered[: len(rows) // length * length].reshape(-1, length)
    a, b = other[parts].astype(np.float64), x[parts].astype(np.float64)
    a, b = a - a.mean(axis=1)[:, None], b - b.mean(axis=1)[:, None]
    left = b - a * ((a * b).sum(axis=1) / np.maximum((a**2).sum(axis=1), 1e-300))[:, None]
    codes[parts] = 1 + np.argsort(np.argsort(left, axis=1, kind="stable"), axis=1, kind="stable") * _LEVELS // length
    return codes


def _ranks(values: np.ndarray) -> np.ndarray:
    """Centred ranks, those of equal values averaged; missing is the centre."""
    known = np.isfinite(values)
    ranks = np.zeros(len(values))
    _, inverse, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    if known.any():
        middles = np.cumsum(counts) - (counts - 1) / 2.0
        ranks[known] = middles[inverse] - (known.sum() + 1) / 2.0
    return ranks
