"""Many rows through many trees in bits, in NumPy: what LightGBM computes, to the bit, in a fraction of the time.

LightGBM follows one row through one tree at a time, and most of that is waiting for branches guessed wrongly. Here no
branch is decided. Each different condition of the trees is evaluated once for a block of rows, into a bit a row
(`trees_conditions.py`). With `c` the bits of a split, and `reach` those of the rows that come to it, `reach & c` come
to its left child, and the others to its right: two operations, of 64 rows at a time, for the splits of a level of many
trees together. The leaves of a tree are numbered from left to right in a Gray code, in which neighbours differ by one
bit, so that the rows of whose leaf's number a bit is set are those that come to a few whole branches.

| name    | meaning                                                                                           |
|---------|---------------------------------------------------------------------------------------------------|
| `left`  | uint64 `(conditions, words)`: rows that go to the left by a condition, the first row's bit lowest |
| `reach` | uint64 `(2 x splits, words)`: rows that come to each split's left child, then to the right ones   |

Decision 0026 has what else was tried. The nearest relative is QuickScorer (Lucchese et al., SIGIR 2015), which gives a
row a mask of leaves and takes as many operations for one row as this for eight.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from shardwise.models.trees_conditions import Conditions
from shardwise.models.trees_parsed import ParsedTree, parse_trees

BLOCK_ROWS = 8192
MOST_LEAVES = 1024  # of a tree; LightGBM is as fast with more
GROUP_SPLITS = (
    2048  # of the trees that are walked together: what they reach takes 4 MB; fewer, and threads wait for each other
)
MOST_CONDITIONS = 32_768  # that are held for a block: 32 MB
ADDED = 8  # trees whose leaves' values are looked up together
LEAST_ROWS = 512  # below, LightGBM is as fast
WORTH_ROWS = 16_384  # that are predicted until it pays to prepare the trees
WORD = 64  # rows


@dataclass(frozen=True)
class _Level:
    """Splits `start` to `stop` of a group: their conditions, and where `reach` has the rows that come to them."""

    start: int
    stop: int
    conditions: np.ndarray
    parents: np.ndarray


@dataclass(frozen=True)
class _Bit:
    """A bit of leaves' numbers: the branches whose leaves have it, those of a tree from `starts` on."""

    branches: np.ndarray
    starts: np.ndarray
    trees: np.ndarray  # of the group, that have such branches


@dataclass(frozen=True)
class _Group:
    first: int  # the number of its first tree
    values: np.ndarray  # float64, of the leaves of all trees by their numbers, those of a tree from its offset on
    offsets: np.ndarray
    splits: int
    levels: tuple[_Level, ...]
    bits: tuple[_Bit, ...]  # the highest first


@dataclass(frozen=True)
class _Stretch:
    """Trees whose conditions are held together."""

    conditions: Conditions
    groups: tuple[_Group, ...]


class BitTrees:
    """Raw scores of LightGBM's texts of trees, float64 `(rows, outputs)`, added in blocks of `rounds` rounds."""

    def __init__(self, trees: Iterable[str], outputs: int, rounds: int) -> None:
        self._outputs = outputs
        self._block = rounds * outputs  # trees whose sum is added as one number
        self._stretches = tuple(_stretches(list(parse_trees(trees)), 0, self._block))

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
        space = _Space(max(map(len, blocks)), self._stretches)
        return [self._of_block(block, space) for block in blocks]

    def _of_block(self, X: np.ndarray, space: "_Space") -> np.ndarray:
        """Trees are added in LightGBM's order, as sums have digits that depend on it."""
        width = WORD * -(-len(X) // WORD)
        total, part = np.zeros((self._outputs, width)), np.zeros((self._outputs, width))
        for stretch in self._stretches:
            left = space.left(stretch.conditions.total, len(X))
            stretch.conditions.fill(left, X)
            for group in stretch.groups:
                if group.first and group.first % self._block == 0:
                    total += part
                    part[:] = 0.0
                space.add(group, space.leaves(group, left), part)
        return np.ascontiguousarray((total + part)[:, : len(X)].T)


class _Space:
    """Memory that a thread works in: pages that are new each time would cost more than what is computed in them."""

    def __init__(self, rows: int, stretches: Sequence[_Stretch]) -> None:
        words = -(-rows // WORD)
        groups = [group for stretch in stretches for group in stretch.groups]
        splits = max(group.splits for group in groups)
        branches = max((len(bit.branches) for group in groups for bit in group.bits), default=0)
        sizes = max(stretch.conditions.total for stretch in stretches), 2 * splits, splits, max(splits, branches)
        self._left, self._reach, self._come, self._goes = (np.zeros(size * words, np.uint64) for size in sizes)
        self._places = np.zeros(ADDED * words * WORD, np.intp)
        self._terms = np.zeros(ADDED * words * WORD)

    def left(self, conditions: int, rows: int) -> np.ndarray:
        """Where `left` of a stretch goes."""
        return _matrix(self._left, conditions, -(-rows // WORD))

    def leaves(self, group: _Group, left: np.ndarray) -> np.ndarray:
        """Numbers of the leaves in which rows end, uint8 or, for many leaves, uint16 `(trees, 64 x words)`."""
        words = left.shape[1]
        reach = _matrix(self._reach, 2 * group.splits, words)
        for level in group.levels:
            here = level.stop - level.start
            come, goes = (_matrix(memory, here, words) for memory in (self._come, self._goes))
            to_left, to_right = (reach[at + level.start : at + level.stop] for at in (0, group.splits))
            np.take(left, level.conditions, axis=0, out=goes, mode="clip")
            if level.start == 0:  # all rows come to the roots
                to_left[:] = goes
                np.bitwise_not(goes, out=to_right)
            else:
                np.take(reach, level.parents, axis=0, out=come, mode="clip")
                np.bitwise_and(come, goes, out=to_left)
                np.bitwise_xor(come, to_left, out=to_right)
        numbers = np.zeros((len(group.offsets), WORD * words), np.uint8 if len(group.bits) <= 8 else np.uint16)
        for bit in group.bits:
            branches = _matrix(self._goes, len(bit.branches), words)
            np.take(reach, bit.branches, axis=0, out=branches, mode="clip")
            rows = np.bitwise_or.reduceat(branches, bit.starts, axis=0)
            set_ = np.unpackbits(rows.view(np.uint8), axis=1, bitorder="little")
            numbers += numbers
            if len(bit.trees) == len(numbers):
                numbers |= set_
            else:
                numbers[bit.trees] |= set_
        return numbers

    def add(self, group: _Group, leaves: np.ndarray, part: np.ndarray) -> None:
        """Add what the trees say of these leaves to `part` `(outputs, rows)`, one tree after the other."""
        outputs, rows = part.shape
        for start in range(0, len(leaves), ADDED):
            own = leaves[start : start + ADDED]
            places = _matrix(self._places, len(own), rows)
            terms = _matrix(self._terms, len(own), rows)
            np.add(own, group.offsets[start : start + ADDED, None], out=places)
            np.take(group.values, places, out=terms, mode="clip")
            for number, term in enumerate(terms, group.first + start):
                part[number % outputs] += term


def _matrix(memory: np.ndarray, n: int, words: int) -> np.ndarray:
    """The beginning of a memory as `(n, words)`, without gaps: NumPy's `take` would copy what has some, each time."""
    return memory[: n * words].reshape(n, words)


# -- from parsed trees -------------------------------------------------------------------------------------------------


def _stretches(trees: Sequence[ParsedTree], first: int, block: int) -> Iterator[_Stretch]:
    """All trees together, or, where they have too many different conditions, halves of them."""
    conditions = Conditions(trees)
    if conditions.total > MOST_CONDITIONS and len(trees) > 1:
        half = len(trees) // 2
        yield from _stretches(trees[:half], first, block)
        yield from _stretches(trees[half:], first + half, block)
        return
    ends = np.cumsum([0, *(len(tree.feature) for tree in trees)]).tolist()
    groups, start = [], 0
    for stop in range(1, len(trees) + 1):
        full = stop == len(trees) or ends[stop + 1] - ends[start] > GROUP_SPLITS
        if full or (first + stop) % block == 0:
            groups.append(_group(trees[start:stop], first + start, conditions.of_split[ends[start] : ends[stop]]))
            start = stop
    yield _Stretch(conditions, tuple(groups))


@dataclass(frozen=True)
class _Shape:
    """Splits of the trees of a group, numbered through them: int64 `(splits,)` each, a child and a span for each side.

    A child below 0 is a leaf. Spans are places of leaves, from left to right within a tree: `(first, after the last)`.
    """

    tree: np.ndarray
    level: np.ndarray
    parent: np.ndarray  # `split`, or `split + splits` for the right child of one; of roots -1
    children: np.ndarray
    spans: np.ndarray  # `(2, splits, 2)`


def _group(trees: Sequence[ParsedTree], first: int, conditions: np.ndarray) -> _Group:
    shape = _shape(trees)
    splits = len(shape.tree)
    order = np.argsort(shape.level, kind="stable")
    place = np.empty(2 * splits, np.int64)  # in `reach`, of the children of each split
    place[order] = np.arange(splits)
    place[splits + order] = np.arange(splits, 2 * splits)
    bounds = np.searchsorted(shape.level[order], np.arange(int(shape.level.max(initial=-1)) + 2)).tolist()
    levels = tuple(
        _Level(start, stop, conditions[order[start:stop]], place[shape.parent[order[start:stop]]])
        for start, stop in pairwise(bounds)
    )
    counts = [len(tree.value) for tree in trees]
    codes = _gray(max(counts))
    values = tuple(_by_code(tree, shape, number, codes) for number, tree in enumerate(trees))
    offsets = np.cumsum([0, *map(len, values)])[:-1]
    return _Group(first, np.concatenate(values), offsets, splits, levels, tuple(_bits(shape, place, codes)))


def _gray(leaves: int) -> np.ndarray:
    """Numbers of leaves from left to right."""
    number = np.arange(leaves)
    return number ^ (number >> 1)


def _by_code(tree: ParsedTree, shape: _Shape, number: int, codes: np.ndarray) -> np.ndarray:
    """Values of a tree's leaves by their numbers."""
    values = np.zeros(1 << int(codes[: len(tree.value)].max()).bit_length())
    if not len(tree.feature):
        values[0] = tree.value[0]
        return values
    own = np.flatnonzero(shape.tree == number)
    for side in (0, 1):
        child, place = shape.children[side][own], shape.spans[side][own, 0]
        leaf = child < 0
        values[codes[place[leaf]]] = tree.value[~child[leaf]]
    return values


def _shape(trees: Sequence[ParsedTree]) -> _Shape:
    """A level of all trees at a time."""
    many = [len(tree.feature) for tree in trees]
    splits = sum(many)
    roots = np.cumsum([0, *many])[:-1][np.array(many) > 0]
    offset = np.repeat(np.cumsum([0, *many])[:-1], many)
    children = np.stack([np.concatenate([getattr(tree, side) for tree in trees]) for side in ("left", "right")])
    inner = children >= 0
    children = np.where(inner, children + offset, children)
    parent, level = np.full(splits, -1), np.zeros(splits, np.int64)
    levels = [roots]
    while len(levels[-1]):
        below = []
        for side in (0, 1):
            above = levels[-1][inner[side][levels[-1]]]
            child = children[side][above]
            parent[child], level[child] = above + side * splits, len(levels)
            below.append(child)
        levels.append(np.concatenate(below))
    leaves = np.ones((2, splits), np.int64)  # below each child
    for own in reversed(levels[1:-1]):
        leaves.ravel()[parent[own]] = leaves[:, own].sum(axis=0)
    spans = np.zeros((2, splits, 2), np.int64)
    for own in levels[:-1]:
        start = np.where(parent[own] < 0, 0, spans[..., 0].ravel()[parent[own]])
        middle = start + leaves[0, own]
        spans[0, own] = np.stack([start, middle], axis=1)
        spans[1, own] = np.stack([middle, middle + leaves[1, own]], axis=1)
    return _Shape(np.repeat(np.arange(len(trees)), many), level, parent, children, spans)


def _bits(shape: _Shape, place: np.ndarray, codes: np.ndarray) -> Iterator[_Bit]:
    """For each bit, the largest branches all of whose leaves have it."""
    start, stop = (shape.spans[..., end].ravel() for end in (0, 1))
    tree = np.tile(shape.tree, 2)
    above = np.tile(shape.parent, 2)  # the branch that a branch is a part of
    for bit in range(int(codes.max()).bit_length() - 1, -1, -1):
        ones = np.concatenate([[0], np.cumsum(codes >> bit & 1)])
        whole = ones[stop] - ones[start] == stop - start
        largest = np.flatnonzero(whole & ~((above >= 0) & whole[above]))
        largest = largest[np.argsort(tree[largest], kind="stable")]
        trees, starts = np.unique(tree[largest], return_index=True)
        yield _Bit(place[largest], starts, trees)
