"""Intervals and sets that hold the truth as often as they say, whatever the model: conformal prediction.

A score says how far a label is from a prediction. The scores of n rows that the models have not seen are ranked; a new
row that is exchangeable with them has any rank among the n + 1 with the same chance, so that the k-th smallest score is
not exceeded with a chance of at least k / (n + 1) (Vovk, Gammerman and Shafer 2005, "Algorithmic learning in a random
world"; Lei et al. 2018, "Distribution-free predictive inference for regression").

- Numbers: r = (y - p) / s(p), and an interval from p + s(p) r_(floor((n + 1) a / 2)) to
  p + s(p) r_(ceil((n + 1) (1 - a / 2))): both tails have their own, as errors are often skewed. s is 1, or where it
  makes intervals narrower the mean absolute error at predictions like p (normalised, or locally weighted, scores).
  Intervals of counts end at 0.
- Classes: 1 - p(own class); a set holds the classes whose score is at most the ceil((n + 1) (1 - a))-th smallest (LAC,
  Sadinle, Lei and Wasserman 2019, "Least ambiguous set-valued classifiers with bounded error levels"). A set may be
  empty: no class is likely enough. Sets that never are would hold the truth more often than was asked for.

The chance is over rows, of all classes and groups together. With a hold-out the scores are those of the model that
predicts, and the bound is exact. With folds they are those of the fold models, and their mean predicts, or a model of
all rows (cross-conformal prediction, "base" in MAPIE's words): no bound is proven. As what predicts errs less than the
fold models do, it would hold the truth more often than asked; `moved` takes that away (`stats.apart`), and
`benchmarks/bench_conformal.py` counts what is left. Where rows are no longer exchangeable (time, new groups) no bound
holds: `held_by_part` tells how far it is off.

| symbol | meaning                                  |
|--------|------------------------------------------|
| y, p   | label and prediction                     |
| n      | rows that were not seen in training      |
| a      | 1 - confidence level                     |
| r_(k)  | k-th smallest score                      |
"""

import math
from typing import Self

import numpy as np

from shardwise.core.errors import ConfigError
from shardwise.core.state import State
from shardwise.core.target import Target, Task
from shardwise.stats.apart import Apart, shift_of_classes, shift_of_numbers

LEAST_ROWS = 20
MOST_SCORES = 2_000  # that are kept: the tails whole, of the rest every k-th
_TAIL = 400
_SCALE_ROWS = 500  # below, one width for all
_BIN_ROWS, _MOST_BINS = 100, 20
_NARROWER = 0.98  # times the mean width without a scale
_LEVEL = 0.9  # at which widths are compared


class Conformal:
    """The ranked scores of rows that were not trained on, as many as it takes.

    `rows` were scored; `scores` `(kept,)` have the `ranks` `(kept,)` among them, from 1. `knots` and `heights` are the
    scale by prediction, empty: 1.
    """

    def __init__(
        self, target: Target, rows: int, ranks: np.ndarray, scores: np.ndarray,
        scale: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:  # fmt: skip
        self._target = target
        self._is_sets = target.task.is_classification
        self._floor = 0.0 if target.task is Task.COUNT else -np.inf
        self.rows = rows
        self._ranks, self._scores = ranks, scores
        empty: np.ndarray = np.empty(0)
        self._knots, self._heights = scale or (empty, empty)

    @classmethod
    def fit(cls, target: Target, y: np.ndarray, prediction: np.ndarray, parts: np.ndarray) -> Self | None:
        """From labels `(rows,)` and out-of-fold predictions `(rows,)` or `(rows, classes)`; None for too few rows.

        `parts` `(rows,)` say which rows get their scale from all others.
        """
        known = np.isfinite(y) & np.isfinite(prediction.reshape(len(y), -1)).all(axis=1)
        y, prediction, parts = y[known], prediction[known], parts[known]
        if len(np.unique(parts)) < 2:
            parts = np.arange(len(y)) % 2
        if len(y) < LEAST_ROWS:
            return None
        if target.task.is_classification:
            own = np.take_along_axis(prediction, y.astype(np.int64)[:, None], axis=1)[:, 0]
            return cls(target, len(y), *_kept(1.0 - own))
        away = y - prediction
        scale = _scale(prediction, away) if len(y) >= _SCALE_ROWS else None
        if scale is not None:
            each = _crossed_scale(prediction, away, parts)
            scores = away / each
            if each.mean() * _width(scores) < _NARROWER * _width(away):
                return cls(target, len(y), *_kept(scores), scale)
        return cls(target, len(y), *_kept(away))

    def moved(self, apart: Apart) -> "Conformal":
        """For what predicts in the place of the fold models whose scores these are, from what all of them answer to
        rows that none has seen.

        Scores of counts stay: they lie on steps of 1, where what is first order is not small.
        """
        if self._target.task is Task.COUNT:
            return self
        if self._is_sets:
            shift = shift_of_classes(float(self._quantiles((np.arange(self.rows) + 0.5) / self.rows).mean()), apart)
            scores = np.clip(shift(self._scores), 0.0, 1.0)
        else:
            scale = self._scale_at(apart.mean)
            each, answers = ((apart.mean - other) / scale for other in (apart.each, apart.answers))
            scores = shift_of_numbers(self._quantiles, each, answers)(self._scores)
        knots = (self._knots, self._heights) if len(self._knots) else None
        return Conformal(self._target, self.rows, self._ranks, scores, knots)

    def _quantiles(self, shares: np.ndarray) -> np.ndarray:
        return np.asarray(np.interp(shares * (self.rows + 1), self._ranks, self._scores))

    def _scale_at(self, prediction: np.ndarray) -> np.ndarray | float:
        return np.interp(prediction, self._knots, self._heights) if len(self._knots) else 1.0

    def check(self, level: float) -> None:
        """Raise `ConfigError` for a level that is none, or that takes more rows than were scored."""
        if not 0.0 < level < 1.0:
            raise ConfigError(f"the confidence level {level} is outside (0, 1)", hint="Give a share, such as 0.9.")
        if (self.rows + 1) * (1.0 - level) / self._tails < 1.0 - 1e-9:
            message = f"the confidence level {level} takes more than the {self.rows} rows that were scored"
            raise ConfigError(message, hint=f"At most {self.most_level:g} can be promised.")

    @property
    def most_level(self) -> float:
        """The highest level that can be promised, to four digits."""
        return math.floor(1e4 * (1.0 - self._tails / (self.rows + 1))) / 1e4

    @property
    def _tails(self) -> int:
        return 1 if self._is_sets else 2

    def interval(self, prediction: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Low and high ends `(rows,)` that hold the number with a chance of at least `level`."""
        self.check(level)
        half = (1.0 - level) / 2
        low = self._at_most(math.floor((self.rows + 1) * half + 1e-9))
        high = self._at_least(math.ceil((self.rows + 1) * (1.0 - half) - 1e-9))
        scale = self._scale_at(prediction)
        return np.maximum(prediction + scale * low, self._floor), np.maximum(prediction + scale * high, self._floor)

    def sets(self, probabilities: np.ndarray, level: float) -> np.ndarray:
        """Bool `(rows, classes)`: the classes of each row, that of the truth with a chance of at least `level`."""
        self.check(level)
        most = self._at_least(math.ceil((self.rows + 1) * level - 1e-9))
        return np.asarray(1.0 - probabilities <= most)

    def holds(self, y: np.ndarray, prediction: np.ndarray, level: float) -> np.ndarray:
        """Bool `(rows,)`: whether the interval or set holds the truth."""
        if self._is_sets:
            own = y.astype(np.int64)[:, None]
            return np.asarray(np.take_along_axis(self.sets(prediction, level), own, axis=1)[:, 0])
        low, high = self.interval(prediction, level)
        return (low <= y) & (y <= high)

    def _at_most(self, rank: int) -> float:
        """The score of the greatest kept rank up to `rank`."""
        return float(self._scores[np.searchsorted(self._ranks, rank, side="right") - 1])

    def _at_least(self, rank: int) -> float:
        return float(self._scores[np.searchsorted(self._ranks, rank)])

    def state(self) -> State:
        return {
            "rows": self.rows, "ranks": self._ranks, "scores": self._scores, "knots": self._knots,
            "heights": self._heights,
        }  # fmt: skip

    @classmethod
    def from_state(cls, target: Target, state: State) -> Self:
        scale = state["knots"], state["heights"]
        return cls(target, state["rows"], state["ranks"], state["scores"], scale if len(scale[0]) else None)


def _kept(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks from 1, and the scores that have them."""
    rows = len(scores)
    ranks = np.arange(1, rows + 1)
    if rows > MOST_SCORES:
        middle = np.linspace(_TAIL, rows - _TAIL, MOST_SCORES - 2 * _TAIL).round().astype(np.int64)
        ranks = np.unique(np.concatenate([ranks[:_TAIL], middle, ranks[-_TAIL:]]))
    return ranks, np.sort(scores)[ranks - 1]


def _width(scores: np.ndarray) -> float:
    low, high = np.quantile(scores, [(1.0 - _LEVEL) / 2, (1.0 + _LEVEL) / 2])
    return float(high - low)


def _scale(prediction: np.ndarray, away: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean prediction and mean absolute error of bins of the prediction; None where predictions are too few values."""
    bins = min(_MOST_BINS, len(away) // _BIN_ROWS)
    edges = np.unique(np.quantile(prediction, np.arange(1, bins) / bins)) if bins > 1 else np.empty(0)
    place = np.searchsorted(edges, prediction, side="right")
    count = np.bincount(place, minlength=len(edges) + 1)
    if len(edges) < 2 or count.min() < _BIN_ROWS / 2:
        return None
    knots = np.bincount(place, prediction) / count
    heights = np.bincount(place, np.abs(away)) / count
    return knots, np.maximum(heights, 0.05 * heights.mean() + 1e-300)


def _crossed_scale(prediction: np.ndarray, away: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """The scale of each row by what the rows of other parts say."""
    each = np.ones(len(away))
    for part in np.unique(parts):
        own = parts == part
        scale = _scale(prediction[~own], away[~own])
        each[own] = np.abs(away[~own]).mean() if scale is None else np.interp(prediction[own], *scale)
    return np.where(each > 0, each, 1.0)


def held_by_part(
    target: Target, y: np.ndarray, prediction: np.ndarray, parts: np.ndarray, *, level: float, ahead: bool = False
) -> dict[int, float]:
    """Share of the rows of each part whose interval or set, by the scores of the other parts, holds the truth.

    With `ahead` by the parts before it alone, as time goes: the first one is then left out.
    """
    found = {}
    for part in np.unique(parts).tolist():
        others, own = parts < part if ahead else parts != part, parts == part
        if others.sum() < LEAST_ROWS:
            continue
        fitted = Conformal.fit(target, y[others], prediction[others], parts[others])
        if fitted is not None and (fitted.rows + 1) * (1.0 - level) >= 2:
            found[part] = float(fitted.holds(y[own], prediction[own], level).mean())
    return found
