"""What families that grow trees on a loss of their own have in common: all but the loss."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from shardwise.core.schema import Feature
from shardwise.core.target import Target
from shardwise.data.rows import BinnedRows
from shardwise.models.base import FitRun
from shardwise.models.saved import Header, params_to_json
from shardwise.models.trees import Trees
from shardwise.models.trees_loss import OwnLoss
from shardwise.models.trees_pair import LEAST_ROWS, fit_by_two
from shardwise.models.trees_params import TreesParams


class Grown:
    """Trees of a `loss`, grown with params of `trees`; `params` are the family's own."""

    family: ClassVar[str]
    params: Any

    def __init__(self, target: Target, features: Sequence[Feature], loss: OwnLoss, growth: Mapping[str, Any]) -> None:
        self.target = target
        self.features = tuple(features)
        self._trees = Trees(target, features, **growth)
        self._trees.loss = self._loss = loss

    @property
    def growth(self) -> TreesParams:
        """How the trees are grown."""
        return self._trees.params

    @property
    def rounds(self) -> int:
        """Trees of each output that were kept."""
        return self._trees.rounds

    def fit(self, train: BinnedRows, valid: BinnedRows | None, run: FitRun) -> None:
        """Grow until the validation loss stops falling; without validation rows, `n_estimators` rounds.

        Raises `DataError` without rows, `TargetError` for targets that the task cannot have.
        """
        try:
            if self._by_two(train, run):
                other = type(self)(self.target, self.features, **vars(self.params))
                fit_by_two((self._trees.fit, other._trees.fit), train, valid, run)
            else:
                self._trees.fit(train, valid, run)
        finally:
            self._loss.end()

    def _by_two(self, train: BinnedRows, run: FitRun) -> bool:
        """Whether trees are to be those of several members, though there is one: see `trees_pair`."""
        alone = run.member is None or run.member.size == 1
        enough = self.growth.subsample * train.n_rows >= LEAST_ROWS
        return alone and enough and (run.slices > 1 or self.growth.extra_trees)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Float64 `(rows, classes)` or `(rows,)` for X float32 `(rows, features)` of either memory order."""
        return self._trees.predict(X)

    def terms(self, X: np.ndarray) -> np.ndarray:
        """See `base.Additive`."""
        return self._trees.terms(X)

    def answers(self, scores: np.ndarray) -> np.ndarray:
        return self._trees.answers(scores)

    def importance(self) -> Mapping[str, float]:
        """Share of each feature in the gain of all splits; empty when nothing was split."""
        return self._trees.importance()

    def save(self, folder: Path) -> None:
        """LightGBM's text model beside `model.json`."""
        self._trees.write(folder, self.family, params_to_json(self.params))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises `PackageError` when the model is not as it was saved; LightGBM itself does not survive that."""
        header = Header.read(folder, cls.family)
        model = cls(header.target, header.features, **header.params)
        model._trees.read(folder, header)
        return model
