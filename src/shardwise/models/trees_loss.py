"""Losses of our own for trees that LightGBM grows: gradients from here, averages or sums of the trees as the answer."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import lightgbm as lgb
import numpy as np

from shardwise.core.target import Target
from shardwise.data.rows import BinnedRows
from shardwise.models.losses import task_loss
from shardwise.models.scaling import TargetScale
from shardwise.models.trees_soft import Update
from shardwise.models.trees_text import ModelText, scaled


class OwnLoss(Protocol):
    """What a family puts in the place of LightGBM's objective.

    The final scores are `start + factor(rounds) * (what the trees add up to)`, float64 `(rows, outputs)`.
    """

    family: ClassVar[str]
    keeps_all: ClassVar[bool]  # more trees are never worse: none is left out for the validation loss of a moment
    start: Sequence[float]  # one for each output, known after `begin`

    @property
    def columns(self) -> float:
        """Share of the columns that a split may choose from."""
        ...

    def settings(self) -> Mapping[str, Any]:
        """Params of the booster beside those of the trees."""
        ...

    def begin(self, y: np.ndarray, weight: np.ndarray | None) -> None:
        """Look at the labels of the training rows, on the scale of the model."""
        ...

    def gradients(self, scores: np.ndarray, dataset: lgb.Dataset) -> tuple[np.ndarray, np.ndarray]:
        """Gradient and hessian of each row by its scores so far, `(rows,)` or `(rows, outputs)`."""
        ...

    def end(self) -> None:
        """Free what only learning needs."""
        ...

    def factor(self, rounds: int) -> float: ...

    def answer(self, scores: np.ndarray) -> np.ndarray:
        """Predictions from final scores: `(rows, classes)` or, on the scale of the model, `(rows,)`."""
        ...


class OwnMetrics:
    """The task's loss on the validation rows, which is also what is watched; see `boosting.Look`."""

    def __init__(self, target: Target, scale: TargetScale, valid: BinnedRows, loss: OwnLoss) -> None:
        self._target, self._scale, self._loss = target, scale, loss
        self._y, self._weight = valid.target(), valid.weight()

    def __call__(self, booster: lgb.Booster) -> tuple[float, float]:
        factor = self._loss.factor(booster.current_iteration())

        def measure(sums: np.ndarray, _dataset: lgb.Dataset) -> tuple[str, float, bool]:
            scores = sums.reshape(len(self._y), -1) * factor + np.asarray(self._loss.start)
            prediction = self._scale.invert(self._loss.answer(scores))
            return "loss", task_loss(self._target, self._y, prediction, self._weight), False

        found = booster.eval_valid(measure)[0][2]
        return found, found


def own_update(loss: OwnLoss) -> Update:
    """How a booster gets a round more of the loss."""
    return lambda booster: bool(booster.update(fobj=loss.gradients))


def on_its_scale(text: ModelText, loss: OwnLoss, rounds: int) -> ModelText:
    """The model of so many rounds whose scores are the final ones."""
    return scaled(text, loss.factor(rounds), loss.start)
