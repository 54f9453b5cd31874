"""Which of many features tell most about the target, each by itself: trees of few rows then look at these alone.

Where features are far more than rows, most splits that are found in all of them are found by chance, and take long to
be found. Sure independence screening (Fan and Lv 2008) with the between-group variance of the target in four groups of
rows, by the quartiles of the feature's codes, and one of the missing cells: a smooth bend is seen as well as a line.
"""

import numpy as np

from shardwise.core.schema import FeatureKind
from shardwise.core.target import Target
from shardwise.data.bins import MISSING
from shardwise.data.rows import BinnedRows

GROUPS = 4  # and the missing ones
CLASSES = 20  # the commonest; more of them add little to the sum
COLUMNS = 2_000  # that are looked at together


def left_out(rows: BinnedRows, target: Target, most: int) -> list[int]:
    """The numbers of the features beside the `most` strongest on training rows, rising; codes of categories all stay.

    `most` 0: none is left out. It depends on the rows alone, not on how many workers there are.
    """
    if not most:
        return []
    numbers = np.array([i for i, feature in enumerate(rows.features) if feature.kind is not FeatureKind.CODE], np.int64)
    if len(numbers) <= most:
        return []
    strength = _strength(rows, _indicators(rows, target))[numbers]
    weakest = numbers[np.argsort(-strength, kind="stable")[most:]]
    return sorted(weakest.tolist())


def _indicators(rows: BinnedRows, target: Target) -> np.ndarray:
    """Float64 `(rows, k)`: the centred target, or of each class whether it is that."""
    y = rows.target().astype(np.float64)
    if target.task.is_classification:
        classes, counts = np.unique(y, return_counts=True)
        common = classes[np.argsort(-counts, kind="stable")[:CLASSES]]
        values = (y[:, None] == common[1 if len(classes) == 2 else 0 :]).astype(np.float64)
    else:
        values = y[:, None]
    centred: np.ndarray = values - np.average(values, axis=0, weights=rows.weight())
    return centred


def _strength(rows: BinnedRows, values: np.ndarray) -> np.ndarray:
    """Between-group variance of `values`, of each feature `(features,)`, summed over the columns of `values`."""
    weight = rows.weight()
    weight = np.ones(len(values)) if weight is None else weight.astype(np.float64)
    weighted = np.column_stack([weight, values * weight[:, None]])  # one product gives the sizes as well
    codes = np.array([len(bounds) + 1 for bounds in rows.binner.bounds])
    sums = np.zeros((GROUPS + 1, len(codes), weighted.shape[1]))
    begin = 0
    for number, size in enumerate(rows.block_rows()):
        if size:
            X, part = rows.block(number).X, weighted[begin : begin + size]
            for first in range(0, len(codes), COLUMNS):
                columns = slice(first, first + COLUMNS)
                group = np.where(X[:, columns] == MISSING, GROUPS, X[:, columns] * np.int64(GROUPS) // codes[columns])
                for each in range(GROUPS + 1):
                    sums[each, columns] += (group == each).T.astype(np.float64) @ part
            begin += size
        rows.release(number)
    sizes = sums[:, :, :1]
    between = np.divide(sums[:, :, 1:] ** 2, sizes, out=np.zeros_like(sums[:, :, 1:]), where=sizes > 0)
    strength: np.ndarray = between.sum(axis=(0, 2))
    return strength
