"""What every splitter must keep: subclass `SplitterContract`, say how to build one and on which rows."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa

from shardwise.split.base import TEST, Splitter
from shardwise.split.plan import splitter_from_json

_FRESH = """
import json, sys
import pyarrow as pa
from shardwise.split.plan import splitter_from_json
batch = pa.ipc.open_stream(sys.stdin.buffer).read_next_batch()
folds = splitter_from_json(json.loads(sys.argv[1])).assign(batch, 7)
print(json.dumps(folds.tolist()))
"""


class SplitterContract:
    """Laws of `split.base.Splitter`. `order_free`: the fold does not depend on where in the data the row is."""

    order_free = True

    def splitter(self) -> Splitter:
        raise NotImplementedError

    def batch(self) -> pa.RecordBatch:
        """Some hundred rows or more, with nulls where the splitter allows them."""
        raise NotImplementedError

    def test_fold_numbers_are_int8_and_known(self) -> None:
        splitter, batch = self.splitter(), self.batch()
        folds = splitter.assign(batch, 0)
        assert folds.dtype == np.int8
        assert folds.shape == (batch.num_rows,)
        known = {number for fold in splitter.folds() for number in fold.train + fold.valid}
        assert set(folds.tolist()) <= {TEST, *known}

    def test_reads_only_the_columns_that_it_names(self) -> None:
        splitter, batch = self.splitter(), self.batch()
        kept = list(splitter.columns) or batch.schema.names[:1]  # a batch without columns has no rows
        np.testing.assert_array_equal(splitter.assign(batch.select(kept), 5), splitter.assign(batch, 5))

    def test_batching_does_not_matter(self) -> None:
        splitter, batch = self.splitter(), self.batch()
        for size in (1, 7, 64):
            pieces = [
                splitter.assign(batch.slice(start, size), 100 + start) for start in range(0, batch.num_rows, size)
            ]
            np.testing.assert_array_equal(np.concatenate(pieces), splitter.assign(batch, 100))

    def test_order_of_rows_does_not_matter(self) -> None:
        if not self.order_free:
            return
        splitter, batch = self.splitter(), self.batch()
        order = np.random.default_rng(0).permutation(batch.num_rows)
        shuffled = batch.take(pa.array(order))
        np.testing.assert_array_equal(splitter.assign(shuffled, 10**6), splitter.assign(batch, 0)[order])

    def test_order_of_columns_does_not_matter(self) -> None:
        splitter, batch = self.splitter(), self.batch()
        turned = batch.select(batch.schema.names[::-1])
        np.testing.assert_array_equal(splitter.assign(turned, 0), splitter.assign(batch, 0))

    def test_an_empty_batch_has_no_folds(self) -> None:
        assert self.splitter().assign(self.batch().slice(0, 0), 0).shape == (0,)

    def test_no_evaluation_trains_on_what_it_validates(self) -> None:
        folds = self.splitter().folds()
        assert folds
        for fold in folds:
            assert fold.train
            assert fold.valid
            assert not {*fold.train} & {*fold.valid}
            assert TEST not in fold.train + fold.valid

    def test_no_fold_is_validated_twice(self) -> None:
        valid = [number for fold in self.splitter().folds() for number in fold.valid]
        assert len(valid) == len(set(valid))

    def test_no_row_sees_the_targets_of_its_own_fold(self) -> None:
        splitter = self.splitter()
        numbers = {number for fold in splitter.folds() for number in fold.train + fold.valid}
        for number in numbers | {TEST}:
            assert number not in splitter.visible(number)
            assert TEST not in splitter.visible(number)

    def test_validation_rows_see_nothing_beyond_what_trains(self) -> None:
        splitter = self.splitter()
        for fold in splitter.folds():
            for number in fold.valid:
                assert {*splitter.visible(number)} <= {*fold.train}

    def test_json_round_trip(self) -> None:
        splitter, batch = self.splitter(), self.batch()
        again = splitter_from_json(json.loads(json.dumps(splitter.to_json())))
        assert again.to_json() == splitter.to_json()
        assert again.folds() == splitter.folds()
        assert json.loads(json.dumps(again.sealed())) == json.loads(json.dumps(splitter.sealed()))
        np.testing.assert_array_equal(again.assign(batch, 3), splitter.assign(batch, 3))

    def test_a_fresh_process_decides_the_same(self) -> None:
        splitter, batch = self.splitter(), self.batch()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        command = [sys.executable, "-c", _FRESH, json.dumps(splitter.to_json())]
        done = subprocess.run(command, input=sink.getvalue().to_pybytes(), capture_output=True, check=True)  # noqa: S603
        assert json.loads(done.stdout) == splitter.assign(batch, 7).tolist()
