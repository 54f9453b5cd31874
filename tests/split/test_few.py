"""Few rows: each fold is scored, each class is learned, and what is impossible is told."""

import numpy as np
import pyarrow as pa
import pytest

from shardwise.core.errors import DataError, TargetError
from shardwise.split.few import balanced, few_folds
from shardwise.split.hashed import HashSplitter, Shares


def table(rows: int, seed: int) -> pa.Table:
    return pa.table({"x": np.random.default_rng(seed).normal(size=rows)})


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("labels", [None, ["a"] * 5 + ["b"] * 5, ["a"] * 8 + ["b"] * 2, list("aaaabbbcc")])
def test_each_fold_has_rows_and_each_class_is_learned(seed: int, labels: list[str] | None) -> None:
    rows = table(10 if labels is None else len(labels), seed)
    folds = few_folds("y", rows.num_rows if labels is None else labels)
    splitter = balanced(HashSplitter(["x"], shares=Shares(folds=3, test=0.0), seed=seed), rows, labels, folds)
    fold = splitter.assign(rows.to_batches()[0], 0)
    assert sorted(set(fold.tolist())) == list(range(folds)) == [each.valid[0] for each in splitter.folds()]
    for number in range(folds):
        assert set(np.array(labels or ["-"])[fold != number] if labels else "-") == set(labels or "-")
    order = np.random.default_rng(9).permutation(rows.num_rows)
    again = splitter.assign(rows.take(order).combine_chunks().to_batches()[0], 0)
    assert again.tolist() == fold[order].tolist()  # a function of the row


def test_a_test_that_is_asked_for_gets_rows() -> None:
    rows = table(12, 3)
    splitter = balanced(HashSplitter(["x"], shares=Shares(folds=3, test=0.25)), rows, None, 3)
    assert np.count_nonzero(splitter.assign(rows.to_batches()[0], 0) == -1) == 3


def test_what_cannot_be_learned_is_told() -> None:
    with pytest.raises(DataError, match="3 labelled rows"):
        few_folds("y", 3)
    with pytest.raises(TargetError, match="9 of 'a', 1 of 'b'; two classes need at least two rows each") as caught:
        few_folds("y", ["a"] * 9 + ["b"])
    assert "Give more rows, such as of 'b'" in caught.value.hint
