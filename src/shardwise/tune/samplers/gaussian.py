"""Bayesian optimisation with a Gaussian process: expected improvement, or that per second.

Own NumPy: Optuna's needs PyTorch, and none of the usual libraries has improvement per second over a cost that is known.

    K      = s^2 Matern_5/2(r) + noise I, r^2 = sum_j ((x_j - x'_j) / l_j)^2
    EI(x)  = sd (z Phi(z) + phi(z)), z = (best - mean) / sd           (Mockus 1978; Jones et al. 1998)
    EIps   = EI / exp(log cost)                                       (Snoek et al. 2012)

Losses are taken as normal scores of their ranks, so that one bad trial does not flatten the rest. Length scales are the
best of a fixed set of draws and a coordinate search by the marginal likelihood (Rasmussen and Williams 2006, eq. 2.30).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from shardwise.core.space import Choice, Space
from shardwise.tune.samplers.base import normal_scores, observed
from shardwise.tune.samplers.plain import RandomSampler
from shardwise.tune.spaces import Cube
from shardwise.tune.trial import Trial

START = 8  # random trials before the first model
CANDIDATES = 512  # random ones, and as many near the best
NEAR = 0.08  # standard deviation of those near the best
SCALES = (0.15, 0.3, 0.6, 1.2, 3.0)
NOISES = (1e-3, 1e-2, 1e-1)
MOST = 200  # of the newest trials, and the best: the work grows with the cube of it


def few_of(losses: np.ndarray) -> np.ndarray:
    """Places in `losses` `(trials,)` of those that a process is fitted to, in their order: the newest and the best."""
    if len(losses) <= MOST:
        return np.arange(len(losses))
    return np.union1d(np.argsort(losses, kind="stable")[: MOST // 4], np.arange(len(losses) - MOST, len(losses)))


@dataclass(frozen=True)
class GaussianProcess:
    """A fitted process on points `(n, d)` and values `(n,)`."""

    points: np.ndarray
    scales: np.ndarray
    noise: float
    solved: np.ndarray
    factor: np.ndarray

    @classmethod
    def fit(cls, points: np.ndarray, values: np.ndarray) -> "GaussianProcess":
        """With the length scales and the noise of the highest marginal likelihood that a coordinate search finds."""
        best: tuple[float, np.ndarray, float] = (-math.inf, np.full(points.shape[1], SCALES[2]), NOISES[1])
        for scale in SCALES:
            for noise in NOISES:
                found = _likelihood(points, values, np.full(points.shape[1], scale), noise)
                best = max(best, (found, np.full(points.shape[1], scale), noise), key=lambda item: item[0])
        for dimension in range(points.shape[1]):
            for scale in SCALES:
                scales = best[1].copy()
                scales[dimension] = scale
                found = _likelihood(points, values, scales, best[2])
                best = max(best, (found, scales, best[2]), key=lambda item: item[0])
        factor = _cholesky(points, best[1], best[2])
        return cls(points, best[1], best[2], _solve(factor, values), factor)

    def mean(self, points: np.ndarray) -> np.ndarray:
        """Of the values at the points, `(m,)`."""
        return np.asarray(_matern(points, self.points, self.scales) @ self.solved)

    def predict(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation `(m,)` each."""
        shared = _matern(points, self.points, self.scales)
        mean = shared @ self.solved
        half = np.linalg.solve(self.factor, shared.T)
        return mean, np.sqrt(np.maximum(1.0 - np.sum(half * half, axis=0), 1e-12))


def _matern(left: np.ndarray, right: np.ndarray, scales: np.ndarray) -> np.ndarray:
    a, b = left / scales, right / scales
    squared = np.maximum(np.sum(a * a, 1)[:, None] + np.sum(b * b, 1)[None, :] - 2.0 * a @ b.T, 0.0)
    r = np.sqrt(5.0 * squared)
    return np.asarray((1.0 + r + r * r / 3.0) * np.exp(-r))


def _cholesky(points: np.ndarray, scales: np.ndarray, noise: float) -> np.ndarray:
    return np.linalg.cholesky(_matern(points, points, scales) + (noise + 1e-9) * np.eye(len(points)))


def _solve(factor: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.solve(factor.T, np.linalg.solve(factor, values)))


def _likelihood(points: np.ndarray, values: np.ndarray, scales: np.ndarray, noise: float) -> float:
    factor = _cholesky(points, scales, noise)
    half = np.linalg.solve(factor, values)
    return float(-0.5 * half @ half - np.log(np.diag(factor)).sum())


def expected_improvement(mean: np.ndarray, sd: np.ndarray, best: float) -> np.ndarray:
    """How much below `best` the value will lie, `(m,)`."""
    z = (best - mean) / sd
    density = np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    below = np.array([0.5 * math.erfc(-value / math.sqrt(2.0)) for value in z])
    return np.asarray(np.maximum(sd * (z * below + density), 0.0))


@dataclass(frozen=True)
class GaussianSampler:
    """Where the expected improvement is highest; `per_second`: where it is highest for what it costs."""

    learns: ClassVar[bool] = True
    per_second: bool = False

    def suggest(self, space: Space, trials: Sequence[Trial], seed: int) -> dict[str, object]:
        if len(trials) < START:
            return RandomSampler().suggest(space, trials, seed)
        cube = Cube(space)
        points, losses = observed(cube, trials)
        kept = few_of(losses)
        points, losses = points[kept], losses[kept]
        values = normal_scores(losses)
        rng = np.random.default_rng(seed)
        with threadpool_limits(limits=1, user_api="blas"):  # sums of threads depend on their number
            process = GaussianProcess.fit(points, values)
            candidates = candidates_around(cube, points[np.argsort(losses, kind="stable")[:3]], rng)
            mean, sd = process.predict(candidates)
            gain = expected_improvement(mean, sd, float(process.mean(points).min()))
        if self.per_second:
            gain = gain / np.exp(np.array([cube.log_cost(point) for point in candidates]))
        return cube.params(candidates[int(np.argmax(gain))])


def candidates_around(cube: Cube, best: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random points, and as many that differ little from the best ones, `(m, d)`; choices at the middle of a value."""
    d = len(cube.names)
    anywhere = rng.random((CANDIDATES, d))
    near = best[rng.integers(len(best), size=CANDIDATES)] + NEAR * rng.standard_normal((CANDIDATES, d))
    moved = rng.random((CANDIDATES, d)) < max(0.3, 1.0 / d)
    near = np.where(moved, near, best[rng.integers(len(best), size=CANDIDATES)])
    points = np.clip(np.concatenate([anywhere, near]), 0.0, 1.0)
    for j, dimension in enumerate(cube.dimensions):
        if isinstance(dimension, Choice):
            points[:, j] = [dimension.place(dimension.at(place)) for place in points[:, j]]
    return np.asarray(points)
