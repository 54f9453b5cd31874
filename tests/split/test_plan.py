"""Which split is chosen, and what is said of how it came out."""

import numpy as np
import pyarrow as pa
import pytest

from shardwise.core.errors import ConfigError, DataError
from shardwise.core.target import Target, Task
from shardwise.split.base import TEST
from shardwise.split.grouped import GroupSplitter
from shardwise.split.hashed import HashSplitter, PositionSplitter, Shares
from shardwise.split.plan import (
    SplitPlan,
    check_folds,
    check_training,
    choose_shares,
    choose_splitter,
    replanned,
    splitter_from_json,
)
from shardwise.split.temporal import TemporalSplitter

TIMES = np.arange(1000.0), np.ones(1000)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({}, HashSplitter),
        ({"key": ["id"]}, HashSplitter),
        ({"group": "g"}, GroupSplitter),
        ({"time_column": "t", "times": TIMES}, TemporalSplitter),
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


@pytest.mark.parametrize("rows", [10**8, 4 * 10**8, 10**9, 10**11])
def test_of_very_many_rows_as_many_are_sealed_and_validated(rows: int) -> None:
    shares = choose_shares(SplitPlan(rows=rows, features=["x"]))
    assert shares.holdout is not None
    assert shares.test * rows == pytest.approx(200_000, rel=0.05)
    assert shares.holdout * rows == pytest.approx(200_000, rel=0.05)


def test_of_a_billion_rows_by_time_the_latest_are_sealed_and_those_before_validate() -> None:
    times, each = np.sort(np.random.default_rng(0).normal(size=20_000)), 50_000
    plan = SplitPlan(rows=len(times) * each, features=["x"], time_column="t", times=(times, np.full(20_000, each)))
    splitter = choose_splitter(plan)
    fold = splitter.assign(pa.record_batch({"t": times}), 0)
    (evaluated,) = splitter.folds()
    for block in (TEST, *evaluated.valid):
        assert np.count_nonzero(fold == block) * each == pytest.approx(200_000, abs=each)


@pytest.mark.parametrize(("rows", "years"), [(110_000, 10), (900, 4), (5_000, 3), (300_000, 7)])
def test_of_few_different_times_no_block_is_empty(rows: int, years: int) -> None:
    year = np.sort(np.arange(rows) % years) + 2000
    plan = SplitPlan(rows=rows, features=["x"], time_column="year", times=(year, np.ones(rows)))
    splitter = choose_splitter(plan)
    fold = splitter.assign(pa.record_batch({"year": year}), 0)
    counts = {block: np.count_nonzero(fold == block) for block in (TEST, *splitter.folds()[-1].train)}
    counts |= {each.valid[0]: np.count_nonzero(fold == each.valid[0]) for each in splitter.folds()}
    assert min(counts.values()) >= rows // years
    assert set(year[fold == TEST]) == {2000 + years - 1}
    assert set(year[fold == splitter.folds()[-1].valid[0]]) == {2000 + years - 2}


@pytest.mark.parametrize(
    ("planned", "counted", "other"),
    [
        (30, 177_003, True),  # folds, and a hold-out
        (50_000, 90_000, False),
        (90_000, 110_000, False),  # near to where the plan changes either is as good
        (1_000_000, 200_000, False),
        (50_000_000, 200_000, True),  # 800 rows would be sealed
        (20, 19, True),  # of these none is sealed
        (1000, 1000, False),
    ],
)
def test_a_plan_is_changed_where_the_rows_are_far_from_what_was_expected(
    planned: int, counted: int, other: bool
) -> None:
    plan = SplitPlan(rows=planned, features=["x"])
    assert replanned(plan, counted) == (SplitPlan(rows=counted, features=["x"]) if other else plan)
    asked = SplitPlan(rows=planned, features=["x"], folds=3, test_share=0.2)
    assert replanned(asked, counted) == asked  # what is asked for is the same for any rows


def test_rows_that_are_too_few_are_refused_when_they_are_counted() -> None:
    with pytest.raises(DataError, match="3 rows"):
        replanned(SplitPlan(rows=20, features=["x"]), 3)


def test_a_split_without_a_row_that_is_scored_is_refused() -> None:
    splitter = GroupSplitter("shop", shares=Shares(holdout=0.2))
    check_training({TEST: 10, 0: 5, 2: 30}, splitter)
    with pytest.raises(DataError, match=r"no row .* scored.*'shop'"):
        check_training({TEST: 10, 2: 30}, splitter)


def test_what_is_asked_for_stands() -> None:
    folds = choose_shares(SplitPlan(rows=10**6, features=["x"], folds=3, test_share=0.3))
    assert (folds.folds, folds.test, folds.holdout) == (3, 0.3, None)
    assert choose_shares(SplitPlan(rows=1000, features=["x"], valid_share=0.25)).holdout == 0.25


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"rows": 3}, DataError),
        ({"rows": 10, "group": "g"}, DataError),
        ({"rows": 10, "time_column": "t", "times": TIMES}, DataError),
        ({"group": "g", "time_column": "t", "times": TIMES}, ConfigError),
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
