"""Folds that are decided beforehand, and small data dealt into them."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardwise.core.errors import ConfigError, DataError, SchemaError, ShardwiseError
from shardwise.split.base import TEST, Splitter
from shardwise.split.given import ColumnSplitter, deal
from shardwise.split.plan import SplitPlan, choose_splitter
from shardwise.testing.splitters import SplitterContract


def rows(*folds: object) -> pa.RecordBatch:
    return pa.record_batch({"fold": pa.array(folds), "x": np.arange(len(folds))})


class TestColumn(SplitterContract):
    def splitter(self) -> Splitter:
        return ColumnSplitter("fold", 5)

    def batch(self) -> pa.RecordBatch:
        return rows(*np.random.default_rng(0).integers(-1, 5, 300).tolist())


def test_a_row_is_in_the_fold_that_its_column_says() -> None:
    assert ColumnSplitter("fold", 3).assign(rows(2, TEST, 0), 0).tolist() == [2, TEST, 0]


@pytest.mark.parametrize(
    ("batch", "error", "words"),
    [
        (rows(0, 3), DataError, "holds 3.*row 8.*0 to 2"),
        (rows(-2), DataError, "holds -2"),
        (rows(0, None), DataError, "holds None"),
        (rows(0.0, 1.0), DataError, "double"),
        (pa.record_batch({"x": [1]}), SchemaError, "'fold'"),
    ],
)
def test_what_is_no_fold_is_refused(batch: pa.RecordBatch, error: type[ShardwiseError], words: str) -> None:
    with pytest.raises(error, match=words):
        ColumnSplitter("fold", 3).assign(batch, 7)


@pytest.mark.parametrize(
    "changes", [{"folds": None}, {"folds": 1}, {"group": "x"}, {"key": ["x"]}, {"test_share": 0.1}]
)
def test_given_folds_need_their_number_and_nothing_else(changes: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"rows": 5, "features": ["x"], "fold_column": "fold", "folds": 2}
    assert isinstance(choose_splitter(SplitPlan(**asked)), ColumnSplitter)
    with pytest.raises(ConfigError):
        choose_splitter(SplitPlan(**{**asked, **changes}))


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=2, max_size=80), st.integers(2, 6))
def test_dealt_folds_are_even_and_hold_groups_together(pairs: list[tuple[int, int]], folds: int) -> None:
    groups, y = np.array(pairs, np.uint64).T
    fold = deal(groups, y, folds)
    distinct = len(np.unique(groups))
    used, sizes = np.unique(fold, return_counts=True)
    assert fold.dtype == np.int8
    assert used.tolist() == list(range(min(folds, distinct if distinct > 1 else len(groups))))
    if distinct == 1:
        assert np.ptp(sizes) <= 1
        return
    owner = {(group, number) for group, number in zip(groups.tolist(), fold.tolist(), strict=True)}
    assert len(owner) == distinct
    per_fold = np.bincount([number for _, number in owner])
    assert np.ptp(per_fold) <= 1


def test_classes_are_dealt_evenly() -> None:
    y = np.repeat([0, 1, 2], [100, 40, 8])
    fold = deal(np.arange(148, dtype=np.uint64), y, 4)
    counts = np.array([[((fold == number) & (y == label)).sum() for label in range(3)] for number in range(4)])
    assert np.ptp(counts, axis=0).max() <= 2


def test_dealing_does_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(1)
    groups, y = rng.permutation(60).astype(np.uint64), rng.normal(size=60)
    order = rng.permutation(60)
    np.testing.assert_array_equal(deal(groups[order], y[order], 4), deal(groups, y, 4)[order])
