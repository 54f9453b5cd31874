"""How much less what predicts errs than each of the fold models, learned from rows without labels.

Out-of-fold scores are those of single fold models; their mean predicts, or a model of all rows, so that intervals and
sets hold the truth more often than asked. On rows that none of the models has seen, their answers tell how far each is
from the mean of the fold models, whatever the truth is:

- Numbers: an error of a model is the mean's error and, independent of it, the distance between the two. Adding the
  fold models' distances once more to the scores widens them as much again, in first order, as they are too wide: each
  quantile is moved back by what it moved (SIMEX; Cook and Stefanski 1994, "Simulation-extrapolation estimation in
  parametric measurement error models"), and forward by what the distances of that which predicts move it. Where
  some rows are harder than others for all models, that moves too far: so no quantile comes nearer to the median than
  with the square of the distances at the same quantile taken off. Where some would move past it, all stay.
- Classes: labels are drawn, in expectation, from the mean's probabilities to that power with which the fold models'
  scores are as large on average as they were out of fold. Quantiles of both sides' scores of these labels give the map.
  Where nothing can be learned all answers are nearly the same, and a model of all rows may lie beside all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LEVELS = np.linspace(0.005, 0.995, 199)  # quantiles that are moved; scores beyond them move as the last one
FINE, GAPS = 2000, 500  # quantiles of scores, and distances, that are added to each other
MOST_CELLS = 1 << 22  # of models x rows x classes
POWERS = 0.05, 20.0
_STEPS = 40


@dataclass(frozen=True)
class Apart:
    """Predictions for rows that no model has seen: of the fold models, `each` `(models, rows)` or `(models, rows,
    classes)`, and of what predicts, `answers` `(rows,)` or `(rows, classes)`."""

    each: np.ndarray
    answers: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Of the fold models."""
        return np.asarray(self.each.mean(axis=0))

    def mapped(self, change: Callable[[np.ndarray], np.ndarray]) -> "Apart":
        """With all predictions changed alike."""
        return Apart(np.stack([change(one) for one in self.each]), change(self.answers))


@dataclass(frozen=True)
class Shift:
    """Scores at `knots` move by `moves`, both `(n,)`, linearly in between; the order of scores stays."""

    knots: np.ndarray
    moves: np.ndarray

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """For scores in ascending order."""
        return np.maximum.accumulate(scores + np.interp(scores, self.knots, self.moves))


def shift_of_numbers(quantile: Callable[[np.ndarray], np.ndarray], each: np.ndarray, answers: np.ndarray) -> Shift:
    """From the scores' quantile function, and how far the mean of the fold models is from each `(models, rows)` and
    from what predicts `(rows,)`, as scores."""
    scores = quantile((np.arange(FINE) + 0.5) / FINE)
    before, after = (_with(scores, gaps) for gaps in (each, answers))
    knots = np.quantile(scores, LEVELS)
    moved, middle = knots + after - before, len(knots) // 2
    if moved[:middle].max() > moved[middle] or moved[middle:].min() < moved[middle]:
        return Shift(knots[:1], np.zeros(1))
    side = np.sign(LEVELS - LEVELS[middle])
    far = np.maximum(side * (moved - moved[middle]), _least(np.abs(knots - knots[middle]), each, answers))
    far[middle:], far[middle::-1] = np.maximum.accumulate(far[middle:]), np.maximum.accumulate(far[middle::-1])
    return _shift(knots, moved[middle] + side * far - knots)


def _least(far: np.ndarray, each: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """How near to the median quantiles come that are `far` from it, where harder rows are so for all models."""
    before, after = (np.quantile(np.abs(gaps), np.abs(2.0 * LEVELS - 1.0)) for gaps in (each, answers))
    return np.asarray(np.sqrt(np.maximum(far**2 - before**2, far**2 / len(each)) + np.minimum(after, before) ** 2))


def _with(scores: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Quantiles of the scores when distances are added."""
    few = np.quantile(gaps, (np.arange(GAPS) + 0.5) / GAPS)
    return np.asarray(np.quantile(np.add.outer(scores, few), LEVELS))


def shift_of_classes(mean_score: float, apart: Apart) -> Shift:
    """From the mean out-of-fold score, 1 - p(own class)."""
    step = -(-apart.each.size // MOST_CELLS)
    each, answers = apart.each[:, ::step], apart.answers[::step]
    weights = _labels(mean_score, each.mean(axis=0))
    before = _weighted_quantiles(1.0 - each, np.broadcast_to(weights, each.shape))
    return _shift(before, _weighted_quantiles(1.0 - answers, weights) - before)


def _labels(mean_score: float, mean: np.ndarray) -> np.ndarray:
    """Probabilities of the classes `(rows, classes)`, as sure as it takes for the mean score."""
    logs = np.log(np.clip(mean, 1e-12, 1.0))
    logs -= logs.max(axis=1, keepdims=True)
    low, high = np.log(POWERS)
    weights = mean
    for _ in range(_STEPS):
        middle = (low + high) / 2
        weights = np.exp(np.exp(middle) * logs)
        weights /= weights.sum(axis=1, keepdims=True)
        score = float((weights * (1.0 - mean)).sum(axis=1).mean())
        low, high = (middle, high) if score > mean_score else (low, middle)
    return np.asarray(weights)


def _weighted_quantiles(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    order = np.argsort(values, axis=None)
    shares = np.cumsum(weights.ravel()[order])
    place = np.searchsorted(shares, LEVELS * shares[-1])
    return np.asarray(values.ravel()[order][np.minimum(place, len(order) - 1)])


def _shift(knots: np.ndarray, moves: np.ndarray) -> Shift:
    """With one move, the mean, for knots that are the same."""
    unique, place = np.unique(knots, return_inverse=True)
    return Shift(unique, np.bincount(place, moves) / np.bincount(place))
