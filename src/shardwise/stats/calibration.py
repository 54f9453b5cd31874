"""How far predictions are from what happens, over bins of the prediction; is one model further than another?

The error is the root of the weighted mean over bins of (mean residual)^2, less what chance alone gives (Kumar, Liang
and Ma 2019, "Verified uncertainty calibration", section 4). Residuals, by task: of two classes y - p; of several
whether the likeliest is right, less its probability; of numbers y - p in standard deviations of y; of quantiles
whether y lies at or below, less the quantile. Its spread comes from resampling rows, or groups of rows, with
Poisson(1) weights, as in `stats.intervals`.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from shardwise.core.seeds import derive_seed
from shardwise.core.target import Target, Task
from shardwise.stats.intervals import GROUPS
from shardwise.stats.metrics import Pairs
from shardwise.stats.terms import classes_of

BINS = 10
_RESAMPLES = 200


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Errors of both models, and how likely it is that the challenger's exceeds the champion's by no more than allowed:
    small = it is worse by more than that."""

    champion: float
    challenger: float
    p_worse: float


def compare_calibration(
    target: Target, champion: Pairs, challenger: Pairs, *, allowed: float, units: np.ndarray | None = None,
    share: float = 1.0, seed: int = 0,
) -> Calibration:  # fmt: skip
    """Of predictions of the same rows; `units` and `share` as in `stats.paired.gain`."""
    rng = np.random.default_rng(derive_seed(seed, "calibration"))
    groups, count = _few(units, len(champion), rng)
    sums = [_bin_sums(target, pairs, groups, count) for pairs in (champion, challenger)]
    weights = np.vstack([np.ones(count), rng.poisson(1.0, (_RESAMPLES, count))])
    squares = [_squared(np.tensordot(weights, each, 1)) for each in sums]
    first, second = (float(np.sqrt(max(each[0], 0.0))) for each in squares)
    over = float(squares[1][0]) - (first + allowed) ** 2
    spread = float((squares[1] - squares[0])[1:].std(ddof=1) * np.sqrt(share))
    p_worse = float(ndtr(-over / spread)) if spread > 0 else float(over <= 0)
    return Calibration(champion=first, challenger=second, p_worse=p_worse)


def residuals(target: Target, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """What is put into bins and the residual, both `(rows,)`."""
    y, prediction = pairs.y, pairs.prediction
    if target.task is Task.BINARY:
        return pairs.score, y - pairs.score
    if target.task is Task.MULTICLASS:
        likeliest = prediction.max(axis=1)
        return likeliest, (classes_of(prediction) == y) - likeliest
    if target.task is Task.QUANTILE:
        return prediction, (y <= prediction) - target.quantile
    middle = np.average(y, weights=pairs.weight)
    deviation = np.sqrt(np.average((y - middle) ** 2, weights=pairs.weight))
    return prediction, (y - prediction) / (deviation if deviation > 0 else 1.0)


def _few(units: np.ndarray | None, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """A number for the unit of each row; beyond `GROUPS` units several share one."""
    codes = np.arange(rows) if units is None else units
    count = int(codes.max(initial=-1)) + 1
    return (codes, count) if count <= GROUPS else (rng.integers(0, GROUPS, count)[codes], GROUPS)


def _bin_sums(target: Target, pairs: Pairs, groups: np.ndarray, count: int) -> np.ndarray:
    """`(groups, bins, 4)`: sums of w, w r, w r^2 and w^2 of the rows of a bin."""
    place, residual = residuals(target, pairs)
    edges = np.unique(np.quantile(place, np.arange(1, BINS) / BINS))
    cells = groups * BINS + np.searchsorted(edges, place, side="right")
    w = pairs.weight
    parts = [np.bincount(cells, part, count * BINS) for part in (w, w * residual, w * residual**2, w**2)]
    return np.stack(parts, axis=1).reshape(count, BINS, 4)


def _squared(sums: np.ndarray) -> np.ndarray:
    """The squared error of each resample, `(resamples,)`; below 0 where chance would give more."""
    w, wr, wr2, w2 = np.moveaxis(sums, -1, 0)
    known = np.where(w > 0, w, 1.0)
    mean = wr / known
    rows = np.where(w2 > 0, w**2 / np.where(w2 > 0, w2, 1.0), 0.0)
    chance = np.maximum(wr2 / known - mean**2, 0.0) / np.maximum(rows - 1.0, 1.0)
    total = w.sum(axis=-1)  # 0 of a resample that has drawn none of few units
    return np.asarray(((mean**2 - chance) * w).sum(axis=-1) / np.where(total > 0, total, 1.0))
