"""Which split is chosen, and what is said of how it came out."""

import numpy as np
import pytest

from shardwise.core.errors import ConfigError, DataError
from shardwise.core.target import Target, Task
from shardwise.split.base import TEST
from shardwise.split.grouped import GroupSplitter
from shardwise.split.hashed import HashSplitter, PositionSplitter
from shardwise.split.plan import SplitPlan, check_folds, choose_shares, choose_splitter, splitter_from_json
from shardwise.split.temporal import TemporalSplitter


def quantiles(ranks: np.ndarray) -> np.ndarray:
    return np.quantile(np.arange(1000.0), ranks)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({}, HashSplitter),
        ({"key": ["id"]}, HashSplitter),
        ({"group": "g"}, GroupSplitter),
        ({"time_column": "t", "times": quantiles}, TemporalSplitter),
        ({"copies": 0.9}, PositionSplitter),
        ({"features": []}, PositionSplitter),
    ],
)
def test_the_data_decides(given, kind) -> None:
    splitter = choose_splitter(SplitPlan(**{"rows": 5000, "features": ["x"], **given}))
    assert isinstance(splitter, kind)


def test_the_number_of_rows_decides_the_folds() -> None:
    def shape(rows: int) -> tuple[int, float | None]:
        shares = choose_shares(SplitPlan(rows=rows, features=["x"]))
        return shares.folds, shares.holdout

    assert [shape(rows)[0] for rows in (50, 300, 1000, 50_000)] == [3, 5, 8, 5]
    assert shape(1_000_000)[1] == pytest.approx(0.045)
    for rows in (100_000, 1_000_000, 50_000_000):
        shares = choose_shares(SplitPlan(rows=rows, features=["x"]))
        assert 5_000 <= shares.test * rows <= 210_000
        assert shares.holdout is not None
        assert 5_000 <= shares.holdout * rows <= 210_000


def test_what_is_asked_for_stands() -> None:
    folds = choose_shares(SplitPlan(rows=10**6, features=["x"], folds=3, test_share=0.3))
    assert (folds.folds, folds.test, folds.holdout) == (3, 0.3, None)
    assert choose_shares(SplitPlan(rows=1000, features=["x"], valid_share=0.25)).holdout == 0.25


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"rows": 3}, DataError),
        ({"rows": 10, "group": "g"}, DataError),
        ({"rows": 10, "time_column": "t", "times": quantiles}, DataError),
        ({"group": "g", "time_column": "t", "times": quantiles}, ConfigError),
        ({"time_column": "t"}, ConfigError),
    ],
)
def test_what_cannot_be_split_is_refused(given, error) -> None:
    with pytest.raises(error):
        choose_splitter(SplitPlan(**{"rows": 5000, "features": ["x"], **given}))


def test_an_unknown_splitter_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="hash, group, position, temporal"):
        splitter_from_json({"kind": "magic"})


def test_even_folds_give_no_finding() -> None:
    target = Target(column="y", task=Task.BINARY, classes=("a", "b"))
    counts = {TEST: [100, 90], 0: [200, 190], 1: [210, 200]}
    assert check_folds(counts, target=target, expected={TEST: 0.2, 0: 0.4, 1: 0.4}) == []


def test_folds_that_came_out_badly_are_named() -> None:
    target = Target(column="y", task=Task.MULTICLASS, classes=("a", "b", "c"))
    counts = {TEST: [100, 90, 3], 0: [800, 190, 0], 1: [0, 0, 0]}
    found = {f.code: f for f in check_folds(counts, target=target, expected={0: 0.4, 1: 0.4})}
    assert set(found) == {"empty_fold", "uneven_fold", "class_absent"}
    assert found["empty_fold"].text == "Fold 1 has no rows."
    assert found["uneven_fold"].text == "Fold 0 has 990 rows where 473 were meant."
    assert found["class_absent"].text == "Fold 0 has no row of c."


def test_many_folds_without_many_classes_are_one_finding() -> None:
    target = Target(column="y", task=Task.MULTICLASS, classes=tuple("abcdefg"))
    counts = {fold: [1, 1, 1, 1, 1, 1, 0] for fold in range(8)}
    (found,) = check_folds({TEST: [1, 0, 0, 0, 0, 0, 0], **counts}, target=target)
    assert found.text.startswith("The test fold has no row of b, c, d, e, and 2 more; fold 0 has no row of g;")
    assert found.text.endswith("and 5 more.")
    assert found.evidence["folds"] == [TEST, *range(8)]


def test_counts_of_rows_alone_will_do() -> None:
    assert [f.code for f in check_folds({TEST: 10, 0: 0, 1: 20})] == ["empty_fold"]
    assert check_folds({}) == []
