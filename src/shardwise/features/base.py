"""batches -> model-ready batches: the plug point."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import pyarrow as pa

from shardwise.core.schema import Feature
from shardwise.core.state import State
from shardwise.stats.base import Summary

TARGET = "__target__"  # float64: class index or number; NaN = not labelled
TEST = -1  # the fold of the sealed test rows, as in `split.base`, and of every new row
FOLD = "__fold__"  # int8: fold number of the row
Cell = Callable[[Any], Sequence[float] | None]


class Transformer(Protocol):
    """Turns the columns that it reads into the features that it writes. Fitting is merging summaries.

    `summaries` names what must be gathered over the training rows (batches carry TARGET and FOLD besides the columns);
    an empty mapping means that the profile was enough. A column to which it does not apply raises `RejectColumn`.
    `gathers` are columns that the summaries read and `transform` does not: new rows need not have them.
    """

    reads: tuple[str, ...]
    gathers: tuple[str, ...]

    def summaries(self) -> Mapping[str, Summary]: ...

    def fit(self, results: Mapping[str, Summary]) -> None: ...

    def output(self) -> Sequence[Feature]:
        """The features written, in order; known after `fit`."""
        ...

    def transform(
        self, batch: pa.RecordBatch, out: np.ndarray, folds: np.ndarray | None = None, hidden: Collection[int] = ()
    ) -> None:
        """Write float32 `(rows, features)` into `out`, a column-major view.

        `folds` (rows,) is given for training rows: what derives from the target is then out-of-fold, and from none of
        the `hidden` folds.
        """
        ...

    def sealed(self) -> Self:
        """A copy for prediction, without what only training rows need; itself when there is nothing of the kind."""
        ...

    def state(self) -> State: ...

    @classmethod
    def from_state(cls, state: State) -> Self: ...


@runtime_checkable
class CellWise(Protocol):
    """A transformer of one column that can read a single value of Python, much faster than a batch of one row."""

    reads: tuple[str, ...]

    def cell(self, kind: pa.DataType) -> Cell | None:
        """What a value becomes in a column that had the type `kind` in training.

        The function gives the numbers of `output()`, the same to the bit as `transform` does of a batch, or None for a
        value that only a batch tells: text where a number is expected, numbers that are huge. None for a type that
        is not read so at all.
        """
        ...
