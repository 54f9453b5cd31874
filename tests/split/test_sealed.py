"""Of a splitter is said which rows it seals: the same for any folds of the others, and however many are sealed."""

import pytest

from shardwise.split.base import Splitter
from shardwise.split.given import ColumnSplitter
from shardwise.split.grouped import GroupSplitter
from shardwise.split.hashed import HashSplitter, PositionSplitter, Shares
from shardwise.split.temporal import TemporalSplitter

SHARES = Shares(folds=3), Shares(folds=5), Shares(holdout=0.2), Shares(folds=5, test=0.07)
SAME = [
    [HashSplitter(["a"], shares=shares) for shares in SHARES],
    [PositionSplitter(shares=shares) for shares in SHARES],
    [GroupSplitter("a", shares=shares) for shares in SHARES],
    [TemporalSplitter("a", (1.0, 2.0, 5.0)), TemporalSplitter("a", (3.0, 5.0)), TemporalSplitter("a", (3.0, 6.0), 1)],
    [ColumnSplitter("a", 3), ColumnSplitter("a", 5)],
]  # fmt: skip
OTHER: list[Splitter] = [
    HashSplitter(["b"]), HashSplitter(["a"], seed=1), PositionSplitter(seed=1), GroupSplitter("b"),
    TemporalSplitter("b", (3.0, 5.0)), ColumnSplitter("b", 3),
]  # fmt: skip


@pytest.mark.parametrize("splitters", SAME, ids=lambda splitters: splitters[0].kind)
def test_folds_of_the_open_rows_do_not_change_what_is_sealed(splitters: list[Splitter]) -> None:
    assert all(splitter.sealed() == splitters[0].sealed() for splitter in splitters)


def test_another_test_is_told_apart() -> None:
    told = [splitter.sealed() for splitter in [*OTHER, *(same[0] for same in SAME)]]
    assert all(first != second for place, first in enumerate(told) for second in told[:place])
