"""Intervals of metrics, at a cost that does not grow with the rows: of losses from three moments, else by bootstrap.

A loss is a mean, or a ratio of sums, of terms that are often skewed: a few rows hold most of the squared error. The
moments of the influence u of each row (or group of rows) on h(v) give Hall's interval, which takes the skewness out
(Hall 1992, "On the removal of skewness by transformation"; Zhou and Dinh 2005, "Nonparametric confidence intervals for
the one- and two-sample problems", found it best among the cheap ones): h - d H(t), h - d H(-t) with
H(z) = 3 / a * (cbrt(1 + a (z - a / 6)) - 1).

Shares of rows (accuracy, coverage) have the interval of Wilson (1927, "Probable inference, the law of succession, and
statistical inference") for as many rows as the weights are worth.

All other metrics are resampled. A resample gives each row a Poisson(1) weight (Chamandy et al., "Estimating uncertainty
for massive data streams", 2012), so whatever is a sum over rows is resampled as sums:

- sums of a confusion matrix: rows are put into at most `GROUPS` groups at random, whose sums are resampled;
- ranked metrics: the rows with one score are a cell, whose count resampled is Poisson(count); neighbouring cells of one
  class are one cell, and above `CELLS` neighbours are joined, the change of value taken off;
- one against the rest: the classes share their rows, so the influence of each row on the mean (its Hajek projection) is
  resampled.

| symbol | meaning                                                                                          |
|--------|--------------------------------------------------------------------------------------------------|
| v      | value of the metric on the rows                                                                  |
| h      | v as a mean or ratio of means: v^2 of rmse, 1 - v of r2, v of other losses                       |
| d, a   | standard deviation of h, (sum u^2)^(1/2), and its skewness, sum u^3 / d^3                        |
| g      | scale on which a resampled metric spreads evenly: logit                                          |
| n      | rows that inform: of ranked metrics those of the smaller class, (sum w)^2 / sum w^2 with weights |
| s      | standard deviation of g over the resamples, times sqrt(n / (n - 1))                              |
| t      | 97.5 % point of Student's t with n - 1 degrees of freedom                                        |

The interval is g^-1(g(v) +- t s): 200 resamples know a standard deviation to 5 %, but a 2.5 % point only to a seventh
of s, and g keeps the interval inside the range of the metric. Where a share is 0 or 1 no resample differs; the other
end is then that of Clopper and Pearson, 0.025^(1/n). Where an AUC is so near to 1 that less than one row of the smaller
class is misplaced, resamples hardly differ either: the interval is then joined with the one that inverts the test of
Newcombe (2006, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic", method 5). Means
over classes, and F1, have the ends of `stats.ends` (f1_macro and roc_auc_ovr where these lie farther out), as a class
of few rows decides them.

Rows of a group - a customer with several rows - are not independent: given as `units`, losses have Hall's interval of
the sums of units, and shares Student's of the influences of units, on a logit scale. n is then a number of units.
`benchmarks/bench_intervals.py` counts how often the intervals hold the true value.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit, stdtrit

from shardwise.core.seeds import derive_seed
from shardwise.stats.ends import CLASSWISE, TAIL, auc_ends, class_ends, effective_rows, wilson
from shardwise.stats.influence import gradient, influence, mean_auc_influence, summed
from shardwise.stats.metrics import METRICS, Additive, Metric, OneVsRest, Pairs, Ranked

GROUPS = 4096
CELLS = 2048
PROPORTIONS = ("accuracy", "coverage")  # shares of rows
LEAST_UNITS = 1.9  # of equal size: of fewer no spread of a loss is known (two that differ a little are 1.99)
_NOTHING = 1e-9  # ends of shares that are as near to 0 or 1 are these


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval; NaN where the metric is not defined, the ends where not known."""

    value: float
    low: float
    high: float

    def joined(self, low: float, high: float) -> "Interval":
        """With other ends, where they lie farther out."""
        return Interval(self.value, float(np.fmin(self.low, low)), float(np.fmax(self.high, high)))

    def to_json(self) -> dict[str, float | None]:
        """`{"value", "low", "high"}`; NaN and infinities are null."""
        parts = {"value": self.value, "low": self.low, "high": self.high}
        return {name: float(part) if np.isfinite(part) else None for name, part in parts.items()}


def interval(metric: Metric, pairs: Pairs, *, resamples: int = 200, seed: int = 0, quantile: float = 0.5) -> Interval:
    """The metric of labelled pairs with its 95 % bootstrap interval."""
    value = metric.of(pairs, quantile)
    return interval_around(metric, value, pairs, resamples=resamples, seed=seed, quantile=quantile)


def interval_around(
    metric: Metric,
    value: float,
    pairs: Pairs,
    *,
    share: float = 1.0,
    resamples: int = 200,
    seed: int = 0,
    quantile: float = 0.5,
    looks: int = 1,
    units: np.ndarray | None = None,
) -> Interval:
    """The 95 % interval around the value of rows of which `pairs` are a `share`, drawn uniformly.

    Where the rows were looked at more than once, all `looks` together hold their truths with 95 % (Bonferroni).
    `units` are codes `(rows,)` of what is independent, such as customers with several rows; None: each row is.
    """
    tail = TAIL / looks
    with np.errstate(all="ignore"):
        if not np.isfinite(value):
            return Interval(value, np.nan, np.nan)
        if isinstance(metric, Additive) and not _is_share(metric):
            return _unskewed(metric, value, pairs, quantile, share=share, tail=tail, units=units)
        if units is not None:
            return _clustered(metric, value, pairs, units, share=share, tail=tail)
        if metric.name in ("balanced_accuracy", "f1"):
            return Interval(value, *class_ends(metric, value, pairs, share=share, tail=tail))
        if metric.name in PROPORTIONS and 0.0 < value < 1.0:
            return Interval(value, *wilson(value, effective_rows(pairs.weight) / share, tail))
        draws = replicates(metric, pairs, resamples=resamples, seed=seed, quantile=quantile)
        moved = draws + (value - metric.of(pairs, quantile))
        rows = informing_rows(metric, pairs) / share
        found = spread(metric, value, moved, rows, np.sqrt(share), tail=tail)
        if metric.name in CLASSWISE:
            return found.joined(*class_ends(metric, value, pairs, share=share, tail=tail))
        if metric.name == "roc_auc" and 0.0 < min(value, 1.0 - value) * rows < 1.0:
            more, less = (effective_rows(pairs.weight[side]) / share for side in (pairs.y > 0.5, pairs.y <= 0.5))
            return found.joined(*auc_ends(value, more, less, tail))
        return found


def _is_share(metric: Metric) -> bool:
    """Whether it lies between 0 and 1, and 1 is best."""
    return metric.greater_is_better and metric.name != "r2"


def _unskewed(
    metric: Additive, value: float, pairs: Pairs, quantile: float, *, share: float, tail: float,
    units: np.ndarray | None,
) -> Interval:  # fmt: skip
    """Hall's interval of a loss or of r2."""
    rows = effective_rows(summed(pairs.weight, units)) / share
    rng = np.random.default_rng(derive_seed(0, "groups", metric.name))
    grouped = _grouped(metric, pairs, quantile, _groups(len(pairs), rng) if units is None else units)
    to_mean, from_mean = _mean_scale(metric)
    sums, size = grouped.sum(axis=0), np.abs(grouped).sum(axis=0)
    influence = grouped @ gradient(lambda total: float(to_mean(metric.finish(total))), sums, size)
    variance = float((influence**2).sum())
    if rows < LEAST_UNITS or not np.isfinite(variance):
        return Interval(value, np.nan, np.nan)
    if not variance > 0:
        return Interval(value, value, value)
    skewness = float((influence**3).sum() / variance**1.5 * np.sqrt(share))
    deviation = np.sqrt(variance * share * rows / (rows - 1))
    reach = -stdtrit(rows - 1, tail)
    middle = float(to_mean(value))
    ends = [from_mean(max(middle - deviation * _without_skewness(z, skewness), 0.0)) for z in (reach, -reach)]
    return Interval(value, min(*ends, value), max(*ends, value))


def _clustered(metric: Metric, value: float, pairs: Pairs, units: np.ndarray, *, share: float, tail: float) -> Interval:
    """Of a share: by the influences of whole units, on the scale of `_scale`."""
    rows = _informing_units(metric, pairs, units) / share
    if rows <= 1:
        return Interval(value, np.nan, np.nan)
    if value in (0.0, 1.0):
        far = tail ** (1 / rows)
        return Interval(value, *((far, 1.0) if value else (0.0, 1.0 - far)))
    variance = float((summed(influence(metric, pairs), units) ** 2).sum()) * share * rows / (rows - 1)
    reach = -stdtrit(rows - 1, tail) * np.sqrt(variance) / (value * (1.0 - value))
    low, high = float(expit(logit(value) - reach)), float(expit(logit(value) + reach))
    return Interval(value, low if low > _NOTHING else 0.0, high if high < 1.0 - _NOTHING else 1.0)


def share_ends(holds: np.ndarray, units: np.ndarray | None = None) -> tuple[float, float]:
    """Of the share of rows of which something `holds`, float64 `(rows,)` of 0 and 1; `units` as `interval_around`."""
    value, ones = float(holds.mean()), np.ones(len(holds))
    if units is None:
        return wilson(value, len(holds))
    found = _clustered(METRICS["accuracy"], value, Pairs(ones, holds, ones), units, share=1.0, tail=TAIL)
    return (found.low, found.high) if np.isfinite(found.low) else (0.0, 1.0)


def _informing_units(metric: Metric, pairs: Pairs, units: np.ndarray) -> float:
    """Effective number of units that decide the metric; of a mean over classes the degrees of freedom of its variance,
    and one (Satterthwaite 1946, "An approximate distribution of estimates of variance components")."""

    def of(rows: np.ndarray) -> float:
        return effective_rows(np.bincount(units[rows], weights=pairs.weight[rows]))

    if isinstance(metric, Ranked):
        return min(of(pairs.y > 0.5), of(pairs.y <= 0.5))
    if metric.name == "f1":
        return of(pairs.y > 0.5)
    if metric.name in CLASSWISE:
        each = np.array([of(pairs.y == label) for label in np.unique(pairs.y)])
        return float(1.0 + (1.0 / each).sum() ** 2 / (1.0 / each**2 / np.maximum(each - 1.0, 0.5)).sum())
    return of(np.ones(len(units), bool))


def _without_skewness(z: float, a: float) -> float:
    """H(z); its limit where a is 0."""
    return float(3.0 / a * (np.cbrt(1.0 + a * (z - a / 6.0)) - 1.0)) if abs(a) > 1e-6 else z


def _mean_scale(metric: Metric) -> tuple[Callable[[Any], Any], Callable[[float], float]]:
    """h and its inverse."""
    if metric.name == "rmse":
        return np.square, lambda h: float(np.sqrt(h))
    if metric.name == "r2":
        return (lambda v: 1.0 - v), lambda h: 1.0 - h
    return (lambda v: v), float


def spread(
    metric: Metric, value: float, draws: np.ndarray, rows: float, shrink: float = 1.0, *, tail: float = TAIL
) -> Interval:
    """The interval around a value from resampled values `(resamples,)`; `shrink` scales their spread."""
    draws = draws[np.isfinite(draws)]
    if rows <= 1 or len(draws) < 2:
        return Interval(value, np.nan, np.nan)
    if _is_share(metric) and value in (0.0, 1.0):
        far = tail ** (1 / rows)
        return Interval(value, *((far, 1.0) if value else (0.0, 1.0 - far)))
    to_scale, from_scale = _scale(metric, rows)
    deviation = to_scale(draws).std(ddof=1) * np.sqrt(rows / (rows - 1)) * shrink
    reach = -stdtrit(rows - 1, tail) * deviation
    middle = to_scale(np.array(value))
    ends = sorted((float(from_scale(middle - reach)), float(from_scale(middle + reach))))
    return Interval(value, min(ends[0], value), max(ends[1], value))


_Change = Callable[[np.ndarray], np.ndarray]


def _scale(metric: Metric, rows: float) -> tuple[_Change, _Change]:
    """g and its inverse; what is at the edge of the range is taken as within it by less than a row."""
    tiny = 1e-300
    if not metric.greater_is_better:
        return (lambda v: np.log(np.maximum(v, tiny))), np.exp
    if metric.name == "r2":
        return (lambda v: np.log(np.maximum(1.0 - v, tiny))), (lambda u: 1.0 - np.exp(u))
    edge = min(0.25, 0.5 / rows**2 if isinstance(metric, Ranked | OneVsRest) else 0.5 / rows)
    return (lambda v: logit(np.clip(v, edge, 1.0 - edge))), expit


def informing_rows(metric: Metric, pairs: Pairs) -> float:
    """Effective number of rows that decide the metric: of the rarest class that counts, where classes are compared."""
    if isinstance(metric, Ranked):
        sides = [pairs.weight[pairs.y > 0.5], pairs.weight[pairs.y <= 0.5]]
        return min(effective_rows(side) for side in sides)
    return effective_rows(pairs.weight)


def replicates(
    metric: Metric, pairs: Pairs, *, resamples: int = 200, seed: int = 0, quantile: float = 0.5
) -> np.ndarray:
    """The metric in each of `resamples` Poisson resamples, `(resamples,)`."""
    rng = np.random.default_rng(derive_seed(seed, "bootstrap", metric.name))
    if isinstance(metric, Additive):
        grouped = _grouped(metric, pairs, quantile, _groups(len(pairs), rng))
        return np.asarray(metric.finish(_poisson_ones(rng, (resamples, len(grouped))) @ grouped))
    if isinstance(metric, OneVsRest):
        influence = mean_auc_influence(pairs)
        sums = np.bincount(_groups(len(pairs), rng), weights=influence)
        weights = _poisson_ones(rng, (resamples, len(sums)))
        return np.asarray(metric.of(pairs) + weights @ sums - influence.sum())
    assert isinstance(metric, Ranked)
    return _ranked(metric, pairs, resamples, rng)


def _groups(rows: int, rng: np.random.Generator) -> np.ndarray:
    """A group number for each row: its own as long as there are enough."""
    return np.arange(rows) if rows <= GROUPS else rng.integers(0, GROUPS, rows)


def _poisson_ones(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.poisson(1.0, shape).astype(np.float64)


def _grouped(metric: Additive, pairs: Pairs, quantile: float, groups: np.ndarray) -> np.ndarray:
    """Sums of the weighted terms of each group, `(groups, sums)`; `groups` are codes `(rows,)`."""
    n_groups, start, total = int(groups.max(initial=0)) + 1, 0, np.zeros(())
    for block in metric.weighted(metric.centre(pairs), quantile):
        own = groups[start : start + len(block)]
        columns = [np.bincount(own, weights=column, minlength=n_groups) for column in block.T]
        total = total + np.stack(columns, axis=1)
        start += len(block)
    return np.asarray(total)


def _ranked(metric: Ranked, pairs: Pairs, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Counts of each cell are drawn with the mean and the variance that resampled weights have."""
    positive = pairs.y > 0.5
    order = np.argsort(-pairs.score, kind="stable")
    score, hit, weight = pairs.score[order], positive[order], pairs.weight[order]
    starts = _cell_starts(score, hit)
    draws = []
    for side in (hit, ~hit):
        mass = np.add.reduceat(weight * side, starts)
        square = np.add.reduceat(weight**2 * side, starts)
        unit = np.divide(square, mass, out=np.ones_like(mass), where=mass > 0)
        draws.append(unit * rng.poisson(mass / unit, (resamples, len(mass))))
    joined = metric.curve(np.add.reduceat(weight * hit, starts), np.add.reduceat(weight * ~hit, starts))
    return metric.curve(*draws) + (metric.of(pairs) - joined)


def _cell_starts(score: np.ndarray, hit: np.ndarray) -> np.ndarray:
    """Where the cells of sorted scores begin: ties are together, as are neighbours of one class."""
    ties = np.flatnonzero(np.r_[True, score[1:] != score[:-1]])
    rows = np.diff(np.r_[ties, len(score)])
    share = np.add.reduceat(hit.astype(np.float64), ties) / rows
    pure = (share == 0) | (share == 1)
    same = np.r_[False, (share[1:] == share[:-1]) & pure[1:] & pure[:-1]]
    starts = ties[~same]
    if len(starts) <= CELLS:
        return np.asarray(starts)
    return np.asarray(starts[np.linspace(0, len(starts), CELLS, endpoint=False).astype(np.int64)])
