"""Support vector machines by minibatch gradient descent: linear, or with a Gaussian kernel by random Fourier features.

The descent is that of `linear`, on hinge losses (`hinge.py`). Several classes are one against the rest each. Scores
become probabilities by one curve (Platt 1999), fitted on the validation rows, as the number of rounds is; without them
on the training rows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from shardwise.core.errors import PackageError
from shardwise.core.schema import Feature
from shardwise.core.state import dump_state, load_state
from shardwise.core.target import Target, Task
from shardwise.data.chunk import thinned
from shardwise.models.base import FitRun, Rows, Traits
from shardwise.models.baseline import best_constant
from shardwise.models.checks import check_matrix, labels, not_fitted
from shardwise.models.design import Design, shares
from shardwise.models.guard import Beginning
from shardwise.models.hinge import CLASS_LOSSES, NUMBER_LOSSES, Hinge, Insensitive, Sigmoid
from shardwise.models.kernel import Directions, KernelDesign, categories
from shardwise.models.params import check_choice, check_range, parse_params
from shardwise.models.saved import Header, params_to_json
from shardwise.models.scaling import TargetScale
from shardwise.models.sgd import Descent, Loss, scores_of

CURVE_ROWS = 2**16  # from which the curve of the probabilities is learned, at most
WEIGHTS = "weights.bin"


@dataclass(frozen=True, kw_only=True)
class SVMParams:
    """Loss = mean weighted hinge loss + l1 |W| + l2 / 2 |W|^2; in scikit-learn's terms C = 1 / (rows l2).

    `loss` None: the squared one of the task. `epsilon`: of numbers, in standard deviations of the target. `kernel`:
    `linear`, or `rbf` with `n_components` random features and exp(-gamma |x - x'|^2 / inputs). The others are those of
    `linear`.
    """

    kernel: str = "linear"
    gamma: float = 0.5
    n_components: int = 1024
    loss: str | None = None
    epsilon: float = 0.05
    l1: float = 0.0
    l2: float = 1e-5
    learning_rate: float = 0.02
    epochs: int | None = None
    batch_rows: int = 256
    onehot_limit: int = 1024
    patience: int = 10

    def __post_init__(self) -> None:
        check_choice(self, "kernel", ("linear", "rbf"))
        check_range(self, gamma=(1e-9, 1e9), n_components=(1, 65_536), epsilon=(0.0, 1e6))
        check_range(self, l1=(0.0, 1e6), l2=(0.0, 1e6), learning_rate=(1e-9, 10.0))
        check_range(self, batch_rows=(1, 1_048_576), onehot_limit=(0, 1_048_576), patience=(1, 1_000_000))
        if self.epochs is not None:
            check_range(self, epochs=(1, 1_000_000))


class SVM:
    """Linear or kernel support vector classification and regression behind the `Model` interface."""

    traits: ClassVar[Traits] = Traits(
        tasks=frozenset({Task.BINARY, Task.MULTICLASS, Task.REGRESSION}), importance=True, parallel=True
    )

    def __init__(self, target: Target, features: Sequence[Feature], **params: Any) -> None:
        self.params = parse_params(SVMParams, "svm", params)
        allowed = CLASS_LOSSES if target.task.is_classification else NUMBER_LOSSES
        check_choice(self.params, "loss", (None, *allowed))
        self._squared = self.params.loss in (None, allowed[0])
        self.target = target
        self.features = tuple(features)
        self._linear = Design(self.features, self.params.onehot_limit)
        self._directions: Directions | None = None
        self._scale = TargetScale()
        self._curve = Sigmoid()
        self._weights: np.ndarray | None = None  # float64 (columns + 1, scores); the last is the intercept
        self._row: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def _design(self) -> Design | KernelDesign:
        return self._linear if self._directions is None else KernelDesign(self._linear, self._directions)

    def fit(self, train: Rows, valid: Rows | None, run: FitRun) -> None:
        """Descend until the validation loss stops falling; the best round's weights are kept.

        Raises `DataError` without rows.
        """
        y, weight = labels(train)
        self._scale = TargetScale() if self.target.task.is_classification else TargetScale.of(y)
        constant = best_constant(self.target, self._scale.apply(y), weight)
        loss = self._loss(constant)
        mean_weight = 1.0 if weight is None else float(weight.mean(dtype=np.float64))
        begins = Beginning.of(self.target, y, weight, self._scale.invert(constant))
        del y, weight
        self._directions = self._drawn(run.seed)
        valid = valid if valid is not None and valid.n_rows else None
        descent = Descent(
            self.params, self._design, loss, self._scale, mean_weight, answers=self._answers, begins=begins
        )
        try:
            descent.run(train, valid, run, self.target)
        finally:
            self._weights, self._row = descent.best, None
            if self.target.task.is_classification:
                self._curve = self._curve_on(train if valid is None else valid)

    def _loss(self, constant: np.ndarray) -> Loss:
        if self.target.task.is_classification:
            return Hinge.of(self.target, self._squared, constant)
        return Insensitive(self.params.epsilon, self._squared, constant)

    def _drawn(self, seed: int) -> Directions | None:
        if self.params.kernel == "linear" or not self.features:
            return None
        coded = categories(self._linear)
        inputs = self._linear.numbers + len(coded)
        return Directions.draw(
            seed, self._linear.numbers, sum(category.values for category in coded),
            components=self.params.n_components, gamma=self.params.gamma / max(1, inputs),
        )  # fmt: skip

    def _answers(self, scores: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
        """Predictions by the curve that fits these rows, which are those of the validation."""
        if self.target.task.is_classification:
            self._curve = self._fitted(scores, y, weight)
        return self._answer(scores)

    def _answer(self, scores: np.ndarray) -> np.ndarray:
        if self.target.task.is_classification:
            return self._curve(self.target.task, scores)
        return self._scale.invert(scores[:, 0])

    def _fitted(self, scores: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> Sigmoid:
        some = slice(None, None, -(-len(y) // CURVE_ROWS))
        return Sigmoid.fit(self.target.task, scores[some], y[some], None if weight is None else weight[some])

    def _curve_on(self, rows: Rows) -> Sigmoid:
        """The curve for the weights as they are."""
        stride, design = -(-rows.n_rows // CURVE_ROWS), self._design
        assert self._weights is not None
        some = list(thinned(rows.chunks(), stride))
        scores = np.concatenate([design.scores(part.X, self._weights) for part in some])
        weight = [part.weight for part in some if part.weight is not None]
        y = np.concatenate([part.y for part in some])
        return self._fitted(scores, y, np.concatenate(weight) if weight else None)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Float64 `(rows, classes)` or `(rows,)` for X float32 `(rows, features)` of either memory order."""
        check_matrix(X, self.features)
        if self._weights is None:
            raise not_fitted("svm")
        if len(X) == 1:
            self._row = self._row or self._design.for_rows(self._weights)
            return self._answer(self._row(X))
        return self._answer(scores_of(self._design, X, self._weights))

    def importance(self) -> Mapping[str, float]:
        """Share of each feature in the spread of the scores; with a kernel in how fast they change along it, about."""
        if self._weights is None:
            return {}
        return shares(self.features, self._design.spread(self._weights))

    def save(self, folder: Path) -> None:
        """Weights and directions as `core.state` beside `model.json`."""
        if self._weights is None:
            raise not_fitted("svm")
        extra = {"scale": self._scale.to_json(), "slope": self._curve.slope, "shift": self._curve.shift}
        Header("svm", self.target, self.features, params_to_json(self.params), extra).write(folder)
        drawn = None if self._directions is None else vars(self._directions)
        (folder / WEIGHTS).write_bytes(dump_state({"weights": self._weights, "directions": drawn}))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises `PackageError` when the weights do not fit the features."""
        header = Header.read(folder, "svm")
        model = cls(header.target, header.features, **header.params)
        model._scale = TargetScale.from_json(header.extra["scale"])
        model._curve = Sigmoid(header.extra["slope"], header.extra["shift"])
        state = load_state((folder / WEIGHTS).read_bytes())
        model._weights = state["weights"]
        if state["directions"] is not None:
            model._directions = Directions(**state["directions"])
        scores = header.target.outputs if header.target.task is Task.MULTICLASS else 1
        expected = (model._design.width + 1, scores)
        if model._weights.shape != expected:
            raise PackageError(f"weights of the shape {expected} are expected", path=str(folder))
        return model
