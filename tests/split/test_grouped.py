"""Splits by group: a group never straddles."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardwise.core.errors import SchemaError
from shardwise.split.base import Splitter
from shardwise.split.grouped import GroupSplitter
from shardwise.split.hashed import Shares
from shardwise.testing.splitters import SplitterContract


def visits(rows: int = 400) -> pa.RecordBatch:
    who = np.random.default_rng(0).integers(0, 60, rows)
    return pa.record_batch({"who": pa.array([None if w == 7 else f"p{w}" for w in who]), "day": np.arange(rows)})


class TestGroupWithKey(SplitterContract):
    def splitter(self) -> Splitter:
        return GroupSplitter("who", key=["day"], shares=Shares(folds=4), seed=2)

    def batch(self) -> pa.RecordBatch:
        return visits()


class TestGroupByPosition(SplitterContract):
    order_free = False

    def splitter(self) -> Splitter:
        return GroupSplitter("who", shares=Shares(holdout=0.2))

    def batch(self) -> pa.RecordBatch:
        return visits()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(0, 20)), min_size=1, max_size=200), st.integers(0, 5))
def test_a_group_never_straddles(groups: list[int | None], seed: int) -> None:
    batch = pa.record_batch({"g": pa.array(groups, pa.int64())})
    folds = GroupSplitter("g", seed=seed).assign(batch, 1000)
    for group in {g for g in groups if g is not None}:
        own = [fold for fold, g in zip(folds, groups, strict=True) if g == group]
        assert len(set(own)) == 1


def test_rows_without_a_group_are_spread() -> None:
    batch = pa.record_batch({"g": pa.nulls(2000, pa.float64()), "id": np.arange(2000)})
    for splitter in (GroupSplitter("g"), GroupSplitter("g", key=["id"])):
        assert len(np.unique(splitter.assign(batch, 0))) == 6


def test_nan_is_no_group() -> None:
    batch = pa.record_batch({"g": pa.array([float("nan")] * 500)})
    assert len(np.unique(GroupSplitter("g").assign(batch, 0))) == 6


def test_a_missing_group_column_is_named() -> None:
    with pytest.raises(SchemaError, match="'team'"):
        GroupSplitter("team").assign(visits(), 0)
