"""Pruners that look at the course of a trial: against the median of the others, or where its curve leads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shardwise.tune.pruners.base import on_rung
from shardwise.tune.trial import Trial

LEAST = 4  # trials on a rung from which there is a median
POINTS = 6  # of a curve, from which it can be extrapolated
POWERS = (0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
SURE = 2.0  # times the error of the fit that a trial is allowed


@dataclass(frozen=True)
class MedianPruner:
    """Stops what is worse than the median of the trials on its rung (Golovin et al. 2017)."""

    prunes: bool = True

    def should_stop(self, trial: Trial, trials: Sequence[Trial]) -> bool:
        if trial.done or trial.failed:
            return True
        losses = on_rung(trial, trials)
        return len(losses) > LEAST and trial.loss > float(np.median(losses))

    def first_rung(self, number: int, rungs: int) -> int:  # noqa: ARG002 - the plug point
        return 0


@dataclass(frozen=True)
class CurvePruner:
    """Stops what will not reach the lowest point of the curves so far, by its own curve (Domhan et al. 2015).

        loss(t) = a + b t^-c, b >= 0        a, b by least squares for each c; t: steps in the unit of the rungs

    A trial has the benefit of twice the error of the fit, and no doubt is held against it where there are few points.
    """

    prunes: bool = True
    horizon: float = 40.0  # steps at which a trial is taken to end

    def should_stop(self, trial: Trial, trials: Sequence[Trial]) -> bool:
        if trial.done or trial.failed:
            return True
        others = [other for other in trials if other.number != trial.number and other.family == trial.family]
        known = [loss for other in others for _, loss in other.curve if np.isfinite(loss)]  # as the curve's own
        curve = [point for point in trial.curve if np.isfinite(point[1])]
        if len(curve) < POINTS or not known:
            return False
        reached, error = extrapolated(curve, max(self.horizon, 2.0 * curve[-1][0]))
        return reached - SURE * error > min(known)

    def first_rung(self, number: int, rungs: int) -> int:  # noqa: ARG002
        return 0


def extrapolated(curve: Sequence[tuple[float, float]], step: float) -> tuple[float, float]:
    """(loss expected at `step`, error of the fit) of a curve of `(step, finite loss)`; the first fifth is left out."""
    points = np.asarray(curve, np.float64)
    points = points[len(points) // 5 :]
    steps, losses = points[:, 0], np.minimum.accumulate(points[:, 1])
    found = []
    for power in POWERS:
        falling = np.column_stack([np.ones(len(steps)), steps**-power])
        (a, b), *_ = np.linalg.lstsq(falling, losses, rcond=None)
        if b < 0:
            a, b = float(losses.mean()), 0.0
        error = float(np.sqrt(np.mean((falling @ np.array([a, b]) - losses) ** 2)))
        found.append((error, float(a + b * step**-power)))
    error, reached = min(found)
    return min(reached, float(losses[-1])), error
