"""Pruners that look at the course of a trial: against the median of the others, or where its curve leads."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from shardwise.tune.pruners.base import on_rung
from shardwise.tune.trial import Trial

LEAST = 4  # trials on a rung from which there is a median
POINTS = 6  # of a curve, from which it can be extrapolated
POWERS = (0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
SURE = 2.0  # times the error of the fit that a trial is allowed

Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class MedianPruner:
    """Stops what is worse than the median of the trials on its rung (Golovin et al. 2017)."""

    prunes: bool = True

    def should_stop(self, trial: Trial, trials: Sequence[Trial]) -> bool:
        if trial.done or trial.failed:
            return True
        losses = on_rung(trial, trials)
        return len(losses) > LEAST and trial.loss > float(np.median(losses))

    def rivals(self, trial: Trial) -> Hashable | None:
        return trial.family

    def first_rung(self, number: int, rungs: int) -> int:  # noqa: ARG002 - the plug point
        return 0


@dataclass(frozen=True)
class _Course:
    """What a curve tells; `horizon` is the step at which a trial is taken to end."""

    curve: Curve
    horizon: float

    @cached_property
    def lowest(self) -> float:
        return min((loss for _, loss in self.curve if math.isfinite(loss)), default=math.inf)

    @cached_property
    def hope(self) -> float:
        """What it leads to at best; -inf where there are too few points."""
        points = [point for point in self.curve if math.isfinite(point[1])]
        if len(points) < POINTS:
            return -math.inf
        reached, error = extrapolated(points, max(self.horizon, 2.0 * points[-1][0]))
        return reached - SURE * error


@dataclass
class _Seen:
    """What was found of curves and of trials, which do not change: so it is not found again at each decision."""

    trials: Sequence[Trial] = ()
    lowest: Mapping[str, Sequence[tuple[float, int]]] = field(default_factory=dict)
    _courses: dict[int, _Course] = field(default_factory=dict)

    def course(self, curve: Curve, horizon: float) -> _Course:
        """A curve is known by its identity, which no other one gets while it is kept here."""
        return self._courses.setdefault(id(curve), _Course(curve, horizon))


@dataclass(frozen=True)
class CurvePruner:
    """Stops what will not reach the lowest point of the curves so far, by its own curve (Domhan et al. 2015).

        loss(t) = a + b t^-c, b >= 0        a, b by least squares for each c; t: steps in the unit of the rungs

    A trial has the benefit of twice the error of the fit, and no doubt is held against it where there are few points.
    """

    prunes: bool = True
    horizon: float = 40.0  # steps at which a trial is taken to end
    _seen: _Seen = field(default_factory=_Seen, repr=False, compare=False)

    def should_stop(self, trial: Trial, trials: Sequence[Trial]) -> bool:
        if trial.done or trial.failed:
            return True
        lowest = min((low for low, number in self._lowest(trial, trials) if number != trial.number), default=math.inf)
        return lowest < math.inf and self._seen.course(trial.curve, self.horizon).hope > lowest

    def _lowest(self, trial: Trial, trials: Sequence[Trial]) -> Sequence[tuple[float, int]]:
        """The two lowest of the trials of the same family: of their curves, as that of the trial is no score."""
        if not isinstance(trials, tuple) or trials is not self._seen.trials:
            found: dict[str, list[tuple[float, int]]] = {}
            for other in trials:
                low = self._seen.course(other.curve, self.horizon).lowest
                found[other.family] = sorted([*found.get(other.family, ()), (low, other.number)])[:2]
            self._seen.trials, self._seen.lowest = trials, found
        return self._seen.lowest.get(trial.family, ())

    def rivals(self, trial: Trial) -> Hashable | None:  # noqa: ARG002 - a curve may lead lower than a lower one
        return None

    def first_rung(self, number: int, rungs: int) -> int:  # noqa: ARG002
        return 0


def extrapolated(curve: Curve, step: float) -> tuple[float, float]:
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
