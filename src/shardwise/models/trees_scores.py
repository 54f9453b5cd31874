"""Predictions of many trees, some at a time, so that those in use stay in the processor's cache.

LightGBM walks a row through all trees before it takes the next row. Thousands of trees are tens of megabytes, which
come from memory again for every row: 3,000 trees of 127 leaves took 3.4 times as long on one thread as the same trees
in blocks of a hundred, 2.8 times on two. The trees of a block are summed by LightGBM, the blocks here, in their order:
the same bits for one row as for many. What fits into one block is left to LightGBM as a whole.
"""

from collections.abc import Iterable
from typing import Any

import lightgbm as lgb
import numpy as np

from shardwise.core.target import Task
from shardwise.models.links import link
from shardwise.models.trees_row import SingleRow

BLOCK_LEAVES = 16_384  # of the trees of a block: about a megabyte


class TreeScores:
    """What a booster predicts, float64 `(rows, outputs)`, for float32 rows of `features` numbers.

    `leaves` is the most that a tree has; `task` says what becomes of the sums when there are several blocks; without a
    task the sums are the answer.
    """

    def __init__(self, booster: lgb.Booster, task: Task | None, *, features: int, leaves: int) -> None:
        self._booster, self._task, self._features = booster, task, features
        self._outputs = booster.num_model_per_iteration()
        rounds = max(1, booster.num_trees() // self._outputs)
        blocks = -(-rounds * leaves * self._outputs // BLOCK_LEAVES)
        size = -(-rounds // blocks)
        self._blocks = [(start, size) for start in range(0, rounds, size)]  # (first round, rounds)
        self._raw = len(self._blocks) > 1 or task is None
        self._rows: list[SingleRow] = []

    def __call__(self, X: np.ndarray, threads: int) -> np.ndarray:
        """Predictions for X `(rows, features)`; a single row goes by `SingleRow`."""
        if len(X) == 1:
            self._rows = self._rows or [
                SingleRow(booster, self._features, self._outputs, raw=self._raw) for booster in self._boosters()
            ]
            return self._added(row(X) for row in self._rows)
        if self._raw:
            X = np.ascontiguousarray(X)  # which LightGBM would do for each block
        return self._added(
            self._booster.predict(
                X, start_iteration=start, num_iteration=count, raw_score=self._raw, num_threads=threads, verbosity=-1
            )
            for start, count in self._blocks
        )

    def _boosters(self) -> list[lgb.Booster]:
        """A booster for each block."""
        if len(self._blocks) == 1:
            return [self._booster]
        return [
            lgb.Booster(model_str=self._booster.model_to_string(start_iteration=start, num_iteration=count))
            for start, count in self._blocks
        ]

    def _added(self, parts: Iterable[Any]) -> np.ndarray:
        blocks = (np.asarray(part).reshape(-1, self._outputs) for part in parts)
        total = next(blocks)
        if not self._raw:
            return total
        for part in blocks:
            total = total + part
        if self._task is None:
            return total
        linked = link(self._task, total)
        return linked[:, 1:] if self._task is Task.BINARY else linked.reshape(len(total), -1)
