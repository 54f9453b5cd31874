"""What every partitioner must keep: subclass `PartitionerContract`, say how to build one and on which rows."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa

from shardwise.data.base import Partitioner
from shardwise.data.partitioners import partitioner_from_json

_FRESH = """
import json, sys
import pyarrow as pa
from shardwise.data.partitioners import partitioner_from_json
content = sys.stdin.buffer.read()
size = int(content[:12])
batch = pa.ipc.open_stream(content[12 + size:]).read_next_batch()
found = partitioner_from_json(json.loads(content[12:12 + size])).assign(batch, 7)
print(json.dumps(found.tolist()))
"""


class PartitionerContract:
    """Laws of `data.base.Partitioner`.

    by_content   the partition depends on the row alone, and not on where in the data it is
    """

    by_content = True

    def partitioner(self) -> Partitioner:
        raise NotImplementedError

    def batch(self) -> pa.RecordBatch:
        """Some hundred rows or more, with nulls in the key."""
        raise NotImplementedError

    def test_each_row_gets_exactly_one_partition_that_exists(self) -> None:
        partitioner, batch = self.partitioner(), self.batch()
        numbers = partitioner.assign(batch, 0)
        assert numbers.dtype == np.int32
        assert numbers.shape == (batch.num_rows,)
        assert numbers.min() >= 0
        assert numbers.max() < partitioner.count

    def test_reads_only_the_columns_that_it_names(self) -> None:
        partitioner, batch = self.partitioner(), self.batch()
        kept = list(partitioner.columns) or batch.schema.names[:1]  # a batch without columns has no rows
        np.testing.assert_array_equal(partitioner.assign(batch.select(kept), 5), partitioner.assign(batch, 5))

    def test_cutting_the_batches_elsewhere_changes_nothing(self) -> None:
        partitioner, batch = self.partitioner(), self.batch()
        for size in (1, 7, 64):
            pieces = [
                partitioner.assign(batch.slice(start, size), 100 + start) for start in range(0, batch.num_rows, size)
            ]
            np.testing.assert_array_equal(np.concatenate(pieces), partitioner.assign(batch, 100))

    def test_order_of_rows_does_not_matter_where_content_decides(self) -> None:
        if not self.by_content:
            return
        partitioner, batch = self.partitioner(), self.batch()
        order = np.random.default_rng(0).permutation(batch.num_rows)
        turned = partitioner.assign(batch.take(pa.array(order)), 1 << 20)
        np.testing.assert_array_equal(turned, partitioner.assign(batch, 0)[order])

    def test_a_dictionary_column_goes_where_the_plain_one_goes(self) -> None:
        partitioner, batch = self.partitioner(), self.batch()
        encoded = pa.record_batch({
            name: column.dictionary_encode() if pa.types.is_string(column.type) else column
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        })  # fmt: skip
        np.testing.assert_array_equal(partitioner.assign(encoded, 3), partitioner.assign(batch, 3))

    def test_an_empty_batch_has_no_partitions(self) -> None:
        assert self.partitioner().assign(self.batch().slice(0, 0), 0).shape == (0,)

    def test_null_keys_and_one_hot_key_are_survived(self) -> None:
        partitioner, batch = self.partitioner(), self.batch()
        nulls = pa.record_batch({field.name: pa.nulls(50, field.type) for field in batch.schema}, schema=batch.schema)
        hot = batch.take(pa.array([0] * 50))
        for rows in (nulls, hot):
            numbers = partitioner.assign(rows, 0)
            assert numbers.min() >= 0
            assert numbers.max() < partitioner.count
            if self.by_content:
                assert len(set(numbers.tolist())) == 1

    def test_labels_are_distinct(self) -> None:
        partitioner = self.partitioner()
        labels = [partitioner.label(number) for number in range(partitioner.count)]
        assert all(labels)
        assert len(set(labels)) == len(labels)

    def test_json_round_trip(self) -> None:
        partitioner, batch = self.partitioner(), self.batch()
        again = partitioner_from_json(json.loads(json.dumps(partitioner.to_json())))
        assert again.to_json() == partitioner.to_json()
        assert (again.count, again.columns) == (partitioner.count, partitioner.columns)
        np.testing.assert_array_equal(again.assign(batch, 3), partitioner.assign(batch, 3))

    def test_a_fresh_process_decides_the_same(self) -> None:
        partitioner, batch = self.partitioner(), self.batch()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        text = json.dumps(partitioner.to_json()).encode()
        given = f"{len(text):012}".encode() + text + sink.getvalue().to_pybytes()
        done = subprocess.run([sys.executable, "-c", _FRESH], input=given, capture_output=True, check=True)  # noqa: S603
        assert json.loads(done.stdout) == partitioner.assign(batch, 7).tolist()
