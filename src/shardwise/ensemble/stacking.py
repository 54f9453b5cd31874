"""Stacking: the slopes, the bias and the trees of a `Stack` from out-of-fold predictions.

They minimise the mean loss of the task + `PULL` * |slope - w|^2, where w are the weights that greedy selection gives to
the members (Wolpert, Stacked generalization, 1992; Breiman, Stacked regressions, 1996: slopes that are not negative).
Trees begin where these end.
"""

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace
from typing import Self

import numpy as np
from scipy.optimize import minimize

from shardwise.core.target import Target, Task
from shardwise.ensemble import growing
from shardwise.ensemble.combine import Combiner
from shardwise.ensemble.stack import Stack
from shardwise.models.links import link, unlink

STACKED = frozenset({Task.BINARY, Task.MULTICLASS, Task.REGRESSION, Task.COUNT})  # tasks with a smooth loss
PULL = 1e-3
MOST_CLASSES = 50  # beyond, a bias for each class is learned from too few rows
_GRID = 2.0**20  # slopes and biases are whole multiples of 1 / _GRID: the last digits of sums do not decide


class StackCombiner:
    """`mean` chooses the members (greedily, in the usual case), then slopes and bias are learned. See the module."""

    def __init__(self, target: Target, mean: Combiner) -> None:
        self._task = target.task
        self._mean = mean
        self._members: list[int] = []
        self.stack = Stack(target.task, (), (), ())

    @property
    def weights(self) -> tuple[float, ...]:
        """Those of the mean."""
        return self._mean.weights

    def fit(self, predictions: Sequence[np.ndarray], target: np.ndarray) -> None:
        """From predictions `(rows, classes)` or `(rows,)` for rows that the members have not seen."""
        self._mean.fit(predictions, target)
        self._members = np.flatnonzero(self.weights).tolist()
        scores = np.stack([unlink(self._task, predictions[member]) for member in self._members])
        start = np.array([self.weights[member] for member in self._members])
        slopes, bias = _learned(self._task, scores, target, start)
        self.stack = Stack(self._task, slopes, bias, tuple(range(len(slopes))))

    def with_trees(self, predictions: Sequence[np.ndarray], target: np.ndarray) -> Self:
        """This stack, which is fitted, and small trees that learn what it leaves of the same rows."""
        scores = [unlink(self._task, predictions[member]) for member in self._members]
        trees = growing.grown(self._task, np.hstack(scores), self.stack.scored(scores), target)
        found = copy(self)
        found.stack = replace(self.stack, trees=trees)
        return found

    def combine(self, predictions: Iterable[np.ndarray]) -> np.ndarray:
        """Of all members, in the order of `fit`; those without a weight are passed over."""
        chosen = set(self._members)
        return self.stack.combine(
            prediction
            for number, prediction in zip(range(len(self.weights)), predictions, strict=True)
            if number in chosen
        )


def _learned(
    task: Task, scores: np.ndarray, y: np.ndarray, start: np.ndarray
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(slopes, bias) for scores `(members, rows, columns)`, numbers standardised on the way."""
    middle, scale = growing.unit_of(task, y)
    scores, y = (scores - middle) / scale, (y - middle) / scale
    members, columns = len(scores), scores.shape[2]
    biases = columns if columns <= MOST_CLASSES else 0

    def loss(found: np.ndarray) -> tuple[float, np.ndarray]:
        slopes, bias = found[:members], found[members:]
        total = np.zeros(scores.shape[1:]) + (bias if biases else 0.0)
        for slope, score in zip(slopes, scores, strict=True):
            total += slope * score
        value, gradient = _task_loss(task, total, y)
        pulled = slopes - start
        by_slope = [float((gradient * score).sum()) / len(y) for score in scores] + 2 * PULL * pulled
        by_bias = gradient.mean(axis=0) if biases else np.empty(0)
        return value + PULL * float(pulled @ pulled), np.concatenate([by_slope, by_bias])

    bounds = [(0.0, None)] * members + [(None, None)] * biases
    found = minimize(loss, np.concatenate([start, np.zeros(biases)]), jac=True, method="L-BFGS-B", bounds=bounds).x
    slopes = np.round(found[:members] * _GRID) / _GRID
    bias = np.round(found[members:] * _GRID) / _GRID if biases else np.zeros(columns)
    shift = middle * (1.0 - float(slopes.sum())) if task is Task.REGRESSION else 0.0
    return tuple(slopes.tolist()), tuple((bias * scale + shift).tolist())


def _task_loss(task: Task, scores: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """(mean loss, its gradient by the scores `(rows, columns)` times rows)."""
    if task is Task.BINARY:
        s = scores[:, 0]
        value = float((np.logaddexp(0.0, s) - y * s).mean())
        return value, (link(task, scores)[:, 1] - y)[:, None]
    if task is Task.MULTICLASS:
        gradient = link(task, scores)
        own = np.arange(len(y)), y.astype(np.intp)
        value = float(-np.log(np.maximum(gradient[own], 1e-300)).mean())
        gradient[own] -= 1.0
        return value, gradient
    if task is Task.COUNT:
        mean = link(task, scores)
        return float((mean - y * scores[:, 0]).mean()), (mean - y)[:, None]
    off = scores[:, 0] - y
    return float(0.5 * (off * off).mean()), off[:, None]
