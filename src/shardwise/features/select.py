"""Which features tell nothing: by mutual information, by permutation importance, and as copies of others.

A feature is dropped where both tests find nothing, as each one is blind somewhere: mutual information sees no
interaction, importance shares between features that say the same. What counts as nothing is measured: mutual
information with labels in another order, importance of shadows (columns of the data in another order).

| notation | meaning                                                                                       |
|----------|-----------------------------------------------------------------------------------------------|
| I(x; y)  | mutual information in nats of a feature and the target, both in bins; missing is a bin        |
| noise    | mean + 3 standard deviations of I(x; y') over orders y' of the target                          |
| copy     | rank correlation of at least `COPY` with an earlier feature, missing in the same rows          |

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
SELECT = ("auto", "none", "strict")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was measured of each feature, `(features,)` each; `copy_of` is the place of the one that is kept, or -1."""

    information: np.ndarray
    noise: np.ndarray
    importance: np.ndarray
    shadow: float
    copy_of: np.ndarray

    def useless(self, mode: str) -> np.ndarray:
        """Bool `(features,)`: both tests find nothing; with `strict` importance alone decides."""
        unimportant = self.importance <= self.shadow
        return unimportant if mode == "strict" else unimportant & (self.information <= self.noise)

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
    labels = y.astype(np.int64) if classes else binned(y)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(labels) for _ in range(ORDERS)]
    found, noise = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for feature in range(X.shape[1]):
        codes = binned(X[:, feature])
        found[feature] = information(codes, labels)
        chance = np.array([information(codes, order) for order in orders])
        noise[feature] = chance.mean() + 3 * chance.std()
    return found, noise


def copies(X: np.ndarray) -> np.ndarray:
    """Int64 `(features,)`: the earlier feature whose order of the rows is the same or the reverse, or -1."""
    X = X[:_COPY_ROWS]
    missing = ~np.isfinite(X)
    ranked = np.stack([_ranks(X[:, feature]) for feature in range(X.shape[1])], axis=1) if X.size else X
    norms = np.sqrt((ranked**2).sum(axis=0))
    alike = np.abs(ranked.T @ ranked) >= COPY * np.maximum(np.outer(norms, norms), 1e-300)
    found: np.ndarray = np.full(X.shape[1], -1, dtype=np.int64)
    for feature in range(X.shape[1]):
        for other in np.flatnonzero(alike[feature, :feature] & (norms[feature] > 0)).tolist():
            if found[other] < 0 and (missing[:, feature] == missing[:, other]).all():
                found[feature] = other
                break
    return found


def _ranks(values: np.ndarray) -> np.ndarray:
    """Centred ranks, those of equal values averaged; missing is the centre."""
    known = np.isfinite(values)
    ranks = np.zeros(len(values))
    _, inverse, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    if known.any():
        middles = np.cumsum(counts) - (counts - 1) / 2.0
        ranks[known] = middles[inverse] - (known.sum() + 1) / 2.0
    return ranks
