"""How much less a mean of models errs than each of them, learned from rows without labels.

Out-of-fold scores are those of single fold models; their mean predicts (or one model of all rows, which errs about as
little), so that intervals and sets hold the truth more often than asked. On rows that none of the models has seen,
their answers tell how far each is from the mean, whatever the truth is:

- Numbers: an error of a fold model is the mean's error and, independent of it, the distance between the two. Adding
  such distances once more to the scores widens them as much again, in first order, as they are too wide: each quantile
  is moved back by what it moved (SIMEX; Cook and Stefanski 1994, "Simulation-extrapolation estimation in parametric
  measurement error models").
- Classes: labels are drawn, in expectation, from the mean's probabilities to that power with which the fold models'
  scores are as large on average as they were out of fold. Quantiles of both sides' scores of these labels give the map.
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
    """Predictions for rows that no model has seen: `each` `(models, rows)` or `(models, rows, classes)`, and `together`
    `(rows,)` or `(rows, classes)`, what they answer as one."""

    each: np.ndarray
    together: np.ndarray

    def mapped(self, change: Callable[[np.ndarray], np.ndarray]) -> "Apart":
        """With all predictions changed alike."""
        return Apart(np.stack([change(one) for one in self.each]), change(self.together))


@dataclass(frozen=True)
class Shift:
    """Scores at `knots` move by `moves`, both `(n,)`, linearly in between; the order of scores stays."""

    knots: np.ndarray
    moves: np.ndarray

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """For scores in ascending order."""
        return np.maximum.accumulate(scores + np.interp(scores, self.knots, self.moves))


def shift_of_numbers(quantile: Callable[[np.ndarray], np.ndarray], gaps: np.ndarray) -> Shift:
    """From the scores' quantile function, and `(models, rows)` how far the mean is from each model, as a score."""
    few = np.quantile(gaps, (np.arange(GAPS) + 0.5) / GAPS)
    scores = quantile((np.arange(FINE) + 0.5) / FINE)
    knots = np.quantile(scores, LEVELS)
    return _shift(knots, knots - np.quantile(np.add.outer(scores, few), LEVELS))


def shift_of_classes(mean_score: float, apart: Apart) -> Shift:
    """From the mean out-of-fold score, 1 - p(own class)."""
    step = -(-apart.each.size // MOST_CELLS)
    each, together = apart.each[:, ::step], apart.together[::step]
    weights = _labels(mean_score, each.mean(axis=0), together)
    before = _weighted_quantiles(1.0 - each, np.broadcast_to(weights, each.shape))
    return _shift(before, _weighted_quantiles(1.0 - together, weights) - before)


def _labels(mean_score: float, each: np.ndarray, together: np.ndarray) -> np.ndarray:
    """Probabilities of the classes `(rows, classes)`, as sure as it takes for the mean score."""
    logs = np.log(np.clip(together, 1e-12, 1.0))
    logs -= logs.max(axis=1, keepdims=True)
    low, high = np.log(POWERS)
    weights = together
    for _ in range(_STEPS):
        middle = (low + high) / 2
        weights = np.exp(np.exp(middle) * logs)
        weights /= weights.sum(axis=1, keepdims=True)
        score = float((weights * (1.0 - each)).sum(axis=1).mean())
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
