"""Few rows: each fold is scored, each class is learned, and what is impossible is told."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from shardwise.core.errors import DataError, TargetError
from shardwise.data.hashing import HashedBatch
from shardwise.split.base import TEST
from shardwise.split.few import SmallTable, balanced, balanced_few, few_folds, spared
from shardwise.split.grouped import GroupSplitter
from shardwise.split.hashed import HashSplitter, PositionSplitter, Shared, Shares


def table(rows: int, seed: int) -> pa.Table:
    return pa.table({"x": np.random.default_rng(seed).normal(size=rows)})


def small(table: pa.Table, labels: Sequence[str | None] | None = None) -> SmallTable:
    """The rows in two batches, the second of another file."""
    batches = [(at, HashedBatch.of(table.slice(skip, rows).combine_chunks().to_batches()[0]))
               for at, skip, rows in ((0, 0, 3), (1 << 40, 3, table.num_rows - 3))]  # fmt: skip
    names = sorted({label for label in labels or [] if label is not None})
    classes = [-1 if label is None else names.index(label) for label in labels or []] or [0] * table.num_rows
    return SmallTable(batches, np.array(classes))


def hashed(folds: int = 3, seed: int = 0, test: float = 0.0) -> HashSplitter:
    return HashSplitter(["x"], shares=Shares(folds=folds, test=test), seed=seed)


def scored_and_learned(splitter: Shared, rows: SmallTable) -> bool:
    """Whether each class is scored by a model that has learned it."""
    folds, classes = rows.folds(splitter), rows.labelled
    return all(
        any(
            (kind == classes[np.isin(folds, each.train)]).any() and (kind == classes[np.isin(folds, each.valid)]).any()
            for each in splitter.folds()
        )
        for kind in set(classes.tolist())
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("labels", [None, ["a"] * 5 + ["b"] * 5, ["a"] * 8 + ["b"] * 2, list("aaaabbbcc")])
def test_each_fold_has_rows_and_each_class_is_learned(seed: int, labels: list[str] | None) -> None:
    rows = table(10 if labels is None else len(labels), seed)
    folds = few_folds("y", rows.num_rows if labels is None else labels)
    splitter = balanced_few(hashed(folds, seed), small(rows, labels), torn=True)
    fold = splitter.assign(rows.to_batches()[0], 0)
    assert sorted(set(fold.tolist())) == list(range(folds)) == [each.valid[0] for each in splitter.folds()]
    for number in range(folds):
        assert set(np.array(labels or ["-"])[fold != number] if labels else "-") == set(labels or "-")
    order = np.random.default_rng(9).permutation(rows.num_rows)
    again = splitter.assign(rows.take(order).combine_chunks().to_batches()[0], 0)
    assert again.tolist() == fold[order].tolist()  # a function of the row


def test_a_test_that_is_asked_for_gets_rows() -> None:
    rows = table(12, 3)
    splitter = balanced(hashed(test=0.25), small(rows))
    assert np.count_nonzero(splitter.assign(rows.to_batches()[0], 0) == TEST) == 3


def test_what_cannot_be_learned_is_told() -> None:
    with pytest.raises(DataError, match="3 labelled rows"):
        few_folds("y", 3)
    with pytest.raises(TargetError, match="9 of 'a', 1 of 'b'; two classes need at least two rows each") as caught:
        few_folds("y", ["a"] * 9 + ["b"])
    assert "Give more rows, such as of 'b'" in caught.value.hint


@pytest.mark.parametrize("labels", [list("ab" * 5), None, [*"ab" * 4, None, None]])
def test_rows_of_two_contents_are_split_by_position(labels: list[str | None] | None) -> None:
    rows = small(pa.table({"x": [0, 1] * 5}), labels)
    splitter = balanced_few(hashed(4), rows, torn=True)
    assert isinstance(splitter, PositionSplitter)
    assert set(rows.folds(splitter).tolist()) == set(range(4))
    assert scored_and_learned(splitter, rows) or labels is None


def test_rows_of_one_key_are_not_torn_apart() -> None:
    rows = small(pa.table({"x": [0, 1] * 5}), list("ab" * 5))
    assert isinstance(balanced_few(hashed(5), rows, torn=False), HashSplitter)


def rare(seed: int) -> SmallTable:
    """30 rows, two of them of a rare class."""
    return small(table(30, seed), ["b"] * 2 + ["a"] * 28)


@pytest.mark.parametrize("kind", ["hash", "group", "position"])
@pytest.mark.parametrize("shares", [Shares(folds=3, test=0.2), Shares(holdout=0.4, test=0.1)])
def test_a_rare_class_is_learned_and_scored_under_any_seed(kind: str, shares: Shares) -> None:
    other = 0
    for seed in range(10):
        splitter: Shared = {
            "hash": HashSplitter(["x"], shares=shares, seed=seed),
            "group": GroupSplitter("x", shares=shares, seed=seed),
            "position": PositionSplitter(shares=shares, seed=seed),
        }[kind]  # fmt: skip
        rows = rare(seed)
        found = spared(splitter, rows)
        assert (found is None) == scored_and_learned(splitter, rows)  # what is well stays as it is
        assert scored_and_learned(found or splitter, rows)
        other += found is not None
    assert 0 < other < 10


def test_a_class_that_no_seed_helps_changes_nothing() -> None:
    rows = small(pa.table({"x": [0.0, 0.0, *range(1, 29)]}), ["b"] * 2 + ["a"] * 28)  # both in one fold under any seed
    assert all(spared(hashed(seed=seed), rows) is None for seed in range(5))
