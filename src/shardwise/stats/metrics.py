"""Metrics under scikit-learn's names, computed from sums or from sorted scores, so that they merge and resample.

`compute(y, prediction, weight)` equals `sklearn.metrics` where that is defined. Rows without a label (NaN) or without
weight do not count. Where a metric is not defined (no rows, one class only for `roc_auc`, a prediction that is NaN) the
value is NaN; nothing warns and nothing raises.

Predictions are float64: of classifiers probabilities `(rows, classes)`, or for two classes also `(rows,)` of the
positive class (index 1); of all others `(rows,)`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest
from shardwise.core.target import Target, Task
from shardwise.stats import terms
from shardwise.stats.terms import Finish, Tally, Terms, positive

BLOCK_ROWS = 65_536
BLOCK_CELLS = 2**22  # rows x classes


@dataclass(frozen=True)
class Pairs:
    """Labels y `(rows,)`, predictions `(rows,)` or `(rows, classes)` and weights `(rows,)`, all float64."""

    y: np.ndarray
    prediction: np.ndarray
    weight: np.ndarray

    @classmethod
    def labelled(cls, y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None = None) -> "Pairs":
        """The rows that count: those with a label, and with a weight above 0."""
        y, prediction = np.asarray(y, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
        weight = np.ones(len(y)) if weight is None else np.asarray(weight, dtype=np.float64)
        pairs = cls(y, prediction, weight)
        counts = ~np.isnan(y) & (weight > 0)
        return pairs if counts.all() else pairs.take(counts)

    def take(self, rows: np.ndarray | slice) -> "Pairs":
        return Pairs(self.y[rows], self.prediction[rows], self.weight[rows])

    @property
    def score(self) -> np.ndarray:
        """Scores `(rows,)` of the positive class of two."""
        return positive(self.prediction)

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number for how well predictions fit. `greater_is_better` says which way to look."""

    name: str
    tasks: frozenset[Task]
    greater_is_better: bool

    def compute(
        self, y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None = None, *, quantile: float = 0.5
    ) -> float:
        """The value for y `(rows,)` and prediction `(rows,)` or `(rows, classes)`; `quantile` is the task's own."""
        return self.of(Pairs.labelled(y, prediction, weight), quantile)

    def of(self, pairs: Pairs, quantile: float = 0.5) -> float:
        """As `compute`, of rows that all count."""
        if not len(pairs) or np.isnan(pairs.prediction).any():
            return float("nan")
        with np.errstate(all="ignore"):
            return self._value(pairs, quantile)

    def _value(self, pairs: Pairs, quantile: float) -> float:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Additive(Metric):
    """A function of weighted sums: `finish(sum over rows of weight * terms(row))`.

    `terms` gives `(rows, sums)`, `finish` takes `(..., sums)`; `tally(y, prediction, weight)` the sums without the
    terms, where there is a quicker way; `centred` metrics do not change when one number is taken from labels and
    predictions, which keeps squares exact.
    """

    terms: Terms
    finish: Finish
    tally: Tally | None = None
    centred: bool = False

    def _value(self, pairs: Pairs, quantile: float) -> float:
        return float(self.finish(self.sums(self.centre(pairs), quantile)))

    def centre(self, pairs: Pairs) -> Pairs:
        """The pairs with the mean label taken off, where that changes nothing."""
        if not self.centred:
            return pairs
        middle = np.average(pairs.y, weights=pairs.weight)
        return Pairs(pairs.y - middle, pairs.prediction - middle, pairs.weight)

    def weighted(self, pairs: Pairs, quantile: float) -> Iterator[np.ndarray]:
        """Weighted terms `(rows, sums)` of one block of rows after the other."""
        rows = max(256, min(BLOCK_ROWS, BLOCK_CELLS // max(1, pairs.prediction[:1].size)))
        for start in range(0, len(pairs), rows):
            block = pairs.take(slice(start, start + rows))
            yield self.terms(block.y, block.prediction, quantile) * block.weight[:, None]

    def sums(self, pairs: Pairs, quantile: float = 0.5) -> np.ndarray:
        """Weighted sums of the terms, `(sums,)`; those of several pieces add up."""
        if self.tally is not None:
            return self.tally(pairs.y, pairs.prediction, pairs.weight)
        return np.asarray(np.sum([block.sum(axis=0) for block in self.weighted(pairs, quantile)], axis=0))


@dataclass(frozen=True, kw_only=True)
class Ranked(Metric):
    """A function of how the positives rank among the scores.

    `curve` takes the weights `(..., scores)` of positives and of negatives with each score, best score first.
    """

    curve: Callable[[np.ndarray, np.ndarray], np.ndarray]

    def _value(self, pairs: Pairs, quantile: float) -> float:  # noqa: ARG002
        return float(self.curve(*score_cells(pairs.y > 0.5, pairs.score, pairs.weight)))


@dataclass(frozen=True, kw_only=True)
class OneVsRest(Metric):
    """Mean over the classes of a ranked metric of the class against all others; classes without rows do not count."""

    ranked: Ranked

    def _value(self, pairs: Pairs, quantile: float) -> float:  # noqa: ARG002
        scores = pairs.prediction.T
        cells = (score_cells(pairs.y == k, score, pairs.weight) for k, score in enumerate(scores))
        return mean_defined(np.array([self.ranked.curve(*cell) for cell in cells]))


def mean_defined(values: np.ndarray) -> float:
    """Mean of what is not NaN; NaN when nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def score_cells(positive: np.ndarray, score: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of the positives and of the negatives with each distinct score, best score first."""
    order = np.argsort(-score, kind="stable")
    ranked, hit, mass = score[order], positive[order], weight[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    return np.add.reduceat(mass * hit, starts), np.add.reduceat(mass * ~hit, starts)


_BINARY = frozenset({Task.BINARY})
_CLASSES = frozenset({Task.BINARY, Task.MULTICLASS})
_MULTICLASS = frozenset({Task.MULTICLASS})
_NUMBERS = frozenset({Task.REGRESSION, Task.COUNT})
_AUC = Ranked(name="roc_auc", tasks=_BINARY, greater_is_better=True, curve=terms.roc_auc)


def _additive(name: str, tasks: frozenset[Task], of_rows: Terms, finish: Finish, better: bool) -> Additive:
    return Additive(
        name=name, tasks=tasks, greater_is_better=better, terms=of_rows, finish=finish, centred=name == "r2",
        tally=terms.tally if of_rows is terms.confusion else None,
    )  # fmt: skip


_ALL: tuple[Metric, ...] = (
    _AUC,
    _additive("log_loss", _CLASSES, terms.mean_of(terms.log_loss), terms.mean, False),
    _additive("accuracy", _CLASSES, terms.mean_of(terms.hit), terms.mean, True),
    _additive("balanced_accuracy", _CLASSES, terms.confusion, terms.balanced_accuracy, True),
    _additive("f1", _BINARY, terms.confusion, terms.f1, True),
    Ranked(name="average_precision", tasks=_BINARY, greater_is_better=True, curve=terms.average_precision),
    _additive("brier_score", _BINARY, terms.mean_of(terms.brier), terms.mean, False),
    _additive("f1_macro", _MULTICLASS, terms.confusion, terms.f1_macro, True),
    OneVsRest(name="roc_auc_ovr", tasks=_MULTICLASS, greater_is_better=True, ranked=_AUC),
    _additive("mean_poisson_deviance", frozenset({Task.COUNT}), terms.mean_of(terms.poisson), terms.mean, False),
    _additive("mean_pinball_loss", frozenset({Task.QUANTILE}), terms.mean_of(terms.pinball), terms.mean, False),
    _additive("coverage", frozenset({Task.QUANTILE}), terms.mean_of(terms.covered), terms.mean, True),
    _additive("rmse", _NUMBERS, terms.mean_of(terms.square), terms.rmse, False),
    _additive("mae", _NUMBERS | {Task.QUANTILE}, terms.mean_of(terms.absolute), terms.mean, False),
    _additive("r2", _NUMBERS, terms.r2_terms, terms.r2, True),
)

DECIDED = frozenset({"accuracy", "balanced_accuracy", "f1", "f1_macro"})
"""Metrics of labels: of probabilities they take the greatest one, or as a target's `decision` weighs them."""


def decided(metric: Metric, pairs: Pairs, target: Target) -> Pairs:
    """The rows as a metric sees them: one of labels sees the probabilities as the target's decision weighs them."""
    if metric.name not in DECIDED or not target.decision:
        return pairs
    return Pairs(pairs.y, target.weighted(pairs.prediction), pairs.weight)


METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""By name. `coverage` is the share of labels at or below the predicted quantile: right where it equals the quantile."""

_DEFAULTS = {
    Task.BINARY: "roc_auc",
    Task.MULTICLASS: "log_loss",
    Task.REGRESSION: "rmse",
    Task.COUNT: "mean_poisson_deviance",
    Task.QUANTILE: "mean_pinball_loss",
}


def metrics_for(task: Task) -> list[str]:
    """Names of the metrics that fit a task, the default one first.

    >>> metrics_for(Task.COUNT)
    ['mean_poisson_deviance', 'rmse', 'mae', 'r2']
    """
    default = default_metric(task)
    return [default, *(name for name, metric in METRICS.items() if task in metric.tasks and name != default)]


def default_metric(task: Task) -> str:
    """The metric by which candidates are compared when none is asked for."""
    return _DEFAULTS[Task(task)]


def metric_named(name: str, task: Task) -> Metric:
    """The metric; raises `ConfigError` when there is none of that name, or when it does not fit the task."""
    if name in METRICS and task in METRICS[name].tasks:
        return METRICS[name]
    reason = f"the metric {name!r} does not fit a {task} target" if name in METRICS else f"there is no metric {name!r}"
    raise ConfigError(reason, hint=f"For {task} there are: {', '.join(metrics_for(task))}.")


def metric_to_compare_by(name: str | None, task: Task) -> Metric:
    """The one of that name, None: the default one. Raises `ConfigError` also for `coverage`, which ranks no models."""
    metric = metric_named(name or default_metric(task), task)
    if metric.name == "coverage":
        reason = "coverage does not tell which model is better: any constant can have it"
        raise ConfigError(reason, hint="Compare by mean_pinball_loss; the coverage is told beside it.")
    return metric


def check_metric(name: str | None, task: str | None) -> None:
    """Raise `ConfigError` for a metric by which nothing is compared, or not for the task, as far as that is said."""
    if name is None:
        return
    if task is not None:
        metric_to_compare_by(name, Task(task))
    elif name not in METRICS:
        raise ConfigError(f"there is no metric {name!r}", hint=nearest(name, METRICS))


def loss_of(name: str, value: float) -> float:
    """The value as a loss, lower is better; NaN becomes infinite, so that it is never the best.

    >>> loss_of("roc_auc", 0.9), loss_of("rmse", 2.0)
    (-0.9, 2.0)
    """
    if np.isnan(value):
        return float("inf")
    return -value if METRICS[name].greater_is_better else value


def perfect_loss(name: str) -> float:
    """The loss of perfect answers: what lies above it is what shares of a loss are taken of.

    >>> perfect_loss("roc_auc"), perfect_loss("rmse")
    (-1.0, 0.0)
    """
    return -1.0 if METRICS[name].greater_is_better else 0.0
