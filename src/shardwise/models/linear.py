"""Linear and logistic models by minibatch gradient descent over streamed float32 batches.

Own NumPy, because scikit-learn's `SGDClassifier` and `SGDRegressor` have no softmax, no Poisson loss and no pinball
loss, want one-hot columns written out, and step row by row in double precision. Predictions are summed column by column
in float64, so that a row gets the same bits alone and in a batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from shardwise.core.errors import PackageError
from shardwise.core.schema import Feature
from shardwise.core.state import dump_state, load_state
from shardwise.core.target import Target, Task
from shardwise.models.base import FitRun, Rows, Traits
from shardwise.models.baseline import best_constant
from shardwise.models.checks import check_counts, check_matrix, labels, not_fitted
from shardwise.models.design import Design, RowScores, shares
from shardwise.models.guard import Beginning
from shardwise.models.links import LINKS, link
from shardwise.models.params import check_range, parse_params
from shardwise.models.saved import Header, params_to_json
from shardwise.models.scaling import TargetScale
from shardwise.models.sgd import Descent, scores_of

WEIGHTS = "weights.bin"


@dataclass(frozen=True, kw_only=True)
class LinearParams:
    """Loss = mean weighted loss + l1 |W| + l2 / 2 |W|^2; the intercept is not penalised.

    `epochs` None: as many as give about 6 million row visits, 3 to 60. `batch_rows` is the minibatch. Categories with
    more than `onehot_limit` values are left out: their target encoding stands for them. `patience`: rounds (epochs,
    or million rows) without a better validation loss until the end.
    """

    l1: float = 1e-6
    l2: float = 1e-5
    learning_rate: float = 0.04
    epochs: int | None = None
    batch_rows: int = 256
    onehot_limit: int = 1024
    patience: int = 10

    def __post_init__(self) -> None:
        check_range(self, l1=(0.0, 1e6), l2=(0.0, 1e6), learning_rate=(1e-9, 10.0))
        check_range(self, batch_rows=(1, 1_048_576), onehot_limit=(0, 1_048_576), patience=(1, 1_000_000))
        if self.epochs is not None:
            check_range(self, epochs=(1, 1_000_000))


class Linear:
    """Logistic, multinomial, least squares, Poisson (log link) or quantile regression, with elastic net."""

    traits: ClassVar[Traits] = Traits(tasks=frozenset(Task), importance=True, parallel=True)

    def __init__(self, target: Target, features: Sequence[Feature], **params: Any) -> None:
        self.params = parse_params(LinearParams, "linear", params)
        self.target = target
        self.features = tuple(features)
        self._design = Design(self.features, self.params.onehot_limit)
        self._scale = TargetScale()
        self._weights: np.ndarray | None = (
            None  # float64 (columns of the design + 1, scores); the last is the intercept
        )
        self._row: RowScores | None = None

    def fit(self, train: Rows, valid: Rows | None, run: FitRun) -> None:
        """Descend until the validation loss stops falling; the best round's weights are kept.

        Raises `DataError` without rows, `TargetError` for negative counts.
        """
        y, weight = labels(train)
        check_counts(self.target, y)
        scaled = self.target.task in (Task.REGRESSION, Task.QUANTILE)
        self._scale = TargetScale.of(y) if scaled else TargetScale()
        constant = best_constant(self.target, self._scale.apply(y), weight)
        loss = LINKS[self.target.task](self.target, constant)
        mean_weight = 1.0 if weight is None else float(weight.mean(dtype=np.float64))
        begins = Beginning.of(self.target, y, weight, self._scale.invert(constant))
        del y, weight
        descent = Descent(
            self.params, self._design, loss, self._scale, mean_weight, answers=self._answer, begins=begins
        )
        try:
            descent.run(train, valid if valid is not None and valid.n_rows else None, run, self.target)
        finally:
            self._weights, self._row = descent.best, None

    def _answer(self, scores: np.ndarray, *_: object) -> np.ndarray:
        return self._scale.invert(link(self.target.task, scores))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Float64 `(rows, classes)` or `(rows,)` for X float32 `(rows, features)` of either memory order."""
        check_matrix(X, self.features)
        if self._weights is None:
            raise not_fitted("linear")
        if len(X) == 1:
            if self._row is None:
                self._row = self._design.for_rows(self._weights)
            return self._answer(self._row(X))
        return self._answer(scores_of(self._design, X, self._weights))

    def terms(self, X: np.ndarray) -> np.ndarray:
        """See `base.Additive`: weights times standardised numbers, weights of categories, the intercept."""
        check_matrix(X, self.features)
        if self._weights is None:
            raise not_fitted("linear")
        return self._design.terms(X, self._weights)

    def answers(self, scores: np.ndarray) -> np.ndarray:
        return self._answer(scores)

    def importance(self) -> Mapping[str, float]:
        """Share of each feature in the spread of the scores over the last training round."""
        if self._weights is None:
            return {}
        return shares(self.features, self._design.spread(self._weights))

    def save(self, folder: Path) -> None:
        """Weights as `core.state` beside `model.json`."""
        if self._weights is None:
            raise not_fitted("linear")
        extra = {"scale": self._scale.to_json()}
        Header("linear", self.target, self.features, params_to_json(self.params), extra).write(folder)
        (folder / WEIGHTS).write_bytes(dump_state({"weights": self._weights}))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises `PackageError` when the weights do not fit the features."""
        header = Header.read(folder, "linear")
        model = cls(header.target, header.features, **header.params)
        model._scale = TargetScale.from_json(header.extra["scale"])
        model._weights = load_state((folder / WEIGHTS).read_bytes())["weights"]
        expected = (model._design.width + 1, LINKS[header.target.task].scores(header.target))
        if model._weights.shape != expected:
            raise PackageError(f"weights of the shape {expected} are expected", path=str(folder))
        return model
