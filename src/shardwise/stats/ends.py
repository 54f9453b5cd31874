"""The ends of intervals that are known without resampling: of shares, of areas under a curve, of means over classes.

| symbol | meaning                                                                                         |
|--------|-------------------------------------------------------------------------------------------------|
| p      | a share that was seen: of a class the recall, of an area the placements                          |
| l, u   | the ends of its own interval, by as many rows as decide it: those of the class                  |
| J      | of a class the hits as a share of the rows that are of it or taken for it; F1 is 2 J / (1 + J)  |

A mean over K classes has the ends v - sqrt(sum (p - l)^2) / K and v + sqrt(sum (u - p)^2) / K (the method of variance
estimates recovery, MOVER: Zou and Donner 2008, "Construction of confidence limits about effect measures: a general
approach"). So a class of few rows makes the interval wide, also where all of them are right, or none.
"""

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri

from shardwise.stats.metrics import Metric, OneVsRest, Pairs, score_cells
from shardwise.stats.terms import classes_of

TAIL = 0.025
CLASSWISE = ("balanced_accuracy", "f1", "f1_macro", "roc_auc_ovr")  # which a class of few rows decides


def wilson(value: float, rows: float, tail: float = TAIL) -> tuple[float, float]:
    """Where the share that was seen would just be believed.

    >>> [round(end, 3) for end in wilson(0.97, 100)]
    [0.915, 0.99]
    """
    z2 = float(ndtri(tail) ** 2)
    middle = (value + z2 / (2 * rows)) / (1 + z2 / rows)
    reach = float(np.sqrt(z2 * (value * (1 - value) / rows + z2 / (4 * rows**2)))) / (1 + z2 / rows)
    return middle - reach, middle + reach


def auc_ends(value: float, positives: float, negatives: float, tail: float = TAIL) -> tuple[float, float]:
    """Where |A - value| = z sd(A), z leaving a `tail`, with the deviation that an AUC of A has for scores of two
    exponentials.

    >>> [round(end, 3) for end in auc_ends(0.99, 10, 90)]
    [0.871, 0.999]
    """
    half = (positives + negatives) / 2 - 1

    def off(area: float) -> float:
        more = half * ((1 - area) / (2 - area) + area / (1 + area))
        variance = area * (1 - area) * (1 + more) / (positives * negatives)
        return float((area - value) ** 2 - ndtri(tail) ** 2 * variance)

    low = brentq(off, 1e-9, min(value, 1.0 - 1e-12)) if off(1e-9) > 0 else 0.0
    high = brentq(off, max(value, 1e-12), 1.0 - 1e-12) if off(1.0 - 1e-12) > 0 else 1.0
    return float(low), float(high)


def effective_rows(weight: np.ndarray) -> float:
    """How many rows of equal weight are worth as much: (sum w)^2 / sum w^2."""
    return float(weight.sum() ** 2 / (weight**2).sum()) if len(weight) else 0.0


def class_ends(metric: Metric, value: float, pairs: Pairs, *, share: float, tail: float) -> tuple[float, float]:
    """Of one of the `CLASSWISE` metrics, of rows of which `pairs` are a `share`."""
    values, lows, highs = [], [], []
    seen = _areas(metric, pairs, share) if isinstance(metric, OneVsRest) else _shares(metric, pairs, share)
    for found, rows, others in seen:
        low, high = auc_ends(found, rows, others, tail) if others else wilson(found, rows, tail)
        if metric.name in ("f1", "f1_macro"):
            found, low, high = (2 * each / (1 + each) for each in (found, low, high))
        values.append(found)
        lows.append(low)
        highs.append(high)
    if not values:
        return np.nan, np.nan
    down = np.sqrt(np.sum((np.array(values) - lows) ** 2)) / len(values)
    up = np.sqrt(np.sum((np.array(highs) - values) ** 2)) / len(values)
    return max(0.0, value - float(down)), min(1.0, value + float(up))


def _shares(metric: Metric, pairs: Pairs, share: float) -> list[tuple[float, float, float]]:
    """(share that is right, effective rows, 0) of each class that counts."""
    called = classes_of(pairs.prediction)
    classes = [1] if metric.name == "f1" else np.unique(np.concatenate([pairs.y, called])).astype(np.int64).tolist()
    found: list[tuple[float, float, float]] = []
    for k in classes:
        own = pairs.y == k if metric.name == "balanced_accuracy" else (pairs.y == k) | (called == k)
        weight = pairs.weight[own]
        if weight.sum() > 0:
            right = (pairs.weight * own * (pairs.y == k) * (called == k)).sum()
            found.append((float(right / weight.sum()), effective_rows(weight) / share, 0.0))
    return found


def _areas(metric: OneVsRest, pairs: Pairs, share: float) -> list[tuple[float, float, float]]:
    """(AUC, effective rows of the class, of the others) of each class that has rows, and others."""
    found: list[tuple[float, float, float]] = []
    for k, score in enumerate(pairs.prediction.T):
        own = pairs.y == k
        rows, others = (effective_rows(pairs.weight[side]) / share for side in (own, ~own))
        if min(rows, others) > 0:
            found.append((float(metric.ranked.curve(*score_cells(own, score, pairs.weight))), rows, others))
    return found
