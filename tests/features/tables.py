"""Tables, profiles and fitted recipes for the tests of this room."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from shardwise.core.target import Target, Task
from shardwise.data.profile import Profile
from shardwise.features.base import FOLD, TARGET
from shardwise.features.recipe import Recipe, RecipeConfig

BINARY = Target(column="y", task=Task.BINARY, classes=(0, 1))
MEAN = Target(column="y", task=Task.REGRESSION)


def k_folds(k: int) -> dict[int, tuple[int, ...]]:
    """Every fold sees all the others."""
    return {-1: tuple(range(k)), **{f: tuple(g for g in range(k) if g != f) for f in range(k)}}


def profile_of(table: pa.Table | pa.RecordBatch) -> Profile:
    profile = Profile(table.schema)
    for batch in pa.table(table).to_batches():
        profile.update(batch)
    return profile


def column_of(values: Any) -> Any:
    """Profile of one column."""
    array = values if isinstance(values, pa.Array) else pa.array(values)
    return profile_of(pa.table({"x": array})).columns["x"]


def planned(
    table: pa.Table, target: Target, visible: Mapping[int, Sequence[int]], config: RecipeConfig | None = None
) -> Recipe:
    return Recipe.plan(table.schema, profile_of(table), target=target, config=config, visible=visible)


def fitted(
    table: pa.Table,
    folds: np.ndarray,
    target: Target = BINARY,
    *,
    visible: Mapping[int, Sequence[int]] | None = None,
    config: RecipeConfig | None = None,
    batch_rows: int = 1000,
) -> Recipe:
    recipe = planned(table, target, visible or k_folds(int(folds.max()) + 1), config)
    full = table.append_column(TARGET, pa.array(target.encode(table[target.column].combine_chunks())))
    full = full.append_column(FOLD, pa.array(folds.astype(np.int8)))
    results = recipe.summaries()
    for batch in full.to_batches(max_chunksize=batch_rows):
        parts = recipe.summaries()
        for name, summary in parts.items():
            summary.update(batch)
            results[name].merge(summary)
    recipe.fit(results)
    return recipe


def whole(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
