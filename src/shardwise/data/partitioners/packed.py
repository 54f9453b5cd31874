"""Uneven on purpose: keys stay whole, and each partition gets its share of the rows or of a cost."""

import heapq
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa

from shardwise.core.errors import ConfigError
from shardwise.data.hashing import hash_rows
from shardwise.data.partitioners.base import Source, check_count, check_key
from shardwise.stats.arrays import as_floats

BUCKETS_EACH = 256  # small buckets of keys for each partition: what is packed
MAX_BUCKETS = 1 << 16


def pack(costs: Sequence[float], speeds: Sequence[float]) -> list[int]:
    """The worker of each item: the largest item first, each to the worker that would end first with it.

    Longest processing time first on machines of different speeds (Gonzalez, Ibarra and Sahni 1977); for equal speeds at
    most 4/3 of the best makespan (Graham 1969).

    >>> pack([4, 3, 3, 2], [1, 1]), pack([4, 3, 3, 2], [2, 1])
    ([0, 1, 1, 0], [0, 1, 0, 0])
    """
    workers = [0] * len(costs)
    loads = [0.0] * len(speeds)
    for item in sorted(range(len(costs)), key=lambda item: (-costs[item], item)):
        worker = min(range(len(speeds)), key=lambda w: ((loads[w] + costs[item]) / speeds[w], w))
        loads[worker] += costs[item]
        workers[item] = worker
    return workers


def makespan(costs: Sequence[float], workers: int) -> float:
    """When the last of equal workers ends, if each takes the largest item that is left.

    >>> makespan([4, 3, 3, 2], 2), makespan([], 2)
    (6.0, 0.0)
    """
    loads = [0.0] * max(1, workers)
    for cost in sorted(costs, reverse=True):
        heapq.heappush(loads, heapq.heappop(loads) + cost)
    return max(loads)


class PackedPartitioner:
    """Keys fall by their hash into small buckets; `places[b]` is the partition of bucket b.

    >>> by = PackedPartitioner(("city",), [1, 1, 0], count=2)
    >>> by.assign(pa.record_batch({"city": ["Rome", "Oslo", "Lima"]}), 0).tolist()
    [1, 1, 0]
    """

    kind = "balanced"

    def __init__(self, columns: Sequence[str], places: Sequence[int], *, count: int, seed: int = 0) -> None:
        self.columns = tuple(columns)
        self.places = np.asarray(places, dtype=np.int32)
        self.count = check_count(count)
        self.seed = seed

    def assign(self, batch: pa.RecordBatch, first_row: int) -> np.ndarray:  # noqa: ARG002
        """Partition numbers int32 `(rows,)`; raises `SchemaError` when a key column is missing."""
        check_key(self.columns, batch.schema.names)
        placed: np.ndarray = self.places[bucket_of(batch, self.columns, len(self.places), self.seed)]
        return placed

    def label(self, number: int) -> str:
        return f"{', '.join(self.columns)}, pack {number}"

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "columns": list(self.columns), "places": self.places.tolist(), "count": self.count,
                "seed": self.seed}  # fmt: skip

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(content["columns"], content["places"], count=content["count"], seed=content["seed"])


def bucket_of(batch: pa.RecordBatch, columns: Sequence[str], buckets: int, seed: int) -> np.ndarray:
    """Small bucket int64 `(rows,)` of each row's key."""
    return (hash_rows(batch, columns, seed) % np.uint64(buckets)).astype(np.int64)


def plan_packs(source: Source, columns: Sequence[str], shares: Sequence[float], cost: str | None) -> PackedPartitioner:
    """Measure rows, or the sum of `cost`, for each bucket of keys in one pass, and pack them by `shares`."""
    check_key(columns, source.schema.names)
    buckets = min(MAX_BUCKETS, BUCKETS_EACH * len(shares))
    costs = np.zeros(buckets)
    for _, batch in source.scan([*columns, *([cost] if cost else [])]):
        weights = np.nan_to_num(as_floats(batch.column(cost))) if cost else None
        if weights is not None and weights.min(initial=0.0) < 0:
            raise ConfigError(f"column {cost!r} holds costs below zero", hint="A cost per row is at least 0.")
        numbers = bucket_of(batch, columns, buckets, source.seed)
        costs += np.bincount(numbers, weights=weights, minlength=buckets)
    return PackedPartitioner(columns, pack(costs.tolist(), shares), count=len(shares), seed=source.seed)
