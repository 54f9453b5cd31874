"""batches -> model-ready batches: the plug point."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, Self

import numpy as np
import pyarrow as pa

from shardwise.core.schema import Feature
from shardwise.core.state import State
from shardwise.stats.base import Summary

TARGET = "__target__"  # float64: class index or number; NaN = not labelled
TEST = -1  # the fold of the sealed test rows, as in `split.base`, and of every new row
FOLD = "__fold__"  # int8: fold number of the row


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
