"""Folds of few rows: shared out so that each fold is scored and each class is learned, which chance alone may miss.

With twenty rows or more the hash of a row decides alone. With fewer, many hashes would leave a fold empty, or a rare
class out of what is trained on: of several seeds of the hash that one is taken whose folds are most alike. So a row's
fold is a function of the row still, and the same on any engine. No row is sealed as a test then: two or three of them
would tell nothing, and be missed in training.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from shardwise.core.errors import DataError, TargetError
from shardwise.core.seeds import derive_seed
from shardwise.split.hashed import HashSplitter, Shares

FEW_ROWS = 20
LEAST_ROWS = 4
MOST_FOLDS = 5
SEEDS = 300


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


def balanced(splitter: HashSplitter, rows: pa.Table, labels: Sequence[str] | None, folds: int | None) -> HashSplitter:
    """The splitter with that seed of several whose folds are most alike: on `rows` with their `labels` `(rows,)` of a
    classification. `folds`: that many, in the place of its own."""
    shares = splitter.shares if folds is None else Shares(folds=folds, test=splitter.shares.test)
    classes = np.unique(list(labels), return_inverse=True)[1] if labels else np.zeros(rows.num_rows, np.int64)
    batch = rows.select(list(splitter.columns)).combine_chunks().to_batches()[0]
    best: tuple[float, HashSplitter] | None = None
    for number in range(SEEDS):
        seed = derive_seed(splitter.seed, "few", number)
        tried = HashSplitter(splitter.columns, shares=shares, seed=seed)
        found = _unevenness(tried, tried.assign(batch, 0), classes)
        if best is None or found < best[0]:
            best = found, tried
    assert best is not None
    return best[1]


def _unevenness(splitter: HashSplitter, fold: np.ndarray, classes: np.ndarray) -> float:
    """Squared distance of the rows of each class in each fold from its share; first that no fold is empty, and that a
    class with two rows or more is always trained on."""
    sizes = np.bincount(classes)
    counts = {number: np.bincount(classes[fold == number], minlength=len(sizes)) for number in splitter.expected()}
    distance = sum(float(((counts[n] - share * sizes) ** 2).sum()) for n, share in splitter.expected().items())
    missing = sum(not counts[number].sum() for number, share in splitter.expected().items() if share > 0)
    for each in splitter.folds():
        trained = np.sum([counts[number] for number in each.train], axis=0)
        missing += int(((trained == 0) & (sizes >= 2)).sum())
    return distance + len(classes) ** 2 * missing
