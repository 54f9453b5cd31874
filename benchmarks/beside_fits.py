"""Fits of one candidate on rows that lie on the disk, as tasks that workers import."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.target import Target, Task
from shardwise.data.bins import Binner
from shardwise.data.rows import BinnedRows, RowsWriter, keep_binner
from shardwise.models.base import FitRun
from shardwise.models.families import build
from shardwise.models.trees_data import DATASETS

TARGET = Target(column="y", task=Task.BINARY, classes=("no", "yes"))
NUMBERS = 20
FEATURES = tuple(
    Feature(name=f"x{i}", source=f"x{i}", kind=FeatureKind.NUMBER, low=-5.0, high=5.0) for i in range(NUMBERS)
)


@dataclass(frozen=True)
class Fit:
    """Fits trees on the rows of a folder with so many threads; the seconds, and the last validation loss."""

    folder: Path
    threads: int

    def __call__(self, params: dict[str, Any]) -> tuple[float, float]:
        losses: list[float] = []

        def report(_step: int, loss: float) -> bool:
            losses.append(loss)
            return True

        train, valid = (BinnedRows(self.folder, FEATURES, (fold,)) for fold in (0, 1))
        model = build("trees", TARGET, FEATURES, params)
        began = time.perf_counter()
        model.fit(train, valid, FitRun(seed=1, threads=self.threads, report=report))
        return time.perf_counter() - began, losses[-1]


def free(_item: int) -> None:
    """What the last fit kept for the next one goes."""
    DATASETS.free()


def write_codes(folder: Path, rows: int) -> None:
    """Rows as they are when models are trained; a tenth is for validation."""
    rng = np.random.default_rng(rows)
    X = rng.standard_normal((rows, NUMBERS), dtype=np.float32)
    drive = X[:, 0] + X[:, 1] * X[:, 2] + np.sin(2 * X[:, 3]) + 0.5 * X[:, 4:10].sum(axis=1)
    y = (drive + rng.standard_normal(rows, dtype=np.float32) > 0).astype(np.float64)
    folds = (np.arange(rows) % 10 == 9).astype(np.int8)
    binner = Binner.fit(FEATURES, X[:50_000])
    RowsWriter(folder, NUMBERS, np.uint8).write(0, binner.codes(X).T, y, None, folds)
    keep_binner(folder, binner)
