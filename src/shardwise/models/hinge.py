"""Losses of support vector machines on raw scores, in the form of `links.Link`, and probabilities from such scores.

| loss                           | value                        | gradient by the score f   |
|--------------------------------|------------------------------|---------------------------|
| hinge                          | max(0, 1 - y f)              | -y [y f < 1]              |
| squared_hinge                  | max(0, 1 - y f)^2 / 2        | -y max(0, 1 - y f)        |
| epsilon_insensitive            | max(0, |f - z| - e)          | sign(f - z) [|f - z| > e] |
| squared_epsilon_insensitive    | max(0, |f - z| - e)^2 / 2    | the same times its value  |

y is +1 for the class, else -1 (several classes: one against the rest each); z a standardised target, e = `epsilon`.
"""

from dataclasses import dataclass

import numpy as np

from shardwise.core.target import Target, Task
from shardwise.models.links import link

CLASS_LOSSES = ("squared_hinge", "hinge")
NUMBER_LOSSES = ("squared_epsilon_insensitive", "epsilon_insensitive")
_NEWTON_STEPS, _CLOSE = 100, 1e-10
LEAST = 1e-9  # of a probability


@dataclass
class Hinge:
    """Of classes. `start` float64 `(scores,)` is the best constant of the squared loss, 2 p - 1."""

    target: Target
    squared: bool
    start: np.ndarray

    @classmethod
    def of(cls, target: Target, squared: bool, constant: np.ndarray) -> "Hinge":
        """From the shares of the classes, float64 `(classes,)`."""
        return cls(target, squared, 2.0 * (constant[1:] if target.task is Task.BINARY else constant) - 1.0)

    def gradient(self, y: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Float32 `(rows, scores)`; y `(rows,)`, scores `(rows, scores)`."""
        signs = _signs(self.target.task, y, scores.shape[1])
        short = np.maximum(1 - signs * scores, 0)
        return np.asarray(-signs * (short if self.squared else (short > 0)), np.float32)


@dataclass
class Insensitive:
    """Of numbers: errors up to `epsilon` (in standard deviations of the target) cost nothing."""

    epsilon: float
    squared: bool
    start: np.ndarray

    def gradient(self, y: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Float32 `(rows, 1)`."""
        off = scores - y[:, None]
        beyond = np.maximum(np.abs(off) - np.float32(self.epsilon), 0)
        return np.asarray(np.sign(off) * (beyond if self.squared else (beyond > 0)), np.float32)


@dataclass(frozen=True)
class Sigmoid:
    """p = 1 / (1 + exp(-(slope f + shift))), scaled to the sum 1 where there are several classes."""

    slope: float = 1.0
    shift: float = 0.0

    @classmethod
    def fit(cls, task: Task, scores: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> "Sigmoid":
        """The curve with the least log loss for scores `(rows, scores)` and classes y `(rows,)`.

        Platt (1999) with the Newton steps of Lin, Lin and Weng (2007); targets are drawn in by a row of each kind, so
        that classes that the scores part still get finite slopes. All classes share one curve: a curve for each
        would learn the noise of rare ones.
        """
        positive = (_signs(task, y, scores.shape[1]) > 0).ravel()
        f = scores.astype(np.float64).ravel()
        w = np.ones(len(f)) if weight is None else np.repeat(weight / weight.mean(dtype=np.float64), scores.shape[1])
        ones, zeros = float(w[positive].sum()), float(w[~positive].sum())
        wanted = np.where(positive, (ones + 1) / (ones + 2), 1 / (zeros + 2))
        at = np.array([0.0, np.log((ones + 1) / (zeros + 1))])
        loss = _loss(at, f, wanted, w)
        for _ in range(_NEWTON_STEPS):
            step, slope = _newton(at, f, wanted, w)
            size = 1.0
            while size > _CLOSE and (new := _loss(at + size * step, f, wanted, w)) > loss + 1e-4 * size * slope:
                size /= 2
            if size <= _CLOSE or loss - new <= _CLOSE * abs(loss):
                break
            at, loss = at + size * step, new
        return cls(float(at[0]), float(at[1]))

    def __call__(self, task: Task, scores: np.ndarray) -> np.ndarray:
        """Float64 `(rows, classes)`."""
        if task is Task.BINARY:
            return link(task, scores * self.slope + self.shift)
        own = link(Task.BINARY, (scores * self.slope + self.shift).reshape(-1, 1))[:, 1].reshape(scores.shape)
        own = own.clip(LEAST, None)
        return np.asarray(own / own.sum(axis=1, keepdims=True))


def _signs(task: Task, y: np.ndarray, scores: int) -> np.ndarray:
    """Float32 `(rows, scores)`, +1 or -1."""
    classes = np.array([1]) if task is Task.BINARY else np.arange(scores)
    return np.where(y[:, None] == classes, np.float32(1), np.float32(-1))


def _loss(at: np.ndarray, f: np.ndarray, wanted: np.ndarray, w: np.ndarray) -> float:
    logits = at[0] * f + at[1]
    return float(np.sum(w * (np.logaddexp(0.0, logits) - wanted * logits)))


def _newton(at: np.ndarray, f: np.ndarray, wanted: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, float]:
    """(the step, by how much the loss falls along it at first: negative)."""
    p = link(Task.BINARY, (at[0] * f + at[1])[:, None])[:, 1]
    off, curve = w * (p - wanted), w * p * (1 - p)
    gradient = np.array([np.sum(off * f), np.sum(off)])
    mixed = np.sum(curve * f)
    hessian = np.array([[np.sum(curve * f * f), mixed], [mixed, np.sum(curve)]]) + 1e-9 * np.eye(2)
    step = -np.linalg.solve(hessian, gradient)
    return step, float(gradient @ step)
