"""How a metric changes with the weight of each row, to first order: what intervals and paired comparisons are made of.

The influences of all rows sum to 0, and the sum of their squares over independent rows (or groups of rows) estimates
the variance of the metric (the infinitesimal jackknife; Efron 1982, "The jackknife, the bootstrap and other resampling
plans", chapter 6). For the AUC they are the placements of DeLong, DeLong and Clarke-Pearson (1988).

| symbol | meaning                                                                    |
|--------|----------------------------------------------------------------------------|
| w      | weight of a row                                                            |
| c      | cell of rows with one score, best first; p(c) weight of its positives      |
| N(c)   | weight of all rows down to cell c; q(c) share of positives among them      |
| P, A   | weight of all positives; average precision, sum over c of p(c) q(c) / P    |
"""

from collections.abc import Callable

import numpy as np

from shardwise.stats.metrics import Additive, Metric, OneVsRest, Pairs, score_cells


def influence(metric: Metric, pairs: Pairs, quantile: float = 0.5) -> np.ndarray:
    """Float64 `(rows,)`: the change of the metric when a row's weight grows by its own size; NaN where not defined."""
    with np.errstate(all="ignore"):
        if isinstance(metric, Additive):
            return _of_sums(metric, pairs, quantile)
        if isinstance(metric, OneVsRest):
            return mean_auc_influence(pairs)
        positive = pairs.y > 0.5
        if metric.name == "average_precision":
            return _of_average_precision(positive, pairs.score, pairs.weight)
        assert metric.name == "roc_auc"
        return auc_influence(positive, pairs.score, pairs.weight)


def _of_sums(metric: Additive, pairs: Pairs, quantile: float) -> np.ndarray:
    """Gradient of `finish` times the terms of the rows."""
    centred = metric.centre(pairs)
    parts = [np.stack([block.sum(axis=0), np.abs(block).sum(axis=0)]) for block in metric.weighted(centred, quantile)]
    total, size = np.sum(parts, axis=0)
    slope = gradient(lambda sums: float(metric.finish(sums)), total, size)
    return np.concatenate([block @ slope for block in metric.weighted(centred, quantile)])


def gradient(function: Callable[[np.ndarray], float], total: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Central differences of a function of sums at `total`; a step is a small part of the `size` of a sum's terms."""
    slope = np.zeros(len(total))
    for place in np.flatnonzero(size > 0):
        step = np.zeros(len(total))
        step[place] = 1e-5 * size[place]
        slope[place] = (function(total + step) - function(total - step)) / (2 * step[place])
    return slope


def mean_auc_influence(pairs: Pairs) -> np.ndarray:
    """Of the mean of the classes' AUC, each against all others, `(rows,)`."""
    total, defined = np.zeros(len(pairs)), 0
    for k, score in enumerate(pairs.prediction.T):
        own = pairs.y == k
        if own.any() and not own.all():
            total += auc_influence(own, score, pairs.weight)
            defined += 1
    return total / max(defined, 1)


def auc_influence(positive: np.ndarray, score: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """weight * (placement - AUC) / weight of the own class; a placement is the share of the others ranked right."""
    _, cell = np.unique(score, return_inverse=True)
    up = np.bincount(cell, weights=weight * positive)
    down = np.bincount(cell, weights=weight * ~positive)
    below = (np.cumsum(down) - down / 2) / down.sum()  # of the negatives, for a positive
    above = 1.0 - (np.cumsum(up) - up / 2) / up.sum()  # of the positives, for a negative
    area = (up * below).sum() / up.sum()
    own = np.where(positive, below[cell] / up.sum(), above[cell] / down.sum())
    return np.asarray(weight * (own - area / np.where(positive, up.sum(), down.sum())))


def _of_average_precision(positive: np.ndarray, score: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """w / P * (y (q(c) - A) + sum over the cells d from c on of p(d) (y - q(d)) / N(d))."""
    _, cell = np.unique(-score, return_inverse=True)
    up, down = score_cells(positive, score, weight)
    called = np.cumsum(up + down)
    precision = np.cumsum(up) / called
    area = (up * precision).sum() / up.sum()
    for_hit = _from_here_on(up * (1.0 - precision) / called)[cell]
    for_miss = _from_here_on(-up * precision / called)[cell]
    own = np.where(positive, precision[cell] - area + for_hit, for_miss)
    return np.asarray(weight * own / up.sum())


def _from_here_on(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.cumsum(values[::-1])[::-1])


def summed(values: np.ndarray, units: np.ndarray | None) -> np.ndarray:
    """Sums `(units,)` of the values of each unit's rows; `units` are codes `(rows,)`, None: each row is one."""
    return values if units is None else np.bincount(units, weights=values)
