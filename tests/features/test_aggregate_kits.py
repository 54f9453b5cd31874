"""Aggregates in the conformance kits, and bounded in memory."""

import numpy as np
import pyarrow as pa
from tests.features.tables import MEAN, k_folds, profile_of, whole
from tests.features.test_aggregate import ALL, DAY_US, trips

from shardwise.core.aggregates import FUNCTIONS, TIMED, read_aggregates
from shardwise.core.state import dump_state, load_state
from shardwise.core.target import Target, Task
from shardwise.features.aggregate import Aggregate
from shardwise.features.aggregate_plan import plan_aggregates
from shardwise.features.base import FOLD, TARGET
from shardwise.features.cells import CellSums
from shardwise.features.columns import RecipeConfig
from shardwise.testing.summaries import SummaryConformance
from shardwise.testing.transformers import TransformerConformance


class _Kit(TransformerConformance):
    line = ""

    def plan(self, profile):
        schema = pa.schema([pa.field(name, pa.float64()) for name in profile.columns])
        target = Target(column=TARGET, task=Task.BINARY, classes=(0, 1))
        config = RecipeConfig(aggregates=read_aggregates(self.line), own_fold=True)
        ((_, aggregate),) = plan_aggregates(schema, profile, target, config, k_folds(3))
        return aggregate

    def batch(self, rows, seed):
        return whole(trips(rows, seed).drop_columns(["y"]))


class TestWindowed(_Kit):
    line = f"{ALL}(x) by carrier,stop over 9d of at lag 1h"


class TestExpanding(_Kit):
    line = "mean,trend,count(x) by stop of at"


class TestTimeless(_Kit):
    line = ",".join(name for name in FUNCTIONS if name not in TIMED) + "(x) by carrier"


class TestRowCount(_Kit):
    line = "count by carrier,stop"


class TestCellSums(SummaryConformance):
    def make(self):
        ((_, aggregate),) = plan_aggregates(
            trips().schema,
            profile_of(trips()),
            MEAN,
            RecipeConfig(aggregates=read_aggregates(f"{ALL}(x) by carrier over 3d of at")),
            k_folds(3),
        )
        return aggregate.summaries()["cells"]

    def batch(self, rows, seed):
        table = whole(trips(rows, seed)) if rows else whole(trips(2, seed)).slice(0, 0)
        folds = np.random.default_rng(seed).integers(0, 3, rows).astype(np.int8)
        return table.append_column(TARGET, table.column("y")).append_column(FOLD, pa.array(folds))

    def check_agree(self, found, whole):
        for one, other in zip(found, whole, strict=True):
            assert (one.level, one.dropped) == (other.level, other.dropped)
            for name in ("key", "time", "slot"):
                np.testing.assert_array_equal(getattr(one.cells, name), getattr(other.cells, name))
            for name, values in one.cells.values.items():
                np.testing.assert_allclose(values, other.cells.values[name], rtol=1e-12)


def test_memory_is_bounded_whatever_comes():
    config = RecipeConfig(
        aggregates=read_aggregates("mean(x) by k over 1d of at"), aggregate_cells=2048, aggregate_keys=100
    )
    rng = np.random.default_rng(0)

    def batch(number):
        at = pa.array(rng.integers(0, 300 * DAY_US, 20_000)).cast(pa.timestamp("us"))
        table = {
            "k": rng.integers(0, 3000, 20_000),
            "at": at,
            "x": rng.normal(size=20_000),
            "y": rng.normal(size=20_000),
        }
        return pa.record_batch({**table, TARGET: table["y"], FOLD: np.zeros(20_000, np.int8)})

    first = batch(0)
    raw = first.select(["k", "at", "x", "y"])
    ((_, aggregate),) = plan_aggregates(raw.schema, profile_of(raw), MEAN, config, {-1: (0,), 0: ()})
    sums = aggregate.summaries()["cells"]
    for number in range(12):
        sums.update(batch(number))
        assert sum(len(part.key) for part, _ in sums.keyed._pending) <= (1 << 16) + 20_000
        assert len(sums.keyed.cells.key) <= 2 * 2048
    aggregate.fit({"cells": CellSums.from_state(load_state(dump_state(sums.state())))})
    keyed = aggregate._kept[0]
    assert len(keyed.cells.key) <= 2048
    assert len(keyed.cells.keys()[0]) <= 100
    assert isinstance(aggregate.sealed(), Aggregate)
