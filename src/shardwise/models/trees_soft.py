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
from shardwise.models.links import link

OBJECTIVES = {Task.BINARY: "cross_entropy", Task.MULTICLASS: "none", Task.QUANTILE: "regression"}  # others as usual
_LEAST_HESSIAN = 1e-16
Update = Callable[[lgb.Booster], bool]  # one more round; whether there was nothing to split


def soft_labels(rows: BinnedRows, task: Task) -> np.ndarray | None:
    """What each row is learned as, float64 `(rows,)`; None where its own label is, as there is no teacher."""
    if not isinstance(rows, SoftRows) or task is Task.MULTICLASS:
        return None
    soft = rows.soft()
    return soft[:, 1] if task is Task.BINARY else soft


def update_for(rows: BinnedRows, task: Task) -> Update:
    """How a booster gets a round more."""
    if not isinstance(rows, SoftRows) or task is not Task.MULTICLASS:
        return lambda booster: bool(booster.update())
    soft, weight = rows.soft(), rows.weight()
    factor = soft.shape[1] / (soft.shape[1] - 1.0)
    share = np.ones((len(soft), 1)) if weight is None else weight[:, None]

    def gradients(scores: np.ndarray, _dataset: Any) -> tuple[np.ndarray, np.ndarray]:
        p = link(Task.MULTICLASS, np.asarray(scores, dtype=np.float64))
        return share * (p - soft), share * np.maximum(factor * p * (1.0 - p), _LEAST_HESSIAN)

    return lambda booster: bool(booster.update(fobj=gradients))
