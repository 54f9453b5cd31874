"""The validation loss of each task: one definition for all families, so that trials can be compared."""

import numpy as np

from shardwise.core.target import Target, Task
from shardwise.stats.influence import influence
from shardwise.stats.metrics import METRICS, Pairs

LOSSES = {
    Task.BINARY: "log_loss",
    Task.MULTICLASS: "log_loss",
    Task.REGRESSION: "rmse",
    Task.COUNT: "mean_poisson_deviance",
    Task.QUANTILE: "mean_pinball_loss",
}


def task_loss(target: Target, y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Weighted loss of predictions as `Model.predict` gives them; lower is better."""
    return METRICS[LOSSES[target.task]].compute(y, prediction, weight, quantile=target.quantile)


def task_error(target: Target, y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Standard error of `task_loss`: by how much that of other rows like these would differ (`stats.influence`)."""
    found = influence(METRICS[LOSSES[target.task]], Pairs.labelled(y, prediction, weight), target.quantile)
    return float(np.sqrt(np.square(found).sum()))
