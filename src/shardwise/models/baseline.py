"""The constant that fits best: what every other model has to beat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from shardwise.core.errors import PackageError
from shardwise.core.schema import Feature
from shardwise.core.target import Target, Task
from shardwise.models.base import FitRun, Rows, Traits
from shardwise.models.checks import check_matrix, labels, not_fitted
from shardwise.models.links import constant_terms, link
from shardwise.models.losses import task_loss
from shardwise.models.params import parse_params
from shardwise.models.saved import Header


@dataclass(frozen=True, kw_only=True)
class BaselineParams:
    """There are none."""


class Baseline:
    """Predicts the class shares, the mean, or the quantile of the (weighted) training rows."""

    traits: ClassVar[Traits] = Traits(tasks=frozenset(Task))

    def __init__(self, target: Target, features: Sequence[Feature], **params: Any) -> None:
        parse_params(BaselineParams, "baseline", params)
        self.target = target
        self.features = tuple(features)
        self.constant: np.ndarray | None = None  # float64 (outputs,)

    def fit(self, train: Rows, valid: Rows | None, run: FitRun) -> None:
        """Raises `DataError` when there is nothing to learn from."""
        y, weight = labels(train)
        self.constant = best_constant(self.target, y, weight)
        if valid is not None and valid.n_rows:
            prediction = self._repeat(valid.n_rows)
            run.report(1, task_loss(self.target, valid.target(), prediction, valid.weight()))

    def predict(self, X: np.ndarray) -> np.ndarray:
        check_matrix(X, self.features)
        return self._repeat(len(X))

    def terms(self, X: np.ndarray) -> np.ndarray:
        """See `base.Additive`: no feature has a part in it."""
        return constant_terms(self.target.task, self.predict(X), len(self.features))

    def answers(self, scores: np.ndarray) -> np.ndarray:
        return link(self.target.task, scores)

    def _repeat(self, n_rows: int) -> np.ndarray:
        if self.constant is None:
            raise not_fitted("baseline")
        return np.array(repeated(self.target, self.constant, n_rows))

    def importance(self) -> Mapping[str, float]:
        return {}

    def save(self, folder: Path) -> None:
        if self.constant is None:
            raise not_fitted("baseline")
        Header("baseline", self.target, self.features, {}, {"constant": self.constant.tolist()}).write(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        header = Header.read(folder, "baseline")
        model = cls(header.target, header.features)
        model.constant = np.array(header.extra["constant"], dtype=np.float64)
        if model.constant.shape != (header.target.outputs,):
            raise PackageError("the saved constant does not fit the target", path=str(folder))
        return model


def best_constant(target: Target, y: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """The constant with the least loss, float64 `(outputs,)`.

    >>> best_constant(Target(column="y", task=Task.BINARY, classes=(0, 1)), np.array([0.0, 0.0, 0.0, 1.0]), None)
    array([0.75, 0.25])
    """
    weight = np.ones(len(y)) if weight is None else weight.astype(np.float64)
    if target.task.is_classification:
        counts = np.bincount(y.astype(np.intp), weights=weight, minlength=target.outputs)
        return np.asarray(counts / counts.sum())
    if target.task is Task.QUANTILE:
        return np.array([weighted_quantile(y, weight, target.quantile)])
    return np.array([np.average(y, weights=weight)])


def repeated(target: Target, constant: np.ndarray, n_rows: int) -> np.ndarray:
    """A constant as predictions of so many rows, `(rows, classes)` or `(rows,)`, read-only."""
    return np.broadcast_to(constant, (n_rows, len(constant)) if target.task.is_classification else (n_rows,))


def weighted_quantile(values: np.ndarray, weight: np.ndarray, quantile: float) -> float:
    """The smallest value with at least this share of the weight at or below it.

    >>> weighted_quantile(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 8.0]), 0.5)
    2.0
    """
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(weight[order])
    place = int(np.searchsorted(cumulated, quantile * cumulated[-1] * (1 - 1e-12)))
    return float(values[order[min(place, len(order) - 1)]])
