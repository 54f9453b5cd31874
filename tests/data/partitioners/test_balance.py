"""Uneven on purpose: shares of rows, bytes and cost; packing."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.core.errors import ConfigError, DataError, SchemaError
from shardwise.data.partitioners import Source, parse_spec, plan_partitioner
from shardwise.data.partitioners.packed import makespan, pack
from shardwise.data.partitioners.positions import RoundRobin
from shardwise.data.partitioners.values import ValuePartitioner

ROWS = 40_000
RNG = np.random.default_rng(1)
BATCH = pa.record_batch({"key": RNG.integers(0, 5000, ROWS), "cost": RNG.pareto(3, ROWS), "bad": np.full(ROWS, -1.0)})


def source() -> Source:
    def scan(columns):
        for piece in (0, 1):
            half = BATCH.slice(piece * ROWS // 2, ROWS // 2)
            yield piece << 40, half.select([name for name in BATCH.schema.names if name in columns])

    pieces = ((0, ROWS // 2, 3_000_000), (1 << 40, ROWS // 2, 1_000_000))
    return Source(schema=BATCH.schema, scan=scan, pieces=pieces, count=4)


def sums(spec: str, weights: np.ndarray | None = None) -> np.ndarray:
    found = plan_partitioner([parse_spec(spec)], source())
    halves = [found.assign(BATCH.slice(piece * ROWS // 2, ROWS // 2), piece << 40) for piece in (0, 1)]
    return np.bincount(np.concatenate(halves), weights=weights, minlength=found.count)


@pytest.mark.parametrize(
    ("spec", "weights", "shares"),
    [
        ("balanced:4", None, [1, 1, 1, 1]),
        ("balanced:speeds=3,1", None, [3, 1]),
        ("balanced:4:cost=cost", "cost", [1, 1, 1, 1]),
        ("balanced:cost=cost:speeds=2,1,1", "cost", [2, 1, 1]),
        ("balanced:key:4", None, [1, 1, 1, 1]),
        ("balanced:key:speeds=4,2,1", None, [4, 2, 1]),
        ("balanced:key:4:cost=cost", "cost", [1, 1, 1, 1]),
    ],
)
def test_each_partition_gets_its_share(spec: str, weights: str | None, shares: list[int]) -> None:
    found = sums(spec, None if weights is None else BATCH.column(weights).to_numpy())
    np.testing.assert_allclose(found / found.sum(), np.array(shares) / sum(shares), rtol=0.02)


def test_rows_of_a_key_stay_together() -> None:
    numbers = plan_partitioner([parse_spec("balanced:key:4")], source()).assign(BATCH, 0)
    pairs = {(key, number) for key, number in zip(BATCH["key"].to_pylist(), numbers.tolist(), strict=True)}
    assert len(pairs) == len(set(BATCH["key"].to_pylist()))


def test_sizes_in_rows_are_exact_but_for_the_last() -> None:
    assert sums("rows:15000").tolist() == [15_000, 15_000, 10_000]
    assert sums("rows:40000").tolist() == [40_000]
    assert sums("rows:99999").tolist() == [40_000]


def test_sizes_in_bytes_follow_the_stored_bytes_of_the_source() -> None:
    assert sums("bytes:1MB").tolist() == [6_667, 6_666, 6_667, 20_000]


def test_turns_are_even_also_when_each_source_partition_has_one_row() -> None:
    one = pa.record_batch({"x": [1]})
    numbers = [int(RoundRobin(4).assign(one, piece << 40)[0]) for piece in range(16)]
    assert np.bincount(numbers).tolist() == [4, 4, 4, 4]


@pytest.mark.parametrize("spec", ["balanced:2:cost=bad", "balanced:key:2:cost=bad"])
def test_costs_below_zero_are_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="below zero"):
        plan_partitioner([parse_spec(spec)], source())


@pytest.mark.parametrize("spec", ["balanced:speeds=1,x", "balanced:speeds=1,0", "balanced:3:speeds=1,1"])
def test_speeds_that_are_none_are_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="positive number"):
        plan_partitioner([parse_spec(spec)], source())


def test_a_missing_cost_column_is_told_with_the_nearest_name() -> None:
    with pytest.raises(SchemaError, match="'cost'"):
        plan_partitioner([parse_spec("balanced:2:cost=cosst")], source())


def test_a_value_that_came_later_is_told() -> None:
    with pytest.raises(DataError, match="--append"):
        ValuePartitioner("k", ["a"]).assign(pa.record_batch({"k": ["b"]}), 0)


@given(st.lists(st.integers(0, 100), max_size=40), st.integers(1, 6))
def test_packing_is_within_four_thirds_of_a_bound(costs: list[int], workers: int) -> None:
    loads = np.bincount(pack(costs, [1.0] * workers), weights=costs, minlength=workers) if costs else np.zeros(workers)
    assert loads.max() == makespan(costs, workers)
    ordered = sorted(costs, reverse=True)
    pair = ordered[workers - 1] + ordered[workers] if len(costs) > workers else 0  # two of these share a worker
    bound = max(sum(costs) / workers, max(costs, default=0), pair)
    assert loads.max() <= 4 / 3 * bound + 1e-9
