"""Conformance kit for summaries.

Subclass `SummaryConformance` in a test module and say how to make an empty summary, which batches it may be given, and
when two results agree within the error that the summary states:

    class TestMoments(SummaryConformance):
        def make(self):
            return Moments("x")

        def batch(self, rows, seed):
            return pa.record_batch({"x": np.random.default_rng(seed).normal(size=rows)})

        def check_agree(self, found, whole):
            assert found == pytest.approx(whole)
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shardwise.core.state import dump_state, load_state
from shardwise.stats.base import Summary

_SIZES = ((0,), (1,), (2, 1), (0, 100, 0), (100, 7, 1, 100), (3000, 0, 1, 3000), (3000, 3000, 100, 3000, 3000))
_CUTS = [(sizes, seed) for seed in (0, 1) for sizes in _SIZES]


class SummaryConformance(ABC):
    """The laws of `stats.base.Summary`."""

    @abstractmethod
    def make(self) -> Any:
        """An empty summary."""

    @abstractmethod
    def batch(self, rows: int, seed: int) -> pa.RecordBatch:
        """A batch of random rows, with missing values where the summary allows them."""

    @abstractmethod
    def check_agree(self, found: Any, whole: Any) -> None:
        """Assert that two results of the same rows agree within the stated error."""

    def gathered(self, batches: Sequence[pa.RecordBatch]) -> Any:
        """A summary of batches, one after the other."""
        summary = self.make()
        for batch in batches:
            summary.update(batch)
        return summary

    @pytest.mark.parametrize(("sizes", "seed"), _CUTS)
    def test_the_merge_of_parts_is_the_summary_of_the_whole(self, sizes: Sequence[int], seed: int) -> None:
        batches = self._batches(sizes, seed)
        merged = self.make()
        for batch in batches:
            merged.merge(self.gathered([batch]))
        self.check_agree(merged.result(), self.gathered([self._joined(batches)]).result())

    @pytest.mark.parametrize(("sizes", "seed"), _CUTS)
    def test_where_batches_are_cut_has_no_say(self, sizes: Sequence[int], seed: int) -> None:
        batches = self._batches(sizes, seed)
        self.check_agree(self.gathered(batches).result(), self.gathered([self._joined(batches)]).result())

    @pytest.mark.parametrize(("sizes", "seed"), _CUTS)
    def test_the_order_of_batches_has_no_say(self, sizes: Sequence[int], seed: int) -> None:
        batches = self._batches(sizes, seed)
        self.check_agree(self.gathered(batches[::-1]).result(), self.gathered(batches).result())

    @pytest.mark.parametrize(("sizes", "seed"), _CUTS)
    def test_a_state_restores_the_summary_and_goes_on_like_it(self, sizes: Sequence[int], seed: int) -> None:
        batches = self._batches(sizes, seed)
        summary = self.gathered(batches)
        restored = self._restored(summary)
        assert _bytes(restored) == _bytes(summary)
        self.check_agree(restored.result(), summary.result())
        for other in (summary, restored):
            other.update(batches[0])
        assert _bytes(restored) == _bytes(summary)

    def test_an_empty_summary_changes_nothing(self) -> None:
        summary = self.gathered(self._batches([100, 3000], 1))
        before = _bytes(summary)
        summary.merge(self.make())
        assert _bytes(summary) == before
        empty = self.make()
        empty.merge(summary)
        self.check_agree(empty.result(), summary.result())
        assert _bytes(self._restored(self.make())) == _bytes(self.make())

    def test_an_empty_batch_changes_nothing(self) -> None:
        summary = self.gathered(self._batches([100], 2))
        before = _bytes(summary)
        summary.update(self.batch(0, 2))
        assert _bytes(summary) == before

    def test_the_same_rows_give_the_same_bytes(self) -> None:
        sizes = [3000, 3000, 7]
        assert _bytes(self.gathered(self._batches(sizes, 3))) == _bytes(self.gathered(self._batches(sizes, 3)))

    def test_a_merge_leaves_the_other_alone(self) -> None:
        parts = [self.gathered(self._batches([3000], seed)) for seed in (4, 5)]
        before = _bytes(parts[1])
        parts[0].merge(parts[1])
        parts[0].update(self.batch(3000, 6))
        assert _bytes(parts[1]) == before

    def _batches(self, sizes: Sequence[int], seed: int) -> list[pa.RecordBatch]:
        seeds = np.random.default_rng(seed).integers(0, 2**31, len(sizes)).tolist()
        return [self.batch(rows, each) for rows, each in zip(sizes, seeds, strict=True)]

    def _joined(self, batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
        whole = pa.Table.from_batches(batches).combine_chunks().to_batches()
        return whole[0] if whole else self.batch(0, 0)

    def _restored(self, summary: Summary) -> Any:
        return type(summary).from_state(load_state(dump_state(summary.state())))


def _bytes(summary: Summary) -> bytes:
    return dump_state(summary.state())
