"""Splits by hash: shares, nesting, keys."""

import numpy as np
import pyarrow as pa
import pytest

from shardwise.core.errors import ConfigError, SchemaError
from shardwise.split.base import TEST, Splitter
from shardwise.split.hashed import HashSplitter, PositionSplitter, Shares
from shardwise.testing.splitters import SplitterContract


def table(rows: int = 500) -> pa.RecordBatch:
    rng = np.random.default_rng(3)
    names = pa.array([None if i % 17 == 0 else f"n{i}" for i in range(rows)])
    return pa.record_batch({"id": np.arange(rows), "x": rng.normal(size=rows), "name": names})


class TestHashFolds(SplitterContract):
    def splitter(self) -> Splitter:
        return HashSplitter(["id", "name"], shares=Shares(folds=5, test=0.2), seed=1)

    def batch(self) -> pa.RecordBatch:
        return table()


class TestHashHoldout(SplitterContract):
    def splitter(self) -> Splitter:
        return HashSplitter(["id"], shares=Shares(test=0.1, holdout=0.3))

    def batch(self) -> pa.RecordBatch:
        return table()


class TestPosition(SplitterContract):
    order_free = False

    def splitter(self) -> Splitter:
        return PositionSplitter(shares=Shares(folds=3), seed=9)

    def batch(self) -> pa.RecordBatch:
        return table()


@pytest.mark.parametrize(
    "shares", [Shares(folds=8, test=0.2), Shares(test=0.05, holdout=0.15), Shares(folds=2, test=0)]
)
@pytest.mark.parametrize("make", [lambda s: HashSplitter(["id"], shares=s), lambda s: PositionSplitter(shares=s)])
def test_shares_are_within_binomial_bounds(shares: Shares, make) -> None:
    rows = 40_000
    folds = make(shares).assign(table(rows), 0)
    for fold, share in shares.expected().items():
        assert abs((folds == fold).sum() - share * rows) <= 5 * np.sqrt(rows * share * (1 - share)) + 1e-9
    assert sum(shares.expected().values()) == pytest.approx(1)


def test_test_rows_do_not_depend_on_the_number_of_folds() -> None:
    batch = table(3000)
    sealed = [
        HashSplitter(["id"], shares=shares).assign(batch, 0) == TEST
        for shares in (Shares(folds=3), Shares(folds=8), Shares(holdout=0.2))
    ]
    np.testing.assert_array_equal(sealed[0], sealed[1])
    np.testing.assert_array_equal(sealed[0], sealed[2])


def test_the_seed_and_the_key_decide() -> None:
    batch = table(2000)
    first = HashSplitter(["id"], seed=0).assign(batch, 0)
    assert (first != HashSplitter(["id"], seed=1).assign(batch, 0)).mean() > 0.5
    assert (first != HashSplitter(["x"], seed=0).assign(batch, 0)).mean() > 0.5


def test_a_key_is_the_same_whatever_its_type() -> None:
    whole = pa.record_batch({"id": pa.array(range(100), pa.int32())})
    other = pa.record_batch({"id": pa.array([float(i) for i in range(100)])})
    np.testing.assert_array_equal(HashSplitter(["id"]).assign(whole, 0), HashSplitter(["id"]).assign(other, 0))


def test_copies_of_a_row_stay_together() -> None:
    batch = pa.record_batch({"a": [1, 2, 3] * 50, "b": ["x", "y", None] * 50})
    folds = HashSplitter(["a", "b"]).assign(batch, 0).reshape(50, 3)
    assert (folds == folds[0]).all()


def test_holdout_trains_on_the_other_folds_and_encodes_out_of_fold() -> None:
    splitter = HashSplitter(["id"], shares=Shares(holdout=0.2))
    (fold,) = splitter.folds()
    assert fold.valid == (0,)
    assert splitter.visible(0) == splitter.visible(TEST) == fold.train == (1, 2, 3, 4)
    assert splitter.visible(2) == (1, 3, 4)


def test_k_folds_let_the_final_model_see_all() -> None:
    splitter = HashSplitter(["id"], shares=Shares(folds=4))
    assert splitter.visible(TEST) == (0, 1, 2, 3)
    assert splitter.visible(1) == (0, 2, 3)


@pytest.mark.parametrize(
    "bad", [{"folds": 1}, {"folds": 101}, {"folds": 2.5}, {"test": 1.0}, {"test": -0.1}, {"holdout": 2}]
)
def test_impossible_shares_are_refused(bad) -> None:
    with pytest.raises(ConfigError):
        Shares(**bad)


def test_no_key_and_a_missing_key_are_refused() -> None:
    with pytest.raises(ConfigError, match="no column"):
        HashSplitter([])
    with pytest.raises(SchemaError, match="'gone'"):
        HashSplitter(["gone"]).assign(table(), 0)
