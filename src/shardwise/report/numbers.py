"""The numbers behind the charts: pure NumPy in, small arrays out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_Z = 1.96  # two-sided 95 % of the normal distribution


@dataclass(frozen=True)
class Bins:
    """Rows grouped by their prediction. All arrays `(bins,)`; `low` and `high` bound `actual` (95 %)."""

    predicted: np.ndarray
    actual: np.ndarray
    low: np.ndarray
    high: np.ndarray
    error: np.ndarray
    rows: np.ndarray


def thin(x: np.ndarray, y: np.ndarray, most: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` points of a curve, evenly spaced along its drawn length; both ends stay.

    >>> x, y = thin(np.arange(1000.0), np.zeros(1000), most=3)
    >>> x.tolist()
    [0.0, 500.0, 999.0]
    """
    if len(x) <= most:
        return x, y
    steps = np.abs(np.diff(x)) / (np.ptp(x) or 1.0) + np.abs(np.diff(y)) / (np.ptp(y) or 1.0)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    places = np.searchsorted(along, np.linspace(0.0, along[-1], most))
    places[0], places[-1] = 0, len(x) - 1
    kept = np.unique(places.clip(0, len(x) - 1))
    return x[kept], y[kept]


def roc(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """False and true positive rates, thinned, and the area under the whole curve; `positive` is 0 or 1 `(n,)`."""
    hits, misses = _counts(positive, score)
    true_rate, false_rate = hits / hits[-1], misses / misses[-1]
    area = float(np.trapezoid(true_rate, false_rate))
    return *thin(false_rate, true_rate), area


def precision_recall(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Recall and precision, thinned, and the average precision of the whole curve."""
    hits, misses = (counts[1:] for counts in _counts(positive, score))
    recall, precision = hits / hits[-1], hits / (hits + misses)
    area = float(np.sum(np.diff(recall, prepend=0.0) * precision))
    return *thin(np.append(0.0, recall), np.append(1.0, precision)), area


def _counts(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positive and other rows above each threshold, from none to all, equal scores together."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    hits = np.cumsum(positive[order])[last]
    return np.append(0.0, hits), np.append(0.0, last + 1 - hits)


def wilson(hits: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a share (Wilson, 1927): never outside [0, 1], sensible for few rows.

    >>> low, high = wilson(np.array([0.0]), np.array([10.0]))
    >>> float(low[0]), round(float(high[0]), 3)
    (0.0, 0.278)
    """
    share = hits / rows
    center = (share + _Z**2 / (2 * rows)) / (1 + _Z**2 / rows)
    half = _Z * np.sqrt(share * (1 - share) / rows + _Z**2 / (4 * rows**2)) / (1 + _Z**2 / rows)
    low = np.where(hits <= 0, 0.0, center - half)
    return np.clip(low, 0, 1), np.clip(np.where(hits >= rows, 1.0, center + half), 0, 1)


def groups(score: np.ndarray, bins: int) -> tuple[np.ndarray, int]:
    """Bin of each row: about equally many rows in each, equal scores always together; empty bins do not exist."""
    edges = np.unique(np.quantile(score, np.linspace(0, 1, bins + 1)[1:-1]))
    _, places = np.unique(np.searchsorted(edges, score, side="right"), return_inverse=True)
    return places, int(places.max()) + 1


def calibration(positive: np.ndarray, score: np.ndarray, bins: int = 10) -> Bins:
    """Share of positives in bins of the predicted probability, with Wilson intervals."""
    places, n = groups(score, bins)
    rows = np.bincount(places, minlength=n).astype(np.float64)
    hits = np.bincount(places, weights=positive, minlength=n)
    predicted = np.bincount(places, weights=score, minlength=n) / rows
    low, high = wilson(hits, rows)
    return Bins(predicted, hits / rows, low, high, np.abs(predicted - hits / rows), rows)


def deciles(y: np.ndarray, prediction: np.ndarray, bins: int = 10) -> Bins:
    """Mean target and mean absolute error in bins of the prediction, with normal intervals of the mean."""
    places, n = groups(prediction, bins)
    rows = np.bincount(places, minlength=n).astype(np.float64)
    predicted = np.bincount(places, weights=prediction, minlength=n) / rows
    actual = np.bincount(places, weights=y, minlength=n) / rows
    squares = np.bincount(places, weights=(y - actual[places]) ** 2, minlength=n)
    half = _Z * np.sqrt(squares / np.maximum(rows - 1, 1) / rows)
    error = np.bincount(places, weights=np.abs(y - prediction), minlength=n) / rows
    return Bins(predicted, actual, actual - half, actual + half, error, rows)


def confusion(y: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts `(classes, classes)`: a row per actual class, a column per predicted one.

    >>> confusion(np.array([0, 1, 1]), np.array([0, 1, 0]), 2).tolist()
    [[1, 0], [1, 1]]
    """
    return np.bincount(y * classes + predicted, minlength=classes**2).reshape(classes, classes)


def gains(positive: np.ndarray, score: np.ndarray, shares: Sequence[float]) -> list[dict[str, float]]:
    """What acting on the rows with the highest scores gets: share, threshold, precision, recall, lift."""
    order = np.argsort(-score, kind="stable")
    found = np.cumsum(positive[order])
    total, rows = float(found[-1]), len(order)
    table = []
    for share in shares:
        n = max(1, round(share * rows))
        hits = float(found[n - 1])
        precision = hits / n
        table.append(
            {
                "share": share,
                "threshold": float(score[order[n - 1]]),
                "precision": precision,
                "recall": hits / total if total else 0.0,
                "lift": precision / (total / rows) if total else 0.0,
            }
        )
    return table


def poisson_shares(means: np.ndarray, most: int) -> np.ndarray:
    """Expected shares of the counts 0..most, averaged over rows that are Poisson with the given means `(n,)`.

    >>> poisson_shares(np.array([1.0]), 2).round(3).tolist()
    [0.368, 0.368, 0.184]
    """
    means = np.maximum(means, 0.0)
    share, shares = np.exp(-means), []
    for count in range(most + 1):
        shares.append(float(share.mean()))
        share = share * means / (count + 1)
    return np.array(shares)


def surest(confidence: np.ndarray, hit: np.ndarray, shares: Sequence[float]) -> list[dict[str, float]]:
    """Accuracy when only the rows with the highest confidence are decided: share, threshold, accuracy."""
    order = np.argsort(-confidence, kind="stable")
    right = np.cumsum(hit[order])
    ends = [max(1, round(share * len(order))) for share in shares]
    return [
        {"share": share, "threshold": float(confidence[order[n - 1]]), "accuracy": float(right[n - 1] / n)}
        for share, n in zip(shares, ends, strict=True)
    ]


def middle(values: np.ndarray, tail: float = 0.005) -> tuple[float, float]:
    """The range that leaves out `tail` of the rows on both sides; never empty."""
    low, high = (float(edge) for edge in np.quantile(values, [tail, 1 - tail]))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def spread(quantiles: Sequence[float] | Sequence[Sequence[float]], bars: int = 24) -> list[float]:
    """Bar heights in [0, 1] of a distribution that is known by its quantiles.

    `quantiles` are values at even shares from 0 to 1, or `(share, value)` pairs. Far tails are gathered in the outer
    bars, so that one outlier does not flatten all the rest.
    """
    shares, values = _quantile_points(quantiles)
    if len(values) < 3 or values[-1] <= values[0]:
        return []
    low, high = np.interp([0.02, 0.98], shares, values)
    reach = 0.25 * (high - low)
    start, end = max(values[0], low - reach), min(values[-1], high + reach)
    if end <= start:
        start, end = values[0], values[-1]
    edges = np.linspace(start, end, bars + 1)
    below = np.interp(edges, *_steps(values, shares))
    below[0], below[-1] = 0.0, 1.0
    mass = np.diff(below).clip(0)
    return [float(height) for height in mass / mass.max()] if mass.max() > 0 else []


def _quantile_points(quantiles: Sequence[float] | Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.asarray(quantiles, dtype=np.float64)
    shares, values = (pairs[:, 0], pairs[:, 1]) if pairs.ndim == 2 else (np.linspace(0, 1, len(pairs)), pairs)
    known = np.isfinite(values)
    return shares[known], values[known]


def _steps(values: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distribution function at the distinct values: a value that fills many quantiles counts whole."""
    distinct, first = np.unique(values, return_index=True)
    last = np.append(first[1:], len(values)) - 1
    return distinct, shares[last]
