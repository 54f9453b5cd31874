"""Folds of few rows: shared out so that each fold is scored and each class is learned, which chance alone may miss.

With 500 rows or more the hash of a row decides alone. With fewer, a hash may seal all rows of a rare class, or leave
none to be scored by: of several seeds of the hash that one is then taken whose folds are most alike. So a row's fold is
a function of the row still, and the same on any engine. Of fewer than 20 rows no row is sealed as a test: two or three
of them would tell nothing, and be missed in training; there the seed is always chosen.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from shardwise.core.errors import DataError, TargetError
from shardwise.core.seeds import derive_seed
from shardwise.data.hashing import HashedBatch
from shardwise.split.base import TEST
from shardwise.split.hashed import PositionSplitter, Shared

FEW_ROWS = 20
LEAST_ROWS = 4
MOST_FOLDS = 5
SPARSE_ROWS = 500
SEEDS, LEAST_SEEDS = 300, 20  # of which the best is taken: at most, and where rows are wide
HASHED_CELLS = 200_000  # of a row, over all seeds

S = TypeVar("S", bound=Shared)


def few_folds(column: str, labels: Sequence[str] | int) -> int:
    """How many folds there are for so few labelled rows: two to five, no more than the rarest class has rows that has
    two or more.

    `labels` are those of the rows of a classification, else the number of rows. Raises `DataError` for fewer than four,
    `TargetError` where fewer than two classes have two rows: one to learn from, one to be scored on.

    >>> few_folds("y", 10), few_folds("y", ["a"] * 8 + ["b"] * 2)
    (5, 2)
    """
    rows = labels if isinstance(labels, int) else len(labels)
    if rows < LEAST_ROWS:
        raise DataError(
            f"{rows} labelled rows are too few to train on and to be scored by",
            hint=f"It takes at least {LEAST_ROWS}, and of two classes two each.",
        )
    if isinstance(labels, int):
        return min(MOST_FOLDS, rows // 2)
    counts = dict(sorted(Counter(labels).items()))
    enough = [count for count in counts.values() if count >= 2]
    if len(enough) < 2:
        there = ", ".join(f"{count} of {label!r}" for label, count in counts.items())
        rare = min(counts, key=lambda label: (counts[label], label))
        raise TargetError(
            f"target {column!r} has {rows} labelled rows: {there}; two classes need at least two rows each, one to "
            "learn from and one to be scored on",
            hint=f"Give more rows, such as of {rare!r}, or join rare classes; for a number give --task regression.",
        )
    return min(MOST_FOLDS, rows // 2, *enough)


@dataclass(frozen=True)
class SmallTable:
    """All rows of a small dataset.

    `batches` come with the number of their first row; `classes` int64 `(rows,)` has the index of each row's class (0
    where there are none), and -1 without a label.
    """

    batches: Sequence[tuple[int, HashedBatch]]
    classes: np.ndarray

    @property
    def labelled(self) -> np.ndarray:
        """Classes of the rows that have a label."""
        return self.classes[self.classes >= 0]

    def folds(self, splitter: Shared) -> np.ndarray:
        """Fold numbers of the rows that have a label."""
        folds = [splitter.assign(each.batch, first_row, each.hashes) for first_row, each in self.batches]
        return np.concatenate([np.empty(0, np.int8), *folds])[self.classes >= 0]


def balanced(splitter: S, rows: SmallTable) -> S:
    """The splitter with that seed of several whose folds are most alike."""
    count = int(np.clip(HASHED_CELLS // max(1, len(splitter.columns)), LEAST_SEEDS, SEEDS))
    seeds = [derive_seed(splitter.seed, "few", number) for number in range(count)]
    layout = _Layout.of(splitter)
    return min((splitter.with_seed(seed) for seed in seeds), key=lambda tried: layout.judge(tried, rows).rank)


def balanced_few(splitter: Shared, rows: SmallTable, *, torn: bool) -> Shared:
    """The same for rows so few that each must count: where a fold would be empty or a class not be learned, as many
    rows have the same content, and copies may be `torn` apart, folds go by position."""
    best, layout = balanced(splitter, rows), _Layout.of(splitter)
    if not torn or not layout.judge(best, rows).flaws:
        return best
    placed = balanced(PositionSplitter(shares=splitter.shares, seed=splitter.seed), rows)
    return min(best, placed, key=lambda tried: layout.judge(tried, rows).rank)


def spared(splitter: S, rows: SmallTable) -> S | None:
    """The splitter with another seed, under which classes are learned and scored that are not under its own; None where
    there are none, or no seed is better."""
    layout = _Layout.of(splitter)
    lost = layout.judge(splitter, rows).lost
    if not lost:
        return None
    best = balanced(splitter, rows)
    return best if layout.judge(best, rows).lost < lost else None


class _Judged(NamedTuple):
    """How rows are shared out. `lost`: classes with two rows or more that no evaluation both learns and scores.
    `flaws`: these, classes that an evaluation does not learn, and empty folds. `distance`: squared, of the rows of each
    class in each fold from its share."""

    lost: int
    flaws: int
    distance: float

    @property
    def rank(self) -> tuple[int, float]:
        return self.flaws, self.distance


@dataclass(frozen=True)
class _Layout:
    """What the folds of a splitter are for, TEST first: their `shares` `(folds,)`; and whether each evaluation has them
    to `train` and as `valid`, `(evaluations, folds)`."""

    shares: np.ndarray
    train: np.ndarray
    valid: np.ndarray

    @classmethod
    def of(cls, splitter: Shared) -> "_Layout":
        shares, evaluations = splitter.expected(), splitter.folds()
        numbers = sorted(shares)
        train = np.array([np.isin(numbers, each.train) for each in evaluations])
        valid = np.array([np.isin(numbers, each.valid) for each in evaluations])
        return cls(np.array([shares[number] for number in numbers]), train, valid)

    def judge(self, splitter: Shared, rows: SmallTable) -> _Judged:
        """What comes of the rows under a splitter with these folds."""
        classes = 1 + int(rows.labelled.max(initial=0))
        place = (rows.folds(splitter).astype(np.int64) - TEST) * classes + rows.labelled
        counts = np.bincount(place, minlength=len(self.shares) * classes).reshape(-1, classes)
        sizes = counts.sum(axis=0)
        learned, scored = (members @ counts > 0 for members in (self.train, self.valid))
        lost = int((~(learned & scored).any(axis=0) & (sizes >= 2)).sum())
        empty = int(((counts.sum(axis=1) == 0) & (self.shares > 0)).sum())
        flaws = lost + empty + int((~learned & (sizes >= 2)).sum())
        return _Judged(lost, flaws, float(((counts - np.outer(self.shares, sizes)) ** 2).sum()))
