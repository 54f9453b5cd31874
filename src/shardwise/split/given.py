"""Folds that are decided beforehand: a column of fold numbers, and how to deal small data into even ones."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pyarrow as pa

from shardwise.core.errors import ConfigError, DataError, SchemaError
from shardwise.split.base import TEST, Fold
from shardwise.split.hashed import MAX_FOLDS
from shardwise.stats.arrays import as_floats


class ColumnSplitter:
    """By a column of whole numbers: folds 0 to `folds` - 1, and -1 for the sealed test.

    It depends on the row's value alone. Whether the folds are even, and whether there is a test, is the giver's affair.
    """

    kind = "column"

    def __init__(self, column: str, folds: int) -> None:
        if not (isinstance(folds, int) and 2 <= folds <= MAX_FOLDS):
            raise ConfigError(f"folds is {folds!r}", hint=f"Give a whole number from 2 to {MAX_FOLDS}.")
        self.column = column
        self.columns: tuple[str, ...] = (column,)
        self.numbers = tuple(range(folds))

    def assign(
        self,
        batch: pa.RecordBatch,
        first_row: int,
        hashes: Mapping[str, np.ndarray] | None = None,  # noqa: ARG002
    ) -> np.ndarray:
        """Fold numbers int8 `(rows,)`; raises `SchemaError` without the column, `DataError` for what is no fold."""
        if self.column not in batch.schema.names:
            raise SchemaError(f"there is no fold column {self.column!r}", hint=f"There are: {batch.schema.names}.")
        column = batch.column(self.column)
        if not pa.types.is_integer(column.type):
            raise DataError(f"fold column {self.column!r} is {column.type}", hint="Give whole numbers.")
        values = as_floats(column)
        wrong = ~((values >= TEST) & (values < len(self.numbers)))
        if wrong.any():
            row = int(wrong.argmax())
            found, last = column[row].as_py(), len(self.numbers) - 1
            hint = f"Give numbers from 0 to {last}, and {TEST} for the sealed test."
            raise DataError(f"fold column {self.column!r} holds {found}", hint=hint, row=first_row + row)
        return values.astype(np.int8)

    def folds(self) -> tuple[Fold, ...]:
        """One evaluation for each fold."""
        return tuple(Fold(train=self.visible(fold), valid=(fold,)) for fold in self.numbers)

    def visible(self, fold: int) -> tuple[int, ...]:
        """All folds but the own one."""
        return tuple(number for number in self.numbers if number != fold)

    def sealed(self) -> dict[str, Any]:
        """What decides which rows are of the test."""
        return {"kind": self.kind, "column": self.column}

    def to_json(self) -> dict[str, Any]:
        return {**self.sealed(), "folds": len(self.numbers)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(content["column"], content["folds"])


def deal(groups: np.ndarray, y: np.ndarray, folds: int) -> np.ndarray:
    """Fold numbers int8 `(rows,)` below `folds`, even over y; rows of equal `groups` (hashes) are in one fold.

    The groups, in the order of their first target, are dealt like cards, in a new order of the folds for each round.
    Fewer folds come out where there are fewer groups; a single group is torn apart.

    >>> deal(np.array([1, 2, 3, 4, 1], np.uint64), np.array(["a", "b", "a", "b", "a"]), 2).tolist()
    [0, 0, 1, 1, 0]
    """
    if (groups == groups[0]).all():
        groups = np.arange(len(groups), dtype=np.uint64)
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    _, level = np.unique(y, return_inverse=True)
    order = np.lexsort((np.arange(len(first)), level[first]))
    folds = min(folds, len(first))
    rounds = -(-len(first) // folds)
    cards = np.random.default_rng(0).permuted(np.tile(np.arange(folds), (rounds, 1)), axis=1).ravel()
    fold = np.empty(len(first), np.int8)
    fold[order] = cards[: len(first)]
    return fold[group]
