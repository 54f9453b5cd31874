"""Watches the validation loss of a fit for one that can still be helped: it diverges, or is not finite any more."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from shardwise.core.target import Target
from shardwise.models.baseline import best_constant, repeated
from shardwise.models.losses import task_error, task_loss
from shardwise.stats.anomalies import WORSE_ROUNDS, Anomaly, divergence

LEAST_ROWS = 50  # of fewer validation rows the constant's loss is chance
LOWERED = 4  # how often a learning rate is lowered, at most
LOWER = 0.1  # by this factor


@dataclass(frozen=True)
class Beginning:
    """The constant that fits the training rows best, float64 `(outputs,)`, with which learners begin, and its loss on
    these rows."""

    constant: np.ndarray
    loss: float

    @classmethod
    def of(cls, target: Target, y: np.ndarray, weight: np.ndarray | None, constant: np.ndarray) -> Self:
        """For training rows with these targets and weights, `(rows,)`."""
        return cls(constant, task_loss(target, y, repeated(target, constant, len(y)), weight))


@dataclass(frozen=True)
class Guard:
    """What losses on some validation rows are judged by: the loss of the constant that fits these rows best, or of the
    one with which training begins where it is larger, as of a target that drifts.

    `error`: the standard error of that loss; where single rounds do not count, nobody asks for it. `learned`: the loss
    of a constant on the training rows.
    """

    start: float
    unit: float
    worse_rounds: int | None = WORSE_ROUNDS
    error: float = 0.0
    learned: float = 0.0

    @classmethod
    def of(
        cls, target: Target, y: np.ndarray, weight: np.ndarray | None, *, begins: Beginning | None = None,
        worse_rounds: int | None = WORSE_ROUNDS,
    ) -> Self:  # fmt: skip
        """For validation rows with these targets and weights, `(rows,)`."""
        known = ~np.isnan(y) & ((weight if weight is not None else 1) > 0)
        if known.sum() < LEAST_ROWS:
            return cls(0.0, 0.0, worse_rounds)
        y, weight = y[known], None if weight is None else weight[known]
        answers = repeated(target, best_constant(target, y, weight), len(y))
        start, learned = task_loss(target, y, answers, weight), 0.0
        if begins is not None:
            learned, begun = begins.loss, repeated(target, begins.constant, len(y))
            if start < (loss := task_loss(target, y, begun, weight)) < math.inf:
                start, answers = loss, begun
        error = 0.0 if worse_rounds is None else task_error(target, y, answers, weight)
        return cls(start, 1.0 if target.task.is_classification else 0.0, worse_rounds, error, learned)

    def is_better(self, loss: float) -> bool:
        """Whether weights with this loss are worth going back to: a constant is worse."""
        return math.isfinite(loss) and not 0 < self.start <= loss

    def stops(self, losses: Sequence[float], notice: Callable[[Anomaly], None]) -> bool:
        """For learners without a way back: whether the last loss ends training; told, if so."""
        anomaly = self.judge(losses)
        if anomaly is not None:
            notice(replace(anomaly, action="Training ended with the best step before."))
        return anomaly is not None

    @staticmethod
    def lowered(anomaly: Anomaly, rate: float, lowered: int) -> Anomaly:
        """The anomaly with what is done about it: the learning rate `rate`, which was lowered so often before, is
        lowered once more, or training ends."""
        rates = {"learning_rate": rate * LOWER**lowered}
        if lowered >= LOWERED:
            action = "The learning rate was lowered often enough: training ends with the best step."
        else:
            rates["learning_rate_now"] = rate * LOWER ** (lowered + 1)
            action = (
                f"Training goes on from the best weights with the learning rate {rates['learning_rate_now']:.2g} "
                f"in the place of {rates['learning_rate']:.2g}."
            )
        return replace(anomaly, action=action, evidence={**anomaly.evidence, **rates})

    def judge(self, losses: Sequence[float], since: int = 0) -> Anomaly | None:
        """What is wrong with the last of the losses; training began again after `since` of them."""
        return divergence(
            losses, self.start, self.unit, error=self.error, learned=self.learned, worse_rounds=self.worse_rounds,
            since=since,
        )  # fmt: skip
