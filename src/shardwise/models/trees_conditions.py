"""The different conditions of many trees, each evaluated once for a block of rows, into a bit a row.

Trees that learn from codes share their thresholds: a thousand trees have few more different conditions than a hundred.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shardwise.models.trees_parsed import CATEGORICAL, DEFAULT_LEFT, NAN, NONE, TINY, ZERO, ParsedTree

AT_ONCE = 32  # thresholds of a feature: what they give, a byte a row, stays in the cache until it is packed


@dataclass(frozen=True)
class _Numbers:
    """Conditions `x <= threshold` of a feature, which stand at `first` and after it."""

    feature: int
    missing: int
    default_left: bool
    thresholds: np.ndarray  # float32, sorted
    first: int


@dataclass(frozen=True)
class _Categories:
    """Conditions on the codes of a feature: `table` bool `(conditions, codes + 1)`, the last column for all others."""

    feature: int
    table: np.ndarray
    first: int


class Conditions:
    """The conditions of trees; `of_split` int64 `(splits,)` has the number of each split's, of `total` different ones.

    Splits are numbered through the trees in their order.
    """

    def __init__(self, trees: Sequence[ParsedTree]) -> None:
        feature, decision, threshold = (
            np.concatenate([getattr(tree, name) for tree in trees]) for name in ("feature", "decision", "threshold")
        )
        self.of_split = np.empty(len(feature), np.int64)
        self._numbers, first = _numbers(feature, decision, threshold, self.of_split)
        bitsets = [tree.bitsets[int(number)] for tree in trees for number in tree.threshold[_is_categorical(tree)]]
        chosen = np.flatnonzero(decision & CATEGORICAL)
        self._categories, self.total = _categories(feature[chosen], bitsets, self.of_split, (chosen, first))

    def fill(self, left: np.ndarray, X: np.ndarray) -> None:
        """Into `left` uint64 `(total, words)` a bit for each row of X that goes to the left, the first row's lowest."""
        planes = left.view(np.uint8)[:, : -(-len(X) // 8)]
        for numbers in self._numbers:
            _fill_numbers(planes[numbers.first : numbers.first + len(numbers.thresholds)], numbers, X)
        for categories in self._categories:
            codes = X[:, categories.feature]
            others = categories.table.shape[1] - 1
            known = (codes >= 0) & (codes < others)
            slots = np.where(known, codes, others).astype(np.intp)
            for start in range(0, len(categories.table), AT_ONCE):
                goes = np.take(categories.table[start : start + AT_ONCE], slots, axis=1)
                place = categories.first + start
                planes[place : place + len(goes)] = _packed(goes)


def _fill_numbers(planes: np.ndarray, numbers: _Numbers, X: np.ndarray) -> None:
    column = np.ascontiguousarray(X[:, numbers.feature])
    missing = np.isnan(column)
    zero = np.abs(column) <= TINY  # LightGBM reads these as 0, whatever the thresholds are
    if numbers.missing != NAN:
        zero |= missing
    if zero.any():
        column = np.where(zero, np.float32(0.0), column)
    for start in range(0, len(numbers.thresholds), AT_ONCE):
        thresholds = numbers.thresholds[start : start + AT_ONCE, None]
        planes[start : start + len(thresholds)] = _packed(np.less_equal(column, thresholds))
    if numbers.missing == ZERO:
        missing = zero
    if numbers.missing != NONE and missing.any():
        if numbers.default_left:
            planes |= _packed(missing)
        else:
            planes &= ~_packed(missing)


def _packed(goes: np.ndarray) -> np.ndarray:
    return np.packbits(goes, axis=-1, bitorder="little")


def _is_categorical(tree: ParsedTree) -> np.ndarray:
    return np.asarray((tree.decision & CATEGORICAL) != 0)


def _numbers(
    feature: np.ndarray, decision: np.ndarray, threshold: np.ndarray, of_split: np.ndarray
) -> tuple[list[_Numbers], int]:
    """Different conditions on numbers, and how many; the number of each split's condition goes into `of_split`."""
    numeric = np.flatnonzero((decision & CATEGORICAL) == 0)
    keys, kind = np.unique(np.stack([feature[numeric], decision[numeric]], axis=1), axis=0, return_inverse=True)
    found: list[_Numbers] = []
    first = 0
    for number, (column, bits) in enumerate(keys.tolist()):
        splits = numeric[kind.ravel() == number]
        thresholds, places = np.unique(_as_float32(threshold[splits]), return_inverse=True)
        of_split[splits] = first + places
        found.append(_Numbers(column, (bits >> 2) & 3, bool(bits & DEFAULT_LEFT), thresholds, first))
        first += len(thresholds)
    return found, first


def _as_float32(thresholds: np.ndarray) -> np.ndarray:
    """The largest float32 numbers that are not above: for float32 x the same comparison."""
    rounded = thresholds.astype(np.float32)
    above = rounded.astype(np.float64) > thresholds
    return np.asarray(np.where(above, np.nextafter(rounded, np.float32(-np.inf)), rounded))


def _categories(
    feature: np.ndarray, bitsets: Sequence[np.ndarray], of_split: np.ndarray, at: tuple[np.ndarray, int]
) -> tuple[list[_Categories], int]:
    """The same of splits on categories, whose places among all splits and first number are `at`."""
    places, first = at
    found: list[_Categories] = []
    for column in np.unique(feature).tolist():
        order: dict[bytes, int] = {}
        own = np.flatnonzero(feature == column).tolist()
        for split in own:
            of_split[places[split]] = first + order.setdefault(bitsets[split].tobytes(), len(order))
        table = _table([np.frombuffer(content, np.uint32) for content in order])
        found.append(_Categories(column, table, first))
        first += len(table)
    return found, first


def _table(bitsets: Sequence[np.ndarray]) -> np.ndarray:
    """True for each code that goes to the left, bool `(conditions, codes + 1)`."""
    words = max(len(bits) for bits in bitsets)
    table = np.zeros((len(bitsets), 32 * words + 1), np.bool_)
    for row, bits in zip(table, bitsets, strict=True):
        codes = np.unpackbits(bits.astype("<u4").view(np.uint8), bitorder="little")
        row[: len(codes)] = codes
    return table
