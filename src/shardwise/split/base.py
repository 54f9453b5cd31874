"""row -> fold, decided row by row."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

TEST = -1


@dataclass(frozen=True)
class Fold:
    """One evaluation: train on the fold numbers `train`, validate on `valid`."""

    train: tuple[int, ...]
    valid: tuple[int, ...]


class Splitter(Protocol):
    """A pure function of the row: the same on any engine, in any order.

    Fold numbers are 0..k-1; `TEST` (-1) is the sealed test fold.
    """

    columns: tuple[str, ...]  # what `assign` reads

    def assign(
        self, batch: pa.RecordBatch, first_row: int, hashes: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """Fold numbers, int8 `(rows,)`. `hashes` are `data.hashing.hash_column` of columns, where they are known."""
        ...

    def folds(self) -> tuple[Fold, ...]:
        """The evaluations: one for a hold-out, k for k folds or forward chaining."""
        ...

    def visible(self, fold: int) -> tuple[int, ...]:
        """Fold numbers whose targets a row of `fold` may see in its features, never its own.

        Of TEST, and of rows that are predicted: all folds that train the final model.
        """
        ...

    def sealed(self) -> dict[str, object]:
        """What decides which rows are of the test, as JSON values: not how many they are, nor the folds of the
        others."""
        ...

    def to_json(self) -> dict[str, object]: ...
