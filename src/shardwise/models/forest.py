"""Random forests and extremely randomised trees, grown by LightGBM on binned rows.

A tree of a forest (Breiman 2001) splits where the impurity falls most, on a part of the rows and at each split a part
of the columns, and answers with the mean target of a leaf. That is a boosting round that looks at no round before it:
with the gradient c - y and the hessian 1 the gain of a split is the fall of the squared error, which for classes is
half of Gini's impurity, and a leaf's value is its mean less c, drawn to 0 by `reg_lambda` rows that are like all
others. The forest is c plus the mean of its trees. LightGBM's own `boosting=rf` takes one Newton step of the task's
loss instead, whose logits are no means of probabilities (docs/decisions/0024-forests-adaboost-svm.md).

Where scikit-learn draws rows with replacement, here each tree gets `subsample` of them without: as good (Friedman and
Hall 2007), and a tree costs less. Several classes are one tree each. `extra_trees` is LightGBM's: a random threshold
among all values of a column, where Geurts et al. (2006) draw among those of the node; it ends branches early. They are
grown by two of LightGBM's machines, as its serial learner would give up columns for whole branches (`trees_pair`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import lightgbm as lgb
import numpy as np

from shardwise.core.schema import Feature
from shardwise.core.target import Target, Task
from shardwise.models.base import Traits
from shardwise.models.baseline import best_constant
from shardwise.models.grown import Grown
from shardwise.models.params import check_choice, check_range, parse_params
from shardwise.models.trees_loss import Joined, exact

HISTOGRAMS_MB = 256.0  # that LightGBM keeps: all leaves of a large tree would take more
LEAST = 1e-9  # of a probability or a mean count: losses stay finite


@dataclass(frozen=True, kw_only=True)
class ForestParams:
    """`n_estimators` is the most trees; growing ends when `early_stopping_rounds` of them brought hardly anything.

    A tree has at most `num_leaves` leaves of `min_child_samples` rows or more. `subsample`: share of the rows for a
    tree. `max_features`: share of the columns for a split, None for the square root of their number where two classes
    are learned, else a half of them, and all with `extra_trees`: one random threshold for each column. `reg_lambda`:
    as so many more rows in each leaf that are like all rows. The others are those of `trees`.
    """

    n_estimators: int = 300
    num_leaves: int = 1024
    max_depth: int = -1
    min_child_samples: int = 1
    subsample: float = 0.632
    max_features: float | None = None
    extra_trees: bool = False
    reg_lambda: float = 0.1
    max_bin: int = 255
    categorical: str = "ordinal"
    use_encoded: bool = True
    early_stopping_rounds: int = 100

    def __post_init__(self) -> None:
        check_range(self, n_estimators=(1, 1_000_000), num_leaves=(2, 131_072), max_depth=(-1, 1000))
        check_range(self, min_child_samples=(1, 2**31 - 1), max_bin=(2, 65_535), early_stopping_rounds=(1, 1_000_000))
        check_range(self, subsample=(1e-6, 1.0), reg_lambda=(0.0, 1e30))
        if self.max_features is not None:
            check_range(self, max_features=(1e-6, 1.0))
        check_choice(self, "extra_trees", (False, True))
        check_choice(self, "use_encoded", (False, True))
        check_choice(self, "categorical", ("native", "ordinal"))


class Means:
    """The loss of a forest: each tree fits the same targets."""

    family: ClassVar[str] = "forest"
    keeps_all: ClassVar[bool] = True

    def __init__(self, target: Target, columns: float) -> None:
        self._target, self._columns = target, columns
        self.start: Sequence[float] = ()
        self._given: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def columns(self) -> float:
        return self._columns

    def settings(self) -> Mapping[str, Any]:
        return {
            "objective": "none", "metric": "None", "feature_fraction_bynode": self._columns,
            "histogram_pool_size": HISTOGRAMS_MB,
        }  # fmt: skip

    def begin(self, y: np.ndarray, weight: np.ndarray | None, own: slice, joined: Joined) -> None:  # noqa: ARG002
        constant = best_constant(self._target, y, weight)
        if self._target.task is Task.BINARY:
            constant = constant[1:]
        self.start = exact(constant).tolist()
        mean_weight = 1.0 if weight is None else weight.mean(dtype=np.float64)
        y = y[own]
        hessian = exact(np.ones(len(y)) if weight is None else weight[own] / mean_weight)
        gradient = np.empty((len(y), len(constant)), np.float32, order="F")
        for k, mean in enumerate(self.start):
            gradient[:, k] = exact((mean - (y == k if self._target.task is Task.MULTICLASS else y)) * hessian)
        wide = np.broadcast_to(hessian[:, None], gradient.shape)
        self._given = (gradient, np.asfortranarray(wide)) if gradient.shape[1] > 1 else (gradient[:, 0], wide[:, 0])

    def gradients(self, scores: np.ndarray, dataset: lgb.Dataset) -> tuple[np.ndarray, np.ndarray]:  # noqa: ARG002
        assert self._given is not None
        return self._given

    def factor(self, rounds: int) -> float:
        return 1.0 / max(rounds, 1)

    def answer(self, scores: np.ndarray) -> np.ndarray:
        task = self._target.task
        if task is Task.BINARY:
            positive = scores[:, 0].clip(0.0, 1.0)
            return np.column_stack([1.0 - positive, positive])
        if task is Task.MULTICLASS:
            shares = scores.clip(LEAST, 1.0)
            return np.asarray(shares / shares.sum(axis=1, keepdims=True))
        return scores[:, 0].clip(LEAST, None) if task is Task.COUNT else scores[:, 0]

    def end(self) -> None:
        """Free what only learning needs."""
        self._given = None


class Forest(Grown):
    """Bagged trees behind the `Model` interface."""

    family = "forest"
    traits: ClassVar[Traits] = Traits(
        tasks=frozenset(Task) - {Task.QUANTILE}, reads="bins", importance=True, parallel=True
    )

    def __init__(self, target: Target, features: Sequence[Feature], **params: Any) -> None:
        self.params = parse_params(ForestParams, "forest", params)
        growth = {name: value for name, value in vars(self.params).items() if name != "max_features"}
        usual = 1.0 if self.params.extra_trees else usual_share(target.task, features)
        loss = Means(target, self.params.max_features or usual)
        # no later tree makes up for what draws leaves below a categorical split to 0
        super().__init__(target, features, loss, {**growth, "learning_rate": 1.0, "patience": 0.0, "cat_l2": 0.0})


def usual_share(task: Task, features: Sequence[Feature]) -> float:
    """Share of the columns that a split chooses from when nothing is said."""
    if task is not Task.BINARY or not features:
        return 0.5
    return min(1.0, math.ceil(math.sqrt(len(features))) / len(features))
