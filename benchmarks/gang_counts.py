"""A model that counts: each row adds one to its own place, so that what was learned says how often each row was seen.

It descends as `models.sgd.Descent` does: the same order, slices, sums over members, rounds and checkpoints. Only the
gradient is another one (ones in the places of the rows), and a step adds it to the weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from shardwise.compute.gang.base import Member
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.target import Target, Task
from shardwise.data.rows import DiskRows, RowsWriter
from shardwise.models import sgd
from shardwise.models.base import FitRun
from shardwise.models.design import Block, Design
from shardwise.models.guard import Beginning
from shardwise.models.linear import LinearParams
from shardwise.models.links import LINKS
from shardwise.models.scaling import TargetScale
from shardwise.plan.gangs import SLICES

FEATURES = (Feature(name="x", source="x", kind=FeatureKind.NUMBER),)
TARGET = Target(column="y", task=Task.REGRESSION)
ROUND_ROWS = 4096  # several rounds an epoch: runs go on in the middle of one


def write_rows(folder: Path, rows: int) -> None:
    """Rows whose target is their number, in uneven partitions, one of them empty."""
    writer = RowsWriter(folder, 1)
    ends = [0, rows // 7, rows // 7, rows // 2, rows]
    for index, (start, stop) in enumerate(pairwise(ends)):
        y = np.arange(start, stop, dtype=np.float64)
        writer.write(index, np.zeros((stop - start, 1), np.float32), y, None, np.zeros(stop - start, np.int8))


class _Adder:
    """In the place of the optimiser."""

    def __init__(self, rows: int) -> None:
        self.weights = np.zeros((rows, 1), np.float32)

    def step(self, gradient: np.ndarray, _rate: float) -> None:
        self.weights += gradient

    def state(self) -> dict[str, np.ndarray]:
        return {"weights": self.weights.copy()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.weights = state["weights"].copy()


class _Counter(sgd.Descent):
    """Counts rows."""

    def __init__(self, settings: LinearParams, rows: int) -> None:
        loss = LINKS[TARGET.task](TARGET, np.zeros(1))
        super().__init__(
            settings, Design(FEATURES, 0), loss, TargetScale(), 1.0,
            answers=lambda scores, _y, _weight: scores, begins=Beginning(np.zeros(1), 0.0),
        )  # fmt: skip
        self._adam: Any = _Adder(rows)

    def _of_rows(self, rows: Block, batch_rows: int) -> np.ndarray:  # noqa: ARG002 - as what it stands for
        counts = np.zeros_like(self._adam.weights)
        np.add.at(counts[:, 0], rows.y.astype(np.int64), 1)
        return counts

    @property
    def counts(self) -> np.ndarray:
        counts: np.ndarray = self._adam.weights[:, 0]
        return counts


@dataclass(frozen=True)
class Count:
    """A worker: goes through all rows `epochs` times from where the checkpoint is; how often each row was seen."""

    folder: Path
    checkpoint: Path
    epochs: int

    @property
    def begun(self) -> Path:
        """A file that is there once a member has begun."""
        return self.folder.parent / "begun"

    def __call__(self, member: Member) -> np.ndarray:
        self.begun.touch()
        sgd.ROUND_ROWS, sgd.KEEP_S = ROUND_ROWS, 0.0
        rows = DiskRows(self.folder, FEATURES, (0,))
        counter = _Counter(LinearParams(epochs=self.epochs, batch_rows=256), rows.n_rows)
        run = FitRun(seed=1, checkpoint=self.checkpoint, member=member, slices=SLICES)
        counter.run(rows, None, run, TARGET)
        return counter.counts
