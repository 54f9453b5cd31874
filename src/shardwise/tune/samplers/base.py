"""The plug point of samplers, and what several of them need: the history as numbers."""

from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np

from shardwise.core.space import Space
from shardwise.tune.spaces import Cube
from shardwise.tune.trial import Trial


class Sampler(Protocol):
    """Proposes the next params: a pure function of history and seed, without state of its own.

    `learns` says whether the history is looked at; where it is not, nobody waits for it.
    """

    learns: ClassVar[bool]

    def suggest(self, space: Space, trials: Sequence[Trial], seed: int) -> dict[str, object]:
        """Params inside `space`; `trials` are those of the same family, by number."""
        ...


def observed(cube: Cube, trials: Sequence[Trial]) -> tuple[np.ndarray, np.ndarray]:
    """Points float64 `(trials, d)` and their losses `(trials,)`.

    A trial that failed counts as the worst. One that is not back yet counts as the median, so that nobody proposes the
    same again meanwhile (the constant liar of Ginsbourger et al. 2010).
    """
    points = np.array([cube.point(trial.params) for trial in trials]).reshape(len(trials), len(cube.names))
    losses = np.array([trial.loss for trial in trials], dtype=np.float64)
    known = losses[np.isfinite(losses)]
    worst, middle = (float(known.max()), float(np.median(known))) if len(known) else (0.0, 0.0)
    losses[[trial.failed for trial in trials]] = worst
    losses[[trial.pending for trial in trials]] = middle
    return points, losses


def ranked(losses: np.ndarray) -> np.ndarray:
    """Ranks `(n,)` in [0, 1], 0 the best; equal losses share theirs.

    >>> ranked(np.array([3.0, 1.0, 2.0])).tolist()
    [1.0, 0.0, 0.5]
    """
    if len(losses) < 2:
        return np.zeros(len(losses))
    ordered = np.sort(losses)
    first, last = np.searchsorted(ordered, losses, "left"), np.searchsorted(ordered, losses, "right") - 1
    return np.asarray((first + last) / 2.0 / (len(losses) - 1))


def normal_scores(losses: np.ndarray) -> np.ndarray:
    """Losses as the quantiles of a normal distribution at their ranks: no outliers, mean 0, spread about 1."""
    from_half = np.clip((ranked(losses) * max(1, len(losses) - 1) + 0.5) / max(1, len(losses)), 1e-6, 1 - 1e-6)
    return np.asarray(np.sqrt(2.0) * _inverse_error_function(2.0 * from_half - 1.0))


def _inverse_error_function(x: np.ndarray) -> np.ndarray:
    """Winitzki's approximation, within 0.002: SciPy would take longer to import than a sampler works."""
    a = 0.147
    logs = np.log(1.0 - x * x)
    first = 2.0 / (np.pi * a) + logs / 2.0
    return np.asarray(np.sign(x) * np.sqrt(np.sqrt(first * first - logs / a) - first))
