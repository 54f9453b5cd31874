"""Which trials contend for a place in an ensemble, by how many rows it is chosen, and how long that takes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from shardwise.core.target import Target, Task
from shardwise.ensemble.growing import MOST_CLASSES
from shardwise.ensemble.select import Cost, Limits
from shardwise.models.trees_params import TreesParams
from shardwise.stats.metrics import Metric, OneVsRest
from shardwise.train.result import TrialResult

BEST, CONTENDERS = 4, 14  # trials from which members are chosen: the best ones, and the best of other kinds, in all
ALIKE = ("extra_trees", "target_transform", "categorical")  # params of trees, in which those of a kind are the same
ROWS, LEAST_ROWS = 20_000, 2_000  # by which weights are chosen; at most, and of many classes at least
RARE = 4  # of them a class keeps at least this part of what it had if all classes had as many
CELLS, RANKED_CELLS = 400_000, 100_000  # rows x classes; where each class ranks all rows
CHOICE_S, CHOICE_CLASS_S = 1.0, 0.2  # what a choice takes, at most, and more for each of several classes ...
CHOICE_CELLS_S, CHOICE_ROWS_S = 0.5, 0.3  # ... and for `ROWS` of each of these, and of each contender
CALLS, CALLS_EACH = 400, 60  # of the metric, and more for each contender ...
RANKED_CELL_S = 1.5e-7  # ... where each class ranks all rows


def diverse(ranked: Sequence[TrialResult]) -> list[TrialResult]:
    """The best trials, and the best of each other kind: a long search brings forth many that are better and alike, and
    what errs differently would not be among the best any more. In the order that is given."""
    first: dict[tuple[Any, ...], TrialResult] = {}
    usual = asdict(TreesParams())
    for trial in ranked:
        kind = (trial.candidate.params.get(name, usual[name]) for name in ALIKE)
        first.setdefault((trial.candidate.family, *kind), trial)
    numbers = [trial.number for trial in (*ranked[:BEST], *first.values())]
    chosen = set(list(dict.fromkeys(numbers))[:CONTENDERS])
    return [trial for trial in ranked if trial.number in chosen]


def frugal(ranked: Sequence[TrialResult], cost: Callable[[TrialResult], Cost], limits: Limits) -> list[TrialResult]:
    """Trials that take less room, or less time in a batch, than all that are better, and keep these two limits alone:
    where the best ones do not, the next best that does is not to be missed. At most `CONTENDERS`."""
    found, least_bytes, least_s = [], math.inf, math.inf
    for trial in ranked:
        own = cost(trial)
        if own.bytes < least_bytes or own.batch_s < least_s:
            if own.bytes <= limits.bytes and own.batch_s <= limits.batch_s:
                found.append(trial)
            least_bytes, least_s = min(least_bytes, own.bytes), min(least_s, own.batch_s)
    return found[:CONTENDERS]


def chosen_rows(target: Target, metric: Metric, rows: int) -> int:
    """Of so many rows out of fold, how many an ensemble is chosen by."""
    cells = RANKED_CELLS if isinstance(metric, OneVsRest) else CELLS
    return min(rows, ROWS, max(LEAST_ROWS, cells // target.outputs))


def representatives(y: np.ndarray, most: int, target: Target) -> tuple[np.ndarray, np.ndarray | None]:
    """Numbers of the rows by which an ensemble is chosen where `most` suffice, rising, and weights with the mean 1: for
    how many rows each of them stands; None where that is the same for all.

    Classes that are rare keep more of their rows, or all: of one in a thousand hardly any would be left. So there may
    be up to half more than `most`.
    """
    step = max(1, -(-len(y) // most))
    every = np.arange(0, len(y), step)
    if step == 1 or not target.task.is_classification:
        return every, None
    _, place, counts = np.unique(y, return_inverse=True, return_counts=True)
    steps = np.clip(counts * RARE * len(counts) // most, 1, step)
    if (steps == step).all():
        return every, None
    order = np.argsort(place, kind="stable")
    within = np.empty(len(y), np.int64)  # its number among the rows of its class
    within[order] = np.arange(len(y)) - np.repeat(np.cumsum(counts) - counts, counts)
    taken = np.flatnonzero(within % steps[place] == 0)
    return taken, steps[place[taken]] / steps[place[taken]].mean()


def choice_s(target: Target, metric: Metric, rows: int, trials: int) -> float:
    """Seconds that a choice among so many `trials` takes, at most, on a core that is free; `rows` are there out of
    fold."""
    classes = min(target.outputs, MOST_CLASSES) if target.task is Task.MULTICLASS else 0
    contenders = min(trials, CONTENDERS)
    share = min(1.0, rows / ROWS)
    ranked_s = 0.0
    if isinstance(metric, OneVsRest):
        cells = chosen_rows(target, metric, rows) * target.outputs
        ranked_s = (CALLS + CALLS_EACH * contenders) * cells * RANKED_CELL_S
    of_classes = (CHOICE_CLASS_S + share * CHOICE_CELLS_S) * classes
    return CHOICE_S + of_classes + share * CHOICE_ROWS_S * contenders + ranked_s
