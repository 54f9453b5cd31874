"""Two models on the same rows: how much better one is, with an interval, and tests against a margin.

Both metrics move together from sample to sample, since the rows are the same: the influence of a row on the difference
is the difference of its influences (`stats.influence`), summed over the rows of a group where rows are not independent.
The sum of their squares gives Student's interval. `benchmarks/bench_gate.py` compares it with the bootstrap of rows,
and docs/decisions/0019-gate.md says why skewness is left in, unlike in `stats.intervals`.

| symbol | meaning                                                                                            |
|--------|----------------------------------------------------------------------------------------------------|
| g      | gain: challenger minus champion, with the sign that makes better positive                          |
| u      | influence of a unit (a row, or a group of rows) on g; d^2 = n / (n - 1) sum u^2                    |
| n      | units: effective number by weight; (g - margin) / d is nearly Student's t with n - 1 degrees       |

Where two classifiers differ on few rows, their accuracies' difference is nearly discrete: its variance is that of
Agresti and Min (2005, "Simple improved confidence intervals for comparing matched proportions"), half a row added to
each way of differing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from shardwise.stats.ends import effective_rows
from shardwise.stats.influence import influence, summed
from shardwise.stats.intervals import PROPORTIONS
from shardwise.stats.metrics import Metric, Pairs

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Gain:
    """How much better the challenger is than the champion, in units of the metric: above 0 is better.

    `deviation` is the standard error of `value`, `units` the number of rows or groups behind it. Ends that are not
    known are NaN.
    """

    champion: float
    challenger: float
    value: float
    deviation: float
    units: float

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Both ends, each passed with a chance of (1 - level) / 2 if the model of the errors holds."""
        if not self.is_known:
            return float("nan"), float("nan")
        reach = -float(stdtrit(self.units - 1, (1.0 - level) / 2)) * self.deviation
        return self.value - reach, self.value + reach

    @property
    def is_known(self) -> bool:
        """Whether there are units enough for an interval."""
        return bool(self.units > 1 and np.isfinite(self.value) and np.isfinite(self.deviation))

    def p_above(self, margin: float) -> float:
        """How likely a gain as large as this one, or larger, is where the true gain is `margin`: small = above it."""
        return 1.0 - self._share_below(margin)

    def p_below(self, margin: float) -> float:
        """The same for a gain as small: small = the true gain is below `margin`."""
        return self._share_below(margin)

    def _share_below(self, margin: float) -> float:
        if not self.is_known:
            return 0.5
        away = self.value - margin
        if not self.deviation > 0:
            return 0.5 + 0.5 * float(np.sign(away))
        return float(stdtr(self.units - 1, away / self.deviation))

    def to_json(self, level: float = LEVEL) -> dict[str, Any]:
        """`{"champion", "challenger", "gain", "low", "high", "units"}`; what is not known is None."""
        low, high = self.interval(level)
        parts = {"champion": self.champion, "challenger": self.challenger, "gain": self.value, "low": low, "high": high,
                 "units": self.units}  # fmt: skip
        return {name: float(part) if np.isfinite(part) else None for name, part in parts.items()}


def gain(
    metric: Metric, champion: Pairs, challenger: Pairs, *, units: np.ndarray | None = None, quantile: float = 0.5,
    share: float = 1.0, values: tuple[float, float] | None = None,
) -> Gain:  # fmt: skip
    """Of predictions of the same labelled rows.

    `units` are codes `(rows,)` of what is independent, None: each row is. Where the rows are a uniform `share` of all,
    `values` are the metrics of all rows.
    """
    sign = 1.0 if metric.greater_is_better else -1.0
    first, second = values or (metric.of(champion, quantile), metric.of(challenger, quantile))
    found = {"champion": first, "challenger": second, "value": sign * (second - first)}
    if not np.isfinite(found["value"]) or not len(champion):
        return Gain(**found, deviation=np.nan, units=0.0)
    each = sign * (influence(metric, challenger, quantile) - influence(metric, champion, quantile))
    sums, weight = summed(each, units), summed(champion.weight, units)
    n = effective_rows(weight) / share
    variance = float((sums**2).sum())
    variance = variance * share * (n / (n - 1) if n > 1 else np.nan)
    if metric.name in PROPORTIONS and not np.array_equal(champion.prediction, challenger.prediction):
        variance += 1.0 / n**2
    return Gain(**found, deviation=float(np.sqrt(variance)), units=n)


def units_of(groups: np.ndarray) -> np.ndarray:
    """Codes `(rows,)` of group labels as `slice_values` gives them; each missing label is a group of its own."""
    missing = np.isnan(groups) if groups.dtype.kind == "f" else np.array([label is None for label in groups], bool)
    _, codes = np.unique(
        groups[~missing].astype(groups.dtype if groups.dtype.kind == "f" else str), return_inverse=True
    )
    units = np.empty(len(groups), np.int64)
    units[~missing] = codes
    units[missing] = (codes.max(initial=-1) + 1) + np.arange(missing.sum())
    return units


def group_sizes(units: np.ndarray, weight: np.ndarray | None = None) -> dict[str, Any]:
    """Of codes `(rows,)` of groups `{"count": how many there are, "worth": how many of equal size are worth as much, by
    the weights of the rows, where they have some, "largest_share": of the rows}`.

    >>> group_sizes(np.array([0, 0, 0, 1]))
    {'count': 2, 'worth': 1.6, 'largest_share': 0.75}
    """
    rows, weights = np.bincount(units), np.bincount(units, weight)
    return {
        "count": int(np.count_nonzero(rows)), "worth": effective_rows(weights.astype(float)),
        "largest_share": float(rows.max() / rows.sum()),
    }  # fmt: skip


def describe_groups(groups: Mapping[str, Any]) -> str:
    """What `group_sizes` found, in words: its start is a number.

    >>> describe_groups({"count": 2, "worth": 1.6, "largest_share": 0.75})
    '2 groups, worth 1.6 of equal size; the largest has 75.0% of the rows'
    """
    largest = f"the largest has {groups['largest_share']:.1%} of the rows"
    noun = "group" if groups["count"] == 1 else "groups"
    return f"{groups['count']:,} {noun}, worth {groups['worth']:,.1f} of equal size; {largest}"


def holm(p_values: np.ndarray) -> np.ndarray:
    """P-values adjusted for their number (Holm 1979): each below alpha is found, with a chance of alpha of any error.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values)
    raised = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1)) if len(order) else p_values
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(raised, 1.0)
    return adjusted
