"""AdaBoost for classes: small trees in turn on rows whose weight grows where the earlier ones err, grown by LightGBM.

This is Gentle AdaBoost (Friedman, Hastie and Tibshirani 2000, "Additive logistic regression", algorithm 4), which
takes the Newton step of AdaBoost's exponential loss where Freund and Schapire's takes a vote; it is the steadier of the
two on noisy labels. Several classes are AdaBoost.MH (Schapire and Singer 1999): one for each class against the rest.
The loss has its least expectation at half the logit, hence the probability.

| symbol | meaning                                    |
|--------|--------------------------------------------|
| y      | +1 for the class, else -1                  |
| F      | sum of the trees, and half the prior logit |
| w      | exp(-y F), scaled to the mean 1            |
| f      | mean of y, weighted by w: a leaf           |
| p      | 1 / (1 + exp(-2 F))                        |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import lightgbm as lgb
import numpy as np

from shardwise.core.schema import Feature
from shardwise.core.target import Target, Task
from shardwise.data.rows_window import ALIGNED_ROWS
from shardwise.models.base import Traits
from shardwise.models.baseline import best_constant
from shardwise.models.grown import Grown
from shardwise.models.links import link
from shardwise.models.params import check_choice, check_range, parse_params
from shardwise.models.trees_loss import Joined, exact

TINY = 1e-6  # of a prior
_FARTHEST = 30.0  # of a row from the border: weights stay finite


@dataclass(frozen=True, kw_only=True)
class AdaBoostParams:
    """`n_estimators` is the most stages; boosting ends when `early_stopping_rounds + patience * best stage` of them
    brought nothing. A tree has at most `num_leaves` leaves (2: stumps); its answers are shrunk by `learning_rate`. The
    others are those of `trees`.
    """

    n_estimators: int = 2000
    learning_rate: float = 0.2
    num_leaves: int = 8
    max_depth: int = -1
    min_child_samples: int = 20
    subsample: float = 1.0
    reg_lambda: float = 0.0
    max_bin: int = 255
    categorical: str = "native"
    use_encoded: bool = True
    early_stopping_rounds: int = 20
    patience: float = 0.3

    def __post_init__(self) -> None:
        check_range(self, n_estimators=(1, 1_000_000), num_leaves=(2, 131_072), max_depth=(-1, 1000))
        check_range(self, min_child_samples=(1, 2**31 - 1), max_bin=(2, 65_535), early_stopping_rounds=(1, 1_000_000))
        check_range(self, learning_rate=(1e-6, 2.0), subsample=(1e-6, 1.0), reg_lambda=(0.0, 1e30), patience=(0.0, 1e6))
        check_choice(self, "use_encoded", (False, True))
        check_choice(self, "categorical", ("native", "ordinal"))


class Exponential:
    """The loss of AdaBoost."""

    family: ClassVar[str] = "adaboost"
    keeps_all: ClassVar[bool] = False
    columns: ClassVar[float] = 1.0

    def __init__(self, target: Target) -> None:
        self._target = target
        self.start: Sequence[float] = ()
        self._signs: np.ndarray | None = None
        self._weight: np.ndarray | None = None
        self._rows = 0
        self._joined: Joined = np.asarray  # as it is

    def settings(self) -> Mapping[str, Any]:
        return {"objective": "none", "metric": "None"}

    def begin(self, y: np.ndarray, weight: np.ndarray | None, own: slice, joined: Joined) -> None:
        share = best_constant(self._target, y, weight).clip(TINY, 1 - TINY)
        logits = np.log(share / (1 - share))
        if self._target.task is Task.BINARY:
            self.start, classes = logits[1:].tolist(), np.array([1])
        else:
            self.start, classes = logits.tolist(), np.arange(len(logits))
        self._signs = np.asfortranarray(np.where(y[own, None] == classes, np.int8(1), np.int8(-1)))
        self._weight = None if weight is None else (weight[own] / weight.mean(dtype=np.float64))[:, None]
        self._rows, self._joined = len(y), joined

    def gradients(self, scores: np.ndarray, dataset: lgb.Dataset) -> tuple[np.ndarray, np.ndarray]:  # noqa: ARG002
        assert self._signs is not None
        margin = (scores.reshape(len(scores), -1) + 0.5 * np.asarray(self.start)) * self._signs
        weight = np.exp(-margin.clip(-_FARTHEST, _FARTHEST))
        if self._weight is not None:
            weight *= self._weight
        blocks = np.add.reduceat(weight, range(0, len(weight), ALIGNED_ROWS), axis=0)
        weight = exact(weight * (self._rows / self._joined(blocks).sum(axis=0)))
        if weight.shape[1] == 1:
            return -(weight * self._signs)[:, 0], weight[:, 0]
        return -weight * self._signs, weight

    def factor(self, rounds: int) -> float:  # noqa: ARG002 - as the others
        return 2.0  # F is half a logit

    def answer(self, scores: np.ndarray) -> np.ndarray:
        if self._target.task is Task.BINARY:
            return link(Task.BINARY, scores)
        own = link(Task.BINARY, scores.reshape(-1, 1))[:, 1].reshape(scores.shape).clip(TINY**2, None)
        return np.asarray(own / own.sum(axis=1, keepdims=True))

    def end(self) -> None:
        """Free what only learning needs."""
        self._signs = self._weight = None


class AdaBoost(Grown):
    """Small trees of the exponential loss behind the `Model` interface."""

    family = "adaboost"
    traits: ClassVar[Traits] = Traits(
        tasks=frozenset({Task.BINARY, Task.MULTICLASS}), reads="bins", importance=True, parallel=True
    )

    def __init__(self, target: Target, features: Sequence[Feature], **params: Any) -> None:
        self.params = parse_params(AdaBoostParams, "adaboost", params)
        super().__init__(target, features, Exponential(target), vars(self.params))
