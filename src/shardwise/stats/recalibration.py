"""Calibrators and decisions are learned from out-of-fold predictions, and taken where they help other rows.

Each part of the rows (a fold, or a fifth of a hold-out) is changed by what was learned from the others, so that what is
compared is out of fold twice. A calibrator is taken if the log loss falls by more than two standard errors and by more
than `LEAST_GAIN` of itself; a decision if the metric rises with p < 0.05 (`stats.paired`).

A decision is a weight for each class: the label is that of the greatest weighted probability. Of two classes it is a
threshold, and all are tried. Of several the weights are powers of one over the share of a class: power 0 is best for
accuracy and power 1 for balanced accuracy where probabilities are right, and what f1_macro wants lies between.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression, minimize_scalar

from shardwise.core.target import Target
from shardwise.stats.calibrators import TINY, Calibrator, Isotonic, Temperature
from shardwise.stats.influence import summed
from shardwise.stats.metrics import DECIDED, Additive, Metric, Pairs
from shardwise.stats.paired import Gain, gain
from shardwise.stats.parts import leave_enough

LEAST_ROWS = 200  # below, chance is learned
LEAST_UNITS = 5  # of fewer groups a standard error says nothing
CELLS = 1_000_000  # rows x classes that are learned from at most; of more rows every k-th
ISOTONIC_CLASSES = 20
KNOTS = 200  # of an isotonic function
SURE = 2.0  # standard errors by which the log loss has to fall
LEAST_GAIN = 5e-4  # and by this share of it: less is not worth a step more in each answer
CHANCE = 0.05  # p-value of a decision
_COLDEST, _HOTTEST = 0.1, 10.0
_POWERS = np.arange(1, 16) / 10
_THRESHOLDS = 2_000  # that are tried at most


def fit_temperature(pairs: Pairs) -> Temperature:
    """The temperature of the lowest log loss."""
    logs = np.log(np.maximum(pairs.prediction, TINY))
    own = pairs.y.astype(np.int64)[:, None]

    def loss(log_temperature: float) -> float:
        scaled = logs * np.exp(-log_temperature)
        top = scaled.max(axis=1, keepdims=True)
        total = np.log(np.exp(scaled - top).sum(axis=1)) + top[:, 0]
        return float(np.average(total - np.take_along_axis(scaled, own, axis=1)[:, 0], weights=pairs.weight))

    bounds = (float(np.log(_COLDEST)), float(np.log(_HOTTEST)))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-3})
    return Temperature(float(np.exp(found.x)))


def fit_isotonic(pairs: Pairs) -> Isotonic:
    """By pool-adjacent-violators; linear between the means of the pools, and half way to 0 and 1 beyond the first and
    the last, which stay half a row away from them: rows keep their order."""
    classes = pairs.prediction.shape[1]
    shown = [1] if classes == 2 else list(range(classes))
    found = [_rising(pairs.prediction[:, k], (pairs.y == k).astype(np.float64), pairs.weight) for k in shown]
    return Isotonic([knots for knots, _ in found], [heights for _, heights in found])


def _rising(score: np.ndarray, hit: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean score and share of hits of each pool, at most `KNOTS` of them."""
    order = np.argsort(score, kind="stable")
    score, hit, weight = score[order], hit[order], weight[order]
    starts = np.flatnonzero(np.r_[True, score[1:] != score[:-1]])
    mass = np.add.reduceat(weight, starts)
    level = isotonic_regression(np.add.reduceat(weight * hit, starts) / mass, weights=mass).x
    pools = np.flatnonzero(np.r_[True, level[1:] != level[:-1]])
    heavy = np.add.reduceat(mass, pools)
    knots, heights = np.add.reduceat(mass * score[starts], pools) / heavy, level[pools]
    if len(pools) > KNOTS:
        kept = np.unique(np.linspace(0, len(pools) - 1, KNOTS).round().astype(np.int64))
        knots, heights, heavy = knots[kept], heights[kept], heavy[kept]
    heights = np.clip(heights, min(0.5 / (heavy[0] + 1.0), 0.5), max(1.0 - 0.5 / (heavy[-1] + 1.0), 0.5))
    first, last = ([0.0] if knots[0] > 0.0 else []), ([1.0] if knots[-1] < 1.0 else [])
    knots = np.concatenate([first, knots, last])
    return knots, np.concatenate([heights[:1] / 2 if first else [], heights, (heights[-1:] + 1) / 2 if last else []])


def choose_calibrator(
    pairs: Pairs, parts: np.ndarray, units: np.ndarray | None = None
) -> tuple[Calibrator | None, np.ndarray, dict[str, Any]]:
    """The calibrator that lowers the log loss, or none; the probabilities as it calibrates rows that it was not fitted
    on; and what was found: the log loss `before`, and of each kind.

    `pairs` are out of fold, of two classes or more `(rows, classes)`; `parts` `(rows,)` say which rows are calibrated
    by what was fitted on all others, and `units` which depend on each other.
    """
    before = _log_losses(pairs)
    told: dict[str, Any] = {"rows": len(pairs), "before": _mean(before, pairs.weight), "chosen": None}
    best: tuple[float, str, np.ndarray] | None = None
    if not _tells_enough(pairs, parts, units):
        return None, pairs.prediction, told
    fits: dict[str, Callable[[Pairs], Calibrator]] = {"temperature": fit_temperature}
    if pairs.prediction.shape[1] <= ISOTONIC_CLASSES:
        fits["isotonic"] = fit_isotonic
    for kind, fit in fits.items():
        crossed = _crossed(pairs, parts, fit)
        fall = before - _log_losses(Pairs(pairs.y, crossed, pairs.weight))
        mean = _mean(fall, pairs.weight)
        error = float(np.sqrt((summed(pairs.weight * (fall - mean), units) ** 2).sum()) / pairs.weight.sum())
        told[kind] = told["before"] - mean
        enough = mean > SURE * error and mean > LEAST_GAIN * told["before"]
        if enough and (best is None or mean > best[0]):
            best = mean, kind, crossed
    if best is None:
        return None, pairs.prediction, told
    return fits[best[1]](_thinned(pairs)), best[2], {**told, "chosen": best[1]}


def _tells_enough(pairs: Pairs, parts: np.ndarray, units: np.ndarray | None) -> bool:
    """Whether enough rows, of several classes and groups, are there to learn from and to judge by."""
    if len(pairs) < LEAST_ROWS or len(np.unique(pairs.y)) < 2 or not leave_enough(parts):
        return False
    return units is None or len(np.unique(units)) >= LEAST_UNITS


def _crossed(pairs: Pairs, parts: np.ndarray, fit: Callable[[Pairs], Calibrator]) -> np.ndarray:
    out = np.empty_like(pairs.prediction, dtype=np.float64)
    for part in np.unique(parts):
        own = parts == part
        out[own] = fit(_thinned(pairs.take(~own))).apply(pairs.prediction[own])
    return out


def _thinned(pairs: Pairs) -> Pairs:
    """At most `CELLS` cells, evenly spread."""
    step = -(-pairs.prediction.size // CELLS)
    return pairs.take(slice(None, None, step)) if step > 1 else pairs


def _mean(values: np.ndarray, weight: np.ndarray) -> float:
    return float(np.average(values, weights=weight))


def _log_losses(pairs: Pairs) -> np.ndarray:
    own = np.take_along_axis(pairs.prediction, pairs.y.astype(np.int64)[:, None], axis=1)[:, 0]
    return np.asarray(-np.log(np.clip(own, TINY, 1.0)))


def choose_decision(
    metric: Metric, target: Target, pairs: Pairs, parts: np.ndarray, units: np.ndarray | None = None
) -> tuple[tuple[float, ...], np.ndarray, Gain | None]:
    """The weights of the classes `(classes,)` that are best for a metric of labels, or none; the predictions as they
    weigh rows that they were not chosen on; and what that gains over the greatest probability."""
    if metric.name not in DECIDED or not _tells_enough(pairs, parts, units):
        return (), pairs.prediction, None
    assert isinstance(metric, Additive)
    weighted = np.empty_like(pairs.prediction, dtype=np.float64)
    for part in np.unique(parts):
        own = parts == part
        weighted[own] = pairs.prediction[own] * np.array(best_decision(metric, _thinned(pairs.take(~own))))
    found = gain(metric, pairs, Pairs(pairs.y, weighted, pairs.weight), units=units, quantile=target.quantile)
    if not found.value > 0 or not found.p_above(0.0) < CHANCE:
        return (), pairs.prediction, found
    return best_decision(metric, _thinned(pairs)), weighted, found


def best_decision(metric: Additive, pairs: Pairs) -> tuple[float, ...]:
    """Weights of the classes, of sum 1, with the best value of the metric on these rows."""
    if pairs.prediction.shape[1] == 2:
        threshold = _best_threshold(metric, pairs)
        return (threshold, 1.0 - threshold)
    shares = np.bincount(pairs.y.astype(np.int64), weights=pairs.weight, minlength=pairs.prediction.shape[1])
    shares = np.maximum(shares, 1.0) / shares.sum()
    tried = [np.ones(len(shares)), *(shares**-power for power in _POWERS)]
    values = [metric.of(Pairs(pairs.y, pairs.prediction * weights, pairs.weight)) for weights in tried]
    best = tried[int(np.argmax(values))]
    return tuple((best / best.sum()).tolist())


def _best_threshold(metric: Additive, pairs: Pairs) -> float:
    """The probability of the positive class above which it is called; half way between two that were seen."""
    order = np.argsort(-pairs.score, kind="stable")
    score, weight, hit = pairs.score[order], pairs.weight[order], pairs.y[order] > 0.5
    true, called = np.cumsum(weight * hit), np.cumsum(weight)
    cuts = np.flatnonzero(score[1:] < score[:-1])  # the rows down to there are called
    if not len(cuts):
        return 0.5
    cuts = cuts[np.unique(np.linspace(0, len(cuts) - 1, _THRESHOLDS).round().astype(np.int64))]
    hits, taken, positive, total = true[cuts], called[cuts], true[-1], called[-1]
    if metric.name == "accuracy":
        sums = np.stack([np.full(len(cuts), total), total - positive - taken + 2 * hits], axis=-1)
    else:
        rejected = total - positive - (taken - hits)
        actual = np.broadcast_to([total - positive, positive], (len(cuts), 2))
        sums = np.concatenate([np.stack([rejected, hits], -1), actual, np.stack([total - taken, taken], -1)], axis=-1)
    place = cuts[int(np.argmax(metric.finish(sums)))]
    return float((score[place] + score[place + 1]) / 2)
