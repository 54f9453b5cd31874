"""Learners behind one interface."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from shardwise.core.schema import Feature
from shardwise.core.target import Target


@dataclass(frozen=True)
class Chunk:
    """Rows of one fold of one partition.

    `X` float32 `(rows, features)`, column-major and memory-mapped; `y` float64 `(rows,)`, class index or number;
    `weight` float32 `(rows,)` or None.
    """

    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None = None


class Rows(Protocol):
    """Model-ready rows on disk, iterated again and again; nothing is copied until somebody asks for it."""

    features: Sequence[Feature]
    n_rows: int

    def chunks(self) -> Sequence[Chunk]:
        """Memory-mapped pieces, always in the same order."""
        ...

    def batches(self, batch_rows: int, seed: int | None = None) -> Iterator[Chunk]:
        """Bounded batches in row order, or shuffled as a pure function of `seed`."""
        ...

    def in_memory(self, limit_bytes: int) -> Chunk:
        """All rows as one chunk in memory; raises `OverBudget` above the limit."""
        ...


@dataclass(frozen=True, kw_only=True)
class FitRun:
    """What a model needs to know of the run: never its owner.

    `report(step, score)` is called after each boosting round or epoch with the validation loss (lower is better); it
    raises `Pruned` when the trial must end, and returns False when the time is up: the model keeps what it has.
    """

    seed: int
    threads: int = 1
    memory_bytes: int = 2**62
    report: Callable[[int, float], bool] = field(default=lambda _step, _score: True)


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a model family can do."""

    tasks: frozenset[str]
    weights: bool = True
    missing_values: bool = True
    importance: bool = False


class Model(Protocol):
    """One learner. `Model(target, features, **params)`; unknown params are refused."""

    traits: Traits

    def __init__(self, target: Target, features: Sequence[Feature], **params: Any) -> None: ...

    def fit(self, train: Rows, valid: Rows | None, run: FitRun) -> None: ...

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Float64: probabilities `(rows, classes)` for classification, else `(rows,)`; X float32 `(rows, features)`."""
        ...

    def importance(self) -> Mapping[str, float]:
        """Share of each feature, sums to 1; empty when the family has none."""
        ...

    def save(self, folder: Path) -> None: ...

    @classmethod
    def load(cls, folder: Path) -> Self: ...
