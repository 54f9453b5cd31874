"""One row of Python values -> its row of the model-ready matrix: the same bits as `Recipe.transform`, without Arrow.

A batch of one row costs tens of microseconds a column, for arrays that hold a single value. Here a number is a number:
steps that are `CellWise` read the value itself. Steps that are not (text, aggregates) get a batch of one row, and so
does the whole row where a value is of an unusual type, or a table is joined.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from shardwise.features.base import Cell, CellWise, Transformer
from shardwise.features.recipe import Recipe

ToBatch = Callable[[Mapping[str, Any]], pa.RecordBatch]


class RowEncoder:
    """Rows for a recipe whose inputs had the types of `inputs`; `to_batch` makes of a row what prediction would."""

    def __init__(self, recipe: Recipe, inputs: pa.Schema, to_batch: ToBatch) -> None:
        self._recipe, self._to_batch = recipe, to_batch
        self._cells: list[tuple[str, Cell]] = []
        self._places: list[int] = []
        self._others: list[tuple[Transformer, int, int]] = []
        for step, start, stop in () if recipe.joins else recipe.steps:
            cell = step.cell(inputs.field(step.reads[0]).type) if isinstance(step, CellWise) else None
            if cell is None:
                self._others.append((step, start, stop))
            else:
                self._cells.append((step.reads[0], cell))
                self._places += range(start, stop)

    def __call__(self, row: Mapping[str, Any]) -> np.ndarray:
        """Float32 `(1, features)`; raises `SchemaError` for a value that cannot be read. The row has all columns."""
        numbers: list[float] = []
        for column, cell in self._cells:
            found = cell(row[column])
            if found is None:
                return self._by_batch(row)
            numbers += found
        if not self._others:
            return np.array([numbers], np.float32) if self._cells else self._by_batch(row)
        batch = self._to_batch(row)
        X = np.empty((1, len(self._recipe.features)), np.float32)
        X[0, self._places] = numbers
        for step, start, stop in self._others:
            step.transform(batch, X[:, start:stop])
        return X

    def _by_batch(self, row: Mapping[str, Any]) -> np.ndarray:
        return np.ascontiguousarray(self._recipe.transform(self._to_batch(row)))
