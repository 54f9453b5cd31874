"""Learners behind one interface."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np

from shardwise.compute.gang.base import Member
from shardwise.core.parallel import Split
from shardwise.core.schema import Feature
from shardwise.core.target import Target
from shardwise.data.rows import Chunk, Rows
from shardwise.stats.anomalies import Anomaly

__all__ = ["Additive", "Chunk", "FitRun", "Model", "Rows", "Traits"]

_GO = b"go"


@dataclass(frozen=True, kw_only=True)
class FitRun:
    """What a model needs to know of the run: never its owner.

    `report(step, score)` is called after each boosting round or epoch (counted from 1) with the validation loss of the
    task (`losses.task_loss`: lower is better, the same for all families). It raises `Pruned` when the trial must end,
    and returns False when the time is up: either way the model keeps the best that it has. `go_on()` asks for the time
    alone, as often as one likes, where steps between two reports take long, and `all_go_on()` where there is no report.

    `note(text)` tells the user what was done otherwise than asked for, `notice(anomaly)` what went wrong in training
    and what was done about it; a fit that goes on from a checkpoint says again what was noticed before it. `checkpoint`
    is a folder of this fit alone that outlives a kill: what was written there is found by the same fit when it is begun
    again, and is to be removed at the end. `device` is one of `core.devices.DEVICES`.

    `model_bytes`: what of the memory the model itself may take, beside its data, where a family can tell.

    `rests_at`: `report` will return False after that step, and the same fit may be asked to go on from there later:
    what it needs for that stays in `checkpoint`.

    `left_s()`: seconds until the time is up. Who plans by it says so with `hurried()`: such a model counts as cut.

    `saw(rows)` counts rows that this process has learned from, each time that it does, for those who watch.

    `member` is this process's place among those that fit the model together; all of them call `report` at the same
    steps and get the same answer, and the one of rank 0 writes checkpoints. A minibatch is cut into `slices` pieces (a
    power of two), whose gradients are added in the order of a binary tree: the same bits for any number of members, one
    included. With a `split` the model itself lies in parts on the members, where the family can be cut so.
    """

    seed: int
    threads: int = 1
    memory_bytes: int = 2**62
    model_bytes: int = 2**62
    report: Callable[[int, float], bool] = field(default=lambda _step, _score: True)
    go_on: Callable[[], bool] = field(default=lambda: True)
    left_s: Callable[[], float] = field(default=lambda: math.inf)
    hurried: Callable[[], None] = field(default=lambda: None)
    note: Callable[[str], None] = field(default=lambda _text: None)
    notice: Callable[[Anomaly], None] = field(default=lambda _anomaly: None)
    saw: Callable[[int], None] = field(default=lambda _rows: None)
    checkpoint: Path | None = None
    device: str = "auto"
    rests_at: int | None = None
    member: Member | None = None
    slices: int = 1
    split: Split | None = None

    def all_go_on(self) -> bool:
        """`go_on()` as the first member sees it; a collective, since one who leaves alone leaves others waiting."""
        if self.member is None or self.member.size == 1:
            return self.go_on()
        return self.member.broadcast((_GO if self.go_on() else b"") if self.leads else None) == _GO

    @property
    def leads(self) -> bool:
        """Whether this process writes what all have learned."""
        return self.member is None or self.member.rank == 0


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a family can do, and whether `fit` reads its rows as `floats` (`DiskRows`) or as `bins` (`BinnedRows`).

    `parallel`: several members of a gang can fit one model together (`FitRun.member`).
    """

    tasks: frozenset[str]
    reads: str = "floats"
    weights: bool = True
    missing_values: bool = True
    importance: bool = False
    parallel: bool = False


class Model(Protocol):
    """One learner. `Model(target, features, **params)`; unknown params are refused."""

    traits: ClassVar[Traits]

    def __init__(self, target: Target, features: Sequence[Feature], **params: Any) -> None: ...

    def fit(self, train: Any, valid: Any, run: FitRun) -> None:
        """Learn from rows of the kind that `traits.reads` names; `valid` may be None."""
        ...

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Float64: probabilities `(rows, classes)` for classification, else `(rows,)`; X float32 `(rows, features)`."""
        ...

    def importance(self) -> Mapping[str, float]:
        """Share of each feature, sums to 1; empty when the family has none."""
        ...

    def save(self, folder: Path) -> None: ...

    @classmethod
    def load(cls, folder: Path) -> Self: ...


@runtime_checkable
class Additive(Protocol):
    """A model whose raw scores are sums with a term for each feature: of these an answer is explained."""

    def terms(self, X: np.ndarray) -> np.ndarray:
        """Float64 `(rows, features + 1, scores)`, the last one what the model says of a row that it knows nothing of.

        X float32 `(rows, features)`. Their sum over the second axis are the raw scores.
        """
        ...

    def answers(self, scores: np.ndarray) -> np.ndarray:
        """What `predict` makes of raw scores `(rows, scores)`."""
        ...
