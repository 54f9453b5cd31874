"""What a random split hides when rows come in groups: a small model, with groups torn apart and held together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np

from shardwise.core.target import Task
from shardwise.split.probes import Labels, Probe, ranks

MAX_ROWS = 10_000
MAX_COLUMNS = 50
_PARAMS = {
    "num_leaves": 15, "learning_rate": 0.2, "min_data_in_leaf": 10, "max_bin": 63, "verbose": -1, "seed": 0,
    "num_threads": 1, "deterministic": True, "force_row_wise": True,
}  # fmt: skip


@dataclass(frozen=True)
class Gap:
    """Power (as of `Labels.power`) on rows of known groups, and on rows of groups that were not seen; of `labels`."""

    random: float
    grouped: float
    labels: Labels


def group_gap(group: Probe, probes: Sequence[Probe], labels: Labels, *, shared: bool = False) -> Gap | None:
    """Powers of a small model that knows the group and its mean target; None when too few rows share a group.

    Whole groups are drawn until there are about `MAX_ROWS` rows, so that groups keep their size. With `shared` only
    groups of two rows and more: of groups that are larger than a sample shows one row tells nothing of what is torn
    apart.
    """
    labels, few = labels.heaviest()
    present = np.flatnonzero(~group.missing[few])
    _, code, counts = np.unique(group.values[few][present], return_inverse=True, return_counts=True)
    enough = counts[code] > (1 if shared else 0)
    present, code = few[present[enough]], code[enough]
    if len(present) < 100:
        return None
    lot = np.random.default_rng(0).permutation(len(counts))
    chosen = lot[code] < max(20, len(lot) * MAX_ROWS / len(present))
    rows, code = present[chosen], lot[code[chosen]]
    if len(rows) < 100:
        return None
    part = labels.take(np.searchsorted(few, rows))
    columns = [group, *(probe for probe in probes if probe.name != group.name)][:MAX_COLUMNS]
    matrix = np.stack([probe.values[rows] for probe in columns], axis=1)
    return Gap(_trial(matrix, code, part, part.half), _trial(matrix, code, part, code % 2), part)


def _trial(matrix: np.ndarray, code: np.ndarray, labels: Labels, half: np.ndarray) -> float:
    """Train on half 0, power on half 1."""
    train, valid = half == 0, half == 1
    n_classes = labels.n_classes if labels.target.task is Task.MULTICLASS else 0
    goal = np.eye(n_classes)[labels.y.astype(np.int64)] if n_classes else _goal(labels)[:, None]
    known, fresh = _encoded(code, goal, train)
    X = np.column_stack([matrix, np.where(train[:, None], known, fresh)])
    return small_power(X, labels, train, valid)


def small_power(X: np.ndarray, labels: Labels, train: np.ndarray, valid: np.ndarray) -> float:
    """Power on the rows `valid` of a small model that learned the rows `train`; both bool `(rows,)`.

    The work grows with the classes: see `Labels.heaviest`.
    """
    n_classes = labels.n_classes if labels.target.task is Task.MULTICLASS else 0
    goal = labels.y if n_classes else _goal(labels)
    if len(np.unique(labels.y[train])) < 2 or len(np.unique(labels.y[valid])) < 2:
        return 0.0
    params: dict[str, Any] = _PARAMS | {"objective": "multiclass", "num_class": n_classes} if n_classes else _PARAMS
    rounds = max(5, 120 // n_classes) if n_classes else 40
    predicted = np.asarray(lgb.train(params, lgb.Dataset(X[train], goal[train]), rounds).predict(X[valid]))
    return _power(predicted, labels.take(valid))


def _goal(labels: Labels) -> np.ndarray:
    """What is learned by least squares: 0 and 1, or ranks, which no outlier rules."""
    return labels.y if labels.target.task is Task.BINARY else ranks(labels.y)


def _encoded(code: np.ndarray, goal: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean goal of each row's group among the training rows, `(rows, goals)`: without the row itself, and with it."""
    prior = goal[train].mean(axis=0)
    counts = np.bincount(code, weights=train)[:, None]
    sums = np.stack([np.bincount(code, weights=column * train) for column in goal.T], axis=1)
    others = (sums[code] - goal + prior) / np.maximum(counts[code], 1)
    return others, (sums[code] + prior) / (counts[code] + 1)


def _power(predicted: np.ndarray, labels: Labels) -> float:
    if labels.target.task is Task.MULTICLASS:
        hits = (predicted.argmax(axis=1) == labels.y).mean()
        base = np.bincount(labels.y.astype(np.int64)).max() / len(labels.y)
        return max(0.0, float((hits - base) / (1 - base)))
    if labels.target.task is Task.BINARY:
        place, positive = ranks(predicted), labels.y > 0.5
        return max(0.0, float(2 * (place[positive].mean() - place[~positive].mean())))
    y = ranks(labels.y)
    return max(0.0, float(1 - ((y - predicted) ** 2).sum() / ((y - y.mean()) ** 2).sum()))
