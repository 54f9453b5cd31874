"""Many rows through many trees by bit masks, in NumPy: what LightGBM computes, to the bit, in a fraction of the time.

A tree has its leaves numbered from left to right, and a row a mask of the leaves that it can still reach. A split that
sends the row to the right takes the leaves of its left branch away; after all splits, in whatever order, the lowest bit
is the leaf (Lucchese et al., QuickScorer, SIGIR 2015). Nothing waits for a branch to be decided: the splits of a
group of trees are evaluated at once for a block of rows, each different condition once, and masks are joined byte by
byte. LightGBM follows one row through one tree at a time, and most of that is waiting for branches guessed wrongly.

| name    | meaning                                                                             |
|---------|-------------------------------------------------------------------------------------|
| `left`  | uint8 `(conditions, rows)`: 255 where a row goes to the left, 0 where to the right  |
| `keeps` | uint8 `(splits,)` for one byte of a mask: its leaves that a split does not take away |
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

BLOCK_ROWS = 16_384
MOST_LEAVES = 64  # of a tree; LightGBM is about as fast with more
GROUP_SPLITS = 2048  # of the trees that are evaluated together: their conditions take 32 MB at most
LEAST_ROWS = 2_048  # below, LightGBM is as fast
WORTH_ROWS = 16_384  # that are predicted until it pays to make masks of the trees
CATEGORICAL, DEFAULT_LEFT = 1, 2  # bits of LightGBM's decision type; two more say what counts as missing
NONE, ZERO, NAN = 0, 1, 2
TINY = 1e-35  # what LightGBM takes for zero, where zeros are missing


@dataclass(frozen=True)
class ParsedTree:
    """A tree as its text has it; children below 0 are leaves, `~child` their numbers.

    Bits of a `decision`: `CATEGORICAL`, `DEFAULT_LEFT`, and from the third on `NONE`, `ZERO` or `NAN`, what is missing.
    """

    feature: np.ndarray
    threshold: np.ndarray
    decision: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray  # float64, of the leaves
    bitsets: tuple[np.ndarray, ...]  # categories that go to the left, one bit each, of categorical splits


@dataclass(frozen=True)
class _Tree:
    """`bytes_`: for each byte of the mask, the conditions of the splits that touch it, and what each of them keeps."""

    value: np.ndarray  # float64, of the leaves from left to right
    bytes_: tuple[tuple[np.ndarray, np.ndarray], ...]


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
    """Conditions on the codes of a feature: `table` uint8 `(conditions, codes + 1)`, the last column for all others."""

    feature: int
    table: np.ndarray
    first: int


@dataclass(frozen=True)
class _Group:
    trees: tuple[tuple[int, _Tree], ...]  # with their numbers
    numbers: tuple[_Numbers, ...]
    categories: tuple[_Categories, ...]
    conditions: int


class MaskedTrees:
    """Raw scores of LightGBM's texts of trees, float64 `(rows, outputs)`, added in blocks of `rounds` rounds."""

    def __init__(self, trees: Iterable[str], outputs: int, rounds: int) -> None:
        self._outputs = outputs
        self._block = rounds * outputs  # trees whose sum is added as one number
        self._groups = tuple(_groups(parse_trees(trees)))

    def __call__(self, X: np.ndarray, threads: int) -> np.ndarray:
        """Scores for X float32 `(rows, features)` of either memory order; blocks of rows on so many threads."""
        blocks = [X[start : start + BLOCK_ROWS] for start in range(0, len(X), BLOCK_ROWS)]
        if threads == 1 or len(blocks) == 1:
            return np.concatenate(self._scores(blocks))
        shares = [blocks[len(blocks) * n // threads : len(blocks) * (n + 1) // threads] for n in range(threads)]
        with ThreadPoolExecutor(threads) as pool:
            return np.concatenate([part for parts in pool.map(self._scores, shares) for part in parts])

    def _scores(self, blocks: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Float64 `(rows, outputs)` of each block, all in the same memory."""
        if not blocks:
            return []
        trees = [tree for group in self._groups for _, tree in group.trees]
        space = _Space(
            max(map(len, blocks)),
            conditions=max(group.conditions for group in self._groups),
            splits=max(len(conditions) for tree in trees for conditions, _ in tree.bytes_),
            bytes_=max(len(tree.bytes_) for tree in trees),
        )
        return [self._of_block(block, space) for block in blocks]

    def _of_block(self, X: np.ndarray, space: "_Space") -> np.ndarray:
        """Trees are added in LightGBM's order, as sums have digits that depend on it."""
        total, part = np.zeros((self._outputs, len(X))), np.zeros((self._outputs, len(X)))
        for group in self._groups:
            left = space.left(group.conditions, len(X))
            _fill(left, group, X)
            for number, tree in group.trees:
                if number and number % self._block == 0:
                    total += part
                    part[:] = 0.0
                part[number % self._outputs] += tree.value[space.leaf(tree, left)]
        return np.ascontiguousarray((total + part).T)


class _Space:
    """Memory that a thread works in: pages that are new each time would cost more than what is computed in them."""

    def __init__(self, rows: int, *, conditions: int, splits: int, bytes_: int) -> None:
        self._left, self._kept, self._masks = (np.empty(n * rows, np.uint8) for n in (conditions, splits, bytes_))

    def left(self, conditions: int, rows: int) -> np.ndarray:
        """Where `left` of a group goes."""
        return _matrix(self._left, conditions, rows)

    def leaf(self, tree: _Tree, left: np.ndarray) -> np.ndarray:
        """Number of the leaf in which each row ends, int64 `(rows,)`."""
        rows = left.shape[1]
        masks = _matrix(self._masks, len(tree.bytes_), rows)
        for mask, (conditions, keeps) in zip(masks, tree.bytes_, strict=True):
            kept = _matrix(self._kept, len(conditions), rows)
            np.take(left, conditions, axis=0, out=kept, mode="clip")
            np.bitwise_or(kept, keeps[:, None], out=kept)
            np.bitwise_and.reduce(kept, axis=0, out=mask)
        lowest, place = masks[-1], np.full(rows, len(masks) - 1, np.uint8)
        for number in range(len(masks) - 2, -1, -1):
            here = (masks[number] != 0).view(np.uint8)
            np.negative(here, out=here)
            lowest = np.bitwise_or(np.bitwise_and(lowest, ~here), masks[number])
            place = np.bitwise_or(np.bitwise_and(place, ~here), np.bitwise_and(here, np.uint8(number)))
        found: np.ndarray = _FIRST_BIT[lowest]
        found += np.multiply(place, 8, dtype=np.int64)
        return found


def _matrix(memory: np.ndarray, n: int, rows: int) -> np.ndarray:
    """The beginning of a memory as `(n, rows)`, without gaps: NumPy's `take` would copy what has some, each time."""
    return memory[: n * rows].reshape(n, rows)


_FIRST_BIT = np.array([(byte & -byte).bit_length() - 1 for byte in range(256)], np.int64)


def _fill(left: np.ndarray, group: _Group, X: np.ndarray) -> None:
    """Which rows go to the left by each condition of a group."""
    for numbers in group.numbers:
        place = left[numbers.first : numbers.first + len(numbers.thresholds)]
        column = np.ascontiguousarray(X[:, numbers.feature])
        missing = np.isnan(column)
        zero = np.abs(column) <= TINY  # LightGBM reads these as 0, whatever the thresholds are
        if numbers.missing != NAN:
            zero |= missing
        if zero.any():
            column = np.where(zero, np.float32(0.0), column)
        np.less_equal(column, numbers.thresholds[:, None], out=place.view(np.bool_))
        if numbers.missing == ZERO:
            missing = zero
        if numbers.missing != NONE and missing.any():
            place[:, missing] = numbers.default_left
        np.negative(place, out=place)
    for categories in group.categories:
        codes = X[:, categories.feature]
        others = categories.table.shape[1] - 1
        known = (codes >= 0) & (codes < others)
        slots = np.where(known, codes, others).astype(np.intp)
        place = left[categories.first : categories.first + len(categories.table)]
        np.take(categories.table, slots, axis=1, out=place, mode="clip")


# -- from the text -----------------------------------------------------------------------------------------------------


def parse_trees(trees: Iterable[str]) -> Iterator[ParsedTree]:
    """The trees of LightGBM's texts, in their order: those of a round lie beside each other, one for each output."""
    for text in trees:
        fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        value = _floats(fields["leaf_value"])
        bounds = _whole(fields.get("cat_boundaries", ""))
        bits = np.array(fields.get("cat_threshold", "").split(), np.uint32)
        sets = tuple(bits[start:stop] for start, stop in pairwise(bounds.tolist()))
        names = ("split_feature", "decision_type", "left_child", "right_child")
        feature, decision, left, right = (_whole(fields.get(name, "")) for name in names)
        yield ParsedTree(feature, _floats(fields.get("threshold", "")), decision, left, right, value, sets)


def _whole(text: str) -> np.ndarray:
    return np.array(text.split(), np.int64)


def _floats(text: str) -> np.ndarray:
    return np.array(text.split(), np.float64)


def _groups(trees: Iterator[ParsedTree]) -> Iterator[_Group]:
    """Trees in their order, as many together as have `GROUP_SPLITS` splits."""
    held: list[tuple[int, ParsedTree]] = []
    splits = 0
    for number, tree in enumerate(trees):
        if held and splits + len(tree.feature) > GROUP_SPLITS:
            yield _group(held)
            held, splits = [], 0
        held.append((number, tree))
        splits += len(tree.feature)
    if held:
        yield _group(held)


def _group(held: Sequence[tuple[int, ParsedTree]]) -> _Group:
    """Conditions that several splits share are evaluated once."""
    feature, decision, threshold = (
        np.concatenate([getattr(tree, name) for _, tree in held]) for name in ("feature", "decision", "threshold")
    )
    conditions = np.empty(len(feature), np.int64)
    numbers, first = _numbers(feature, decision, threshold, conditions)
    bitsets = [tree.bitsets[int(number)] for _, tree in held for number in tree.threshold[_is_categorical(tree)]]
    chosen = np.flatnonzero(decision & CATEGORICAL)
    categories, first = _categories(feature[chosen], bitsets, conditions, (chosen, first))
    ends = np.cumsum([len(tree.feature) for _, tree in held])[:-1]
    parts = np.split(conditions, ends)
    trees = tuple((number, _tree(tree, part)) for (number, tree), part in zip(held, parts, strict=True))
    return _Group(trees, tuple(numbers), tuple(categories), first)


def _is_categorical(tree: ParsedTree) -> np.ndarray:
    return np.asarray((tree.decision & CATEGORICAL) != 0)


def _numbers(
    feature: np.ndarray, decision: np.ndarray, threshold: np.ndarray, conditions: np.ndarray
) -> tuple[list[_Numbers], int]:
    """Different conditions on numbers, and how many; the number of each split's condition goes into `conditions`."""
    numeric = np.flatnonzero((decision & CATEGORICAL) == 0)
    keys, kind = np.unique(np.stack([feature[numeric], decision[numeric]], axis=1), axis=0, return_inverse=True)
    found: list[_Numbers] = []
    first = 0
    for number, (column, bits) in enumerate(keys.tolist()):
        splits = numeric[kind.ravel() == number]
        thresholds, places = np.unique(_as_float32(threshold[splits]), return_inverse=True)
        conditions[splits] = first + places
        found.append(_Numbers(column, (bits >> 2) & 3, bool(bits & DEFAULT_LEFT), thresholds, first))
        first += len(thresholds)
    return found, first


def _as_float32(thresholds: np.ndarray) -> np.ndarray:
    """The largest float32 numbers that are not above: for float32 x the same comparison."""
    rounded = thresholds.astype(np.float32)
    above = rounded.astype(np.float64) > thresholds
    return np.asarray(np.where(above, np.nextafter(rounded, np.float32(-np.inf)), rounded))


def _categories(
    feature: np.ndarray, bitsets: Sequence[np.ndarray], conditions: np.ndarray, at: tuple[np.ndarray, int]
) -> tuple[list[_Categories], int]:
    """The same of splits on categories, whose places among all splits and first number are `at`."""
    places, first = at
    found: list[_Categories] = []
    for column in np.unique(feature).tolist():
        order: dict[bytes, int] = {}
        own = np.flatnonzero(feature == column).tolist()
        for split in own:
            conditions[places[split]] = first + order.setdefault(bitsets[split].tobytes(), len(order))
        table = _table([np.frombuffer(content, np.uint32) for content in order])
        found.append(_Categories(column, table, first))
        first += len(table)
    return found, first


def _table(bitsets: Sequence[np.ndarray]) -> np.ndarray:
    """255 for each code that goes to the left, uint8 `(conditions, codes + 1)`."""
    words = max(len(bits) for bits in bitsets)
    table = np.zeros((len(bitsets), 32 * words + 1), np.uint8)
    for row, bits in zip(table, bitsets, strict=True):
        codes = np.unpackbits(bits.astype("<u4").view(np.uint8), bitorder="little")
        row[: len(codes)] = 255 * codes
    return table


def _tree(tree: ParsedTree, conditions: np.ndarray) -> _Tree:
    leaves, spans = _spans(tree)
    first, last = spans[:, 0] // 8, (spans[:, 1] - 1) // 8
    parts = []
    for byte in range(-(-len(leaves) // 8)):
        touching = np.flatnonzero((first <= byte) & (byte <= last))
        bits = np.arange(8 * byte, 8 * byte + 8)
        taken = (spans[touching, :1] <= bits) & (bits < spans[touching, 1:])
        keeps = np.packbits(~taken, axis=1, bitorder="little")[:, 0]
        parts.append((conditions[touching], np.ascontiguousarray(keeps)))
    return _Tree(tree.value[leaves], tuple(parts))


def _spans(tree: ParsedTree) -> tuple[np.ndarray, np.ndarray]:
    """Leaves from left to right; and for each split the places `(first, after the last)` of its left branch."""
    leaves: list[int] = []
    spans = np.zeros((len(tree.feature), 2), np.int64)
    stack = [(0, False)] if len(tree.feature) else [(-1, False)]
    while stack:
        node, half = stack.pop()
        if node < 0:
            leaves.append(~node)
        elif half:  # the left branch is done
            spans[node, 1] = len(leaves)
            stack.append((int(tree.right[node]), False))
        else:
            spans[node, 0] = len(leaves)
            stack += [(node, True), (int(tree.left[node]), False)]
    return np.array(leaves), spans
