"""Every partitioner keeps the laws of the kit."""

import numpy as np
import pyarrow as pa
import pytest

from shardwise.data.base import Partitioner
from shardwise.data.hashing import hash_rows
from shardwise.data.partitioners import Source, parse_spec, plan_partitioner
from shardwise.data.partitioners.hashed import HashPartitioner
from shardwise.data.partitioners.positions import ByPiece
from shardwise.data.partitioners.remade import HotKeys, Remapped
from shardwise.testing.partitioners import PartitionerContract
from shardwise.testing.tables import people

TABLE = people(500)
BATCH = TABLE.combine_chunks().to_batches()[0]
TEXTS = pa.array([f"{a} red {b} box" if a % 9 else None for a, b in zip(range(500), range(500, 0, -1), strict=True)])
BATCH = BATCH.append_column("text", TEXTS)


def source(batch: pa.RecordBatch = BATCH, seed: int = 0) -> Source:
    def scan(columns):
        for start in range(0, batch.num_rows, 128):
            names = [name for name in batch.schema.names if name in columns]
            yield start, batch.select(names).slice(start, 128)

    return Source(schema=batch.schema, scan=scan, pieces=((0, batch.num_rows, 80_000),), count=4, seed=seed)


CONTENT = (
    "hash:city:4", "hash:city,household:7", "hash:age:3", "range:age:5", "range:since:4", "range:city:3", "range:id:6",
    "range:income:at=10000,30000", "range:city:at=M,P", "value:city", "value:bought", "year:since", "month:since",
    "day:since", "similar:age,city:5", "similar:*:4", "minhash:text:6", "balanced:household:4",
    "balanced:city:3:cost=spent", "balanced:household:speeds=2,1",
)  # fmt: skip
POSITION = ("roundrobin:5", "random:5", "rows:99", "bytes:20KB", "balanced:3", "balanced:3:cost=spent",
            "balanced:speeds=3,1")  # fmt: skip


@pytest.mark.parametrize("spec", CONTENT)
class TestByContent(PartitionerContract):
    @pytest.fixture(autouse=True)
    def _choose(self, spec: str) -> None:
        self.spec = spec

    def partitioner(self) -> Partitioner:
        return plan_partitioner([parse_spec(self.spec)], source())

    def batch(self) -> pa.RecordBatch:
        return BATCH


@pytest.mark.parametrize("spec", POSITION)
class TestByPosition(PartitionerContract):
    by_content = False

    @pytest.fixture(autouse=True)
    def _choose(self, spec: str) -> None:
        self.spec = spec

    def partitioner(self) -> Partitioner:
        return plan_partitioner([parse_spec(self.spec)], source())

    def batch(self) -> pa.RecordBatch:
        return BATCH


class TestNested(PartitionerContract):
    def partitioner(self) -> Partitioner:
        return plan_partitioner([parse_spec("year:since"), parse_spec("hash:city:3")], source())

    def batch(self) -> pa.RecordBatch:
        return BATCH


class TestHotKeys(PartitionerContract):
    by_content = False  # a salt is drawn by the number of the row

    def partitioner(self) -> Partitioner:
        keys = hash_rows(pa.record_batch({"city": ["Oslo", "Rome"]}), ["city"])
        return HotKeys(HashPartitioner(("city",), 4), ("city",), keys, [3, 1], ["Oslo", "Rome"])

    def batch(self) -> pa.RecordBatch:
        return BATCH


class TestRemapped(PartitionerContract):
    by_content = False

    def partitioner(self) -> Partitioner:
        return Remapped(HashPartitioner(("household",), 3), [0, 2, 2], [2, 1, 1])

    def batch(self) -> pa.RecordBatch:
        return BATCH


class TestByPiece(PartitionerContract):
    by_content = False

    def partitioner(self) -> Partitioner:
        return ByPiece([2, 0])

    def batch(self) -> pa.RecordBatch:
        return BATCH


@pytest.mark.parametrize("spec", [*CONTENT, *POSITION])
def test_the_same_seed_plans_the_same(spec: str) -> None:
    first, again = (plan_partitioner([parse_spec(spec)], source(seed=5)).to_json() for _ in range(2))
    assert first == again


@pytest.mark.parametrize("spec", ["hash:city:16", "random:16", "similar:age:4"])
def test_another_seed_plans_otherwise(spec: str) -> None:
    plans = [plan_partitioner([parse_spec(spec)], source(seed=seed)).assign(BATCH, 0) for seed in (0, 1)]
    assert not np.array_equal(plans[0], plans[1])
