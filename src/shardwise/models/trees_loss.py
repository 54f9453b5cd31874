"""Losses of our own for trees that LightGBM grows: gradients from here, averages or sums of the trees as the answer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import lightgbm as lgb
import numpy as np

from shardwise.core.target import Target
from shardwise.data.rows import BinnedRows
from shardwise.models.boosting import Joint, own_name, rounded, weight_of
from shardwise.models.losses import task_loss
from shardwise.models.scaling import TargetScale
from shardwise.models.trees_soft import Update
from shardwise.models.trees_text import ModelText, scaled

EXACT = 2.0**22
Joined = Callable[[np.ndarray], np.ndarray]  # what all members have found for their rows, one after the other


def exact(values: np.ndarray) -> np.ndarray:
    """Whole multiples of 1 / `EXACT`, float32.

    Of up to 2^31 rows, whose mean size is about 1, LightGBM's sums in float64 are exact then: the same in any order,
    whoever adds up which rows.
    """
    return np.asarray(np.rint(values * EXACT) / EXACT, np.float32)


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

    def begin(self, y: np.ndarray, weight: np.ndarray | None, own: slice, joined: Joined) -> None:
        """Look at the labels of all training rows, on the scale of the model; gradients are those of the `own` ones."""
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

    def __init__(self, target: Target, scale: TargetScale, valid: BinnedRows, loss: OwnLoss, joint: Joint) -> None:
        self._target, self._scale, self._loss, self._joint = target, scale, loss, joint
        self._y, self._weight = valid.target(), valid.weight()
        self._name, self._total = own_name(target.task), weight_of(valid)

    def __call__(self, booster: lgb.Booster) -> tuple[float, float]:
        factor = self._loss.factor(booster.current_iteration())

        def measure(sums: np.ndarray, _dataset: lgb.Dataset) -> tuple[str, float, bool]:
            scores = sums.reshape(len(self._y), -1) * factor + np.asarray(self._loss.start)
            prediction = self._scale.invert(self._loss.answer(scores))
            return self._name, task_loss(self._target, self._y, prediction, self._weight), False

        mean = booster.eval_valid(measure)[0][2]
        found = rounded(self._joint({self._name: mean}, self._total)[self._name])
        return found, found


def own_update(loss: OwnLoss) -> Update:
    """How a booster gets a round more of the loss."""
    return lambda booster: bool(booster.update(fobj=loss.gradients))


def on_its_scale(text: ModelText, loss: OwnLoss, rounds: int) -> ModelText:
    """The model of so many rounds whose scores are the final ones."""
    return scaled(text, loss.factor(rounds), loss.start)
