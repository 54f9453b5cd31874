"""Losses of linear models on raw scores: where to start, and the gradient.

| task       | prediction     | gradient of the loss by the score     |
|------------|----------------|---------------------------------------|
| binary     | sigmoid(f)     | p - y                                 |
| multiclass | softmax(f)     | p_k - [y = k]                         |
| regression | f              | f - z          (z: standardised y)    |
| count      | exp(f)         | (exp(f) - y) / mean(y)                |
| quantile   | f              | [z < f] - q    (z: standardised y)    |
"""

from typing import Protocol

import numpy as np

from shardwise.core.target import Target, Task

LOWEST, HIGHEST = -30.0, 30.0  # scores of counts: exp stays finite
_TINY = 1e-6
LEAST = 1e-12  # of a probability or a count, where its logarithm is taken


class Link(Protocol):
    """A loss; made from the target and the best constant prediction, on the scale of the model."""

    start: np.ndarray  # float64 (scores,): the intercept that predicts the constant

    def __init__(self, target: Target, constant: np.ndarray) -> None: ...

    @staticmethod
    def scores(target: Target) -> int:
        """Columns of the raw scores."""
        ...

    def gradient(self, y: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Float32 `(rows, scores)`; y `(rows,)`, scores `(rows, scores)`."""
        ...


class _OneScore:
    def __init__(self, target: Target, constant: np.ndarray) -> None:
        self.start = constant.copy()
        self._quantile = target.quantile

    @staticmethod
    def scores(target: Target) -> int:  # noqa: ARG004 - as the others
        return 1


class Logistic(_OneScore):
    def __init__(self, target: Target, constant: np.ndarray) -> None:
        super().__init__(target, constant)
        share = np.clip(constant[1:], _TINY, 1 - _TINY)
        self.start = np.log(share / (1 - share))

    def gradient(self, y: np.ndarray, scores: np.ndarray) -> np.ndarray:
        return np.asarray(sigmoid(scores) - y[:, None])


class Softmax:
    def __init__(self, target: Target, constant: np.ndarray) -> None:  # noqa: ARG002 - as the others
        self.start = np.log(np.maximum(constant, _TINY))

    @staticmethod
    def scores(target: Target) -> int:
        return target.outputs

    def gradient(self, y: np.ndarray, scores: np.ndarray) -> np.ndarray:
        gradient = _softmax(scores)
        gradient[np.arange(len(y)), y.astype(np.intp)] -= 1
        return gradient


class Squared(_OneScore):
    def gradient(self, y: np.ndarray, scores: np.ndarray) -> np.ndarray:
        return np.asarray(scores - y[:, None])


class Poisson(_OneScore):
    def __init__(self, target: Target, constant: np.ndarray) -> None:
        super().__init__(target, constant)
        self._mean = np.float32(max(constant[0], _TINY))
        self.start = np.log(np.maximum(constant, _TINY))

    def gradient(self, y: np.ndarray, scores: np.ndarray) -> np.ndarray:
        return np.asarray((np.exp(np.clip(scores, LOWEST, HIGHEST)) - y[:, None]) / self._mean)


class Pinball(_OneScore):
    def gradient(self, y: np.ndarray, scores: np.ndarray) -> np.ndarray:
        return np.asarray((y[:, None] < scores).astype(np.float32) - np.float32(self._quantile))


LINKS: dict[Task, type[Link]] = {
    Task.BINARY: Logistic,
    Task.MULTICLASS: Softmax,
    Task.REGRESSION: Squared,
    Task.COUNT: Poisson,
    Task.QUANTILE: Pinball,
}


def link(task: Task, scores: np.ndarray) -> np.ndarray:
    """Predictions from raw scores `(rows, scores)`: `(rows, classes)` or `(rows,)`, on the scale of the model."""
    if task is Task.BINARY:
        positive = sigmoid(scores[:, 0])
        return np.column_stack([1 - positive, positive])
    if task is Task.MULTICLASS:
        return _softmax(scores)
    if task is Task.COUNT:
        return np.asarray(np.exp(np.clip(scores[:, 0], LOWEST, HIGHEST)))
    return np.asarray(scores[:, 0])


def unlink(task: Task, prediction: np.ndarray) -> np.ndarray:
    """Float64 scores `(rows, scores)` of which `link` makes the prediction, up to what probabilities are clipped to."""
    if task is Task.BINARY:
        positive = np.clip(prediction[:, 1:], LEAST, 1.0 - LEAST)
        return np.asarray(np.log(positive) - np.log1p(-positive))
    if task is Task.MULTICLASS:
        return np.asarray(np.log(np.maximum(prediction, LEAST)))
    if task is Task.COUNT:
        return np.asarray(np.log(np.maximum(prediction, LEAST)))[:, None]
    return np.asarray(prediction, dtype=np.float64)[:, None]


def constant_terms(task: Task, prediction: np.ndarray, features: int) -> np.ndarray:
    """Terms, as `base.Additive` has them, of models that predict the same whatever the row: `prediction` of each."""
    scores = unlink(task, prediction)
    return np.concatenate([np.zeros((len(scores), features, scores.shape[1])), scores[:, None]], axis=1)


def sigmoid(scores: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-scores)), which does not overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * scores)))


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
