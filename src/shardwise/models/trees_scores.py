"""Predictions of many trees: one row through LightGBM, a few through LightGBM in blocks, many in bits.

All three add the trees in the same order, block by block, and give the same bits. May be shared by threads, which takes
care: LightGBM keeps in a booster where the range of trees of a prediction begins, and two of different ranges at a time
get sums of neither. LightGBM walks a row through all
trees before it takes the next row. Thousands of trees are tens of megabytes, which come from memory again for every
row: 3,000 trees of 127 leaves took 3.4 times as long on one thread as the same trees in blocks of a hundred. Many rows
go by `BitTrees`, which waits for no branch: decision 0026 has what it gains.
"""

import threading
from collections.abc import Iterable
from typing import Any

import lightgbm as lgb
import numpy as np

from shardwise.compute.ceiling import cpu_quota
from shardwise.core.target import Task
from shardwise.models.links import link, sigmoid
from shardwise.models.trees_bits import LEAST_ROWS, MOST_LEAVES, WORTH_ROWS, BitTrees
from shardwise.models.trees_row import SingleRow
from shardwise.models.trees_text import ModelText

ALONE = 200_000  # rows x trees, some 10 ms: up to here a second thread is waited for longer than it helps
BLOCK_LEAVES = 16_384  # of the trees of a block: about a megabyte


class TreeScores:
    """What a booster predicts, float64 `(rows, outputs)`, for float32 rows of `features` numbers.

    `leaves` is the most that a tree has; `task` says what becomes of the sums; without a task they are the answer.
    """

    def __init__(self, booster: lgb.Booster, task: Task | None, *, features: int, leaves: int) -> None:
        self._booster, self._task, self._features = booster, task, features
        self._leaves = leaves
        self._outputs = booster.num_model_per_iteration()
        self._trees = booster.num_trees()
        rounds = max(1, self._trees // self._outputs)
        blocks = -(-rounds * leaves * self._outputs // BLOCK_LEAVES)
        self._size = -(-rounds // blocks)
        self._blocks = [(start, self._size) for start in range(0, rounds, self._size)]  # (first round, rounds)
        self._alone = threading.Lock()  # held by who predicts with ranges of the trees of `_booster`
        self._apart: list[lgb.Booster] = []  # a booster for each block, for those who find it held
        self._rows: list[SingleRow] = []
        self._seen = 0  # rows that were asked for in batches
        self._bits: BitTrees | None = None

    def __call__(self, X: np.ndarray, threads: int) -> np.ndarray:
        """Predictions for X `(rows, features)`; `threads` 0: as many as there are cores."""
        if len(X) >= LEAST_ROWS and (bits := self._worth_bits(len(X))) is not None:
            return self._linked(bits(X, threads or cpu_quota()))
        if len(X) == 1:
            self._rows = self._rows or [
                SingleRow(booster, self._features, self._outputs, raw=True) for booster in self._boosters()
            ]
            return self._linked(self._added(row(X) for row in self._rows))
        threads = threads if len(X) * self._trees > ALONE else 1
        return self._linked(self._batch(np.ascontiguousarray(X), threads))  # LightGBM would do it for each block

    def _batch(self, X: np.ndarray, threads: int) -> np.ndarray:
        options: dict[str, Any] = {"raw_score": True, "num_threads": threads, "verbosity": -1}
        if self._alone.acquire(blocking=False):
            try:
                return self._added(
                    self._booster.predict(X, start_iteration=start, num_iteration=count, **options)
                    for start, count in self._blocks
                )
            finally:
                self._alone.release()
        self._apart = self._apart or self._boosters()
        return self._added(booster.predict(X, **options) for booster in self._apart)

    def _worth_bits(self, rows: int) -> BitTrees | None:
        """None while LightGBM would be done before the trees are prepared."""
        self._seen += rows
        if self._bits is None and self._seen >= WORTH_ROWS and self._leaves <= MOST_LEAVES:
            self._bits = BitTrees(ModelText.of(self._booster).trees, self._outputs, self._size)
        return self._bits

    def _boosters(self) -> list[lgb.Booster]:
        """A booster for each block, whose ranges are all its trees."""
        if len(self._blocks) == 1:
            return [self._booster]
        return [
            lgb.Booster(model_str=self._booster.model_to_string(start_iteration=start, num_iteration=count))
            for start, count in self._blocks
        ]

    def _added(self, parts: Iterable[Any]) -> np.ndarray:
        blocks = (np.asarray(part).reshape(-1, self._outputs) for part in parts)
        total = next(blocks)
        for part in blocks:
            total = total + part
        return total

    def _linked(self, total: np.ndarray) -> np.ndarray:
        if self._task is None:
            return total
        return sigmoid(total) if self._task is Task.BINARY else link(self._task, total).reshape(len(total), -1)
