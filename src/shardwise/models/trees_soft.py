"""Trees that learn a teacher's answers in the place of labels: objectives that take them.

Of two classes the cross-entropy with the teacher's probability, which LightGBM has; of several the same with softmax,
as an objective of our own (Hinton et al., Distilling the knowledge in a neural network, 2015); numbers and counts are
learned as they are.
"""

from collections.abc import Callable
from typing import Any

import lightgbm as lgb
import numpy as np

from shardwise.core.target import Task
from shardwise.data.rows import BinnedRows
from shardwise.data.rows_soft import SoftRows
from shardwise.data.rows_window import has_teacher, soft_of
from shardwise.models.links import link
from shardwise.models.scaling import TargetScale
from shardwise.models.trees_data import mean_weight, relative_weight

OBJECTIVES = {Task.BINARY: "cross_entropy", Task.MULTICLASS: "none", Task.QUANTILE: "regression"}  # others as usual
_LEAST_HESSIAN = 1e-16
Update = Callable[[lgb.Booster], bool]  # one more round; whether there was nothing to split


def soft_labels(rows: BinnedRows, task: Task) -> np.ndarray | None:
    """What each row is learned as, float64 `(rows,)`; None where its own label is, as there is no teacher."""
    soft = None if task is Task.MULTICLASS else soft_of(rows)
    return soft[:, 1] if soft is not None and task is Task.BINARY else soft


def is_own(rows: BinnedRows, task: Task) -> bool:
    """Whether a booster for these rows has an objective of ours, of which LightGBM knows no link."""
    return task is Task.MULTICLASS and has_teacher(rows)


def mean_answer(rows: BinnedRows, scale: TargetScale, weight: np.ndarray | None) -> np.ndarray | None:
    """The mean of the teacher's answers, float64 `(outputs,)` on the scale of the model; None where there is none."""
    if not isinstance(rows, SoftRows):
        return None
    weight = np.ones(rows.n_rows) if weight is None else weight.astype(np.float64)
    parts = np.split(weight, np.cumsum(rows.block_rows())[:-1])
    sums = [part @ scale.apply(soft) for part, soft in zip(parts, rows.soft_blocks(), strict=True)]
    return np.atleast_1d(np.sum(sums, axis=0) / weight.sum())


def update_for(rows: BinnedRows, task: Task) -> Update:
    """How a booster gets a round more."""
    soft = soft_of(rows) if is_own(rows, task) else None
    if soft is None:
        return lambda booster: bool(booster.update())
    weight = relative_weight(rows, mean_weight(rows))
    factor = soft.shape[1] / (soft.shape[1] - 1.0)
    share = np.ones((len(soft), 1)) if weight is None else weight[:, None]

    def gradients(scores: np.ndarray, _dataset: Any) -> tuple[np.ndarray, np.ndarray]:
        p = link(Task.MULTICLASS, np.asarray(scores, dtype=np.float64))
        return share * (p - soft), share * np.maximum(factor * p * (1.0 - p), _LEAST_HESSIAN)

    return lambda booster: bool(booster.update(fobj=gradients))
