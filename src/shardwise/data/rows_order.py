"""The order of shuffled rows: a pure function of the sizes of the blocks that they lie in, and a seed.

Pieces of blocks come in random order into a pile, and leave it in random order. What is piled up may be the rows
themselves, read from disk, or their places alone: the order is the same.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np

T = TypeVar("T")

_PIECE_ROWS = 1024  # what is drawn at once from one place


class Piece(NamedTuple):
    """Rows `start` to `stop` of a block."""

    block: int
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class Shuffle(Generic[T]):
    """Batches of `batch_rows` rows; a pile has at most `pile_rows`, or one batch.

    `read` gives a piece, `join` makes one of several, `take` gives the rows at some places of what was joined.
    """

    pile_rows: int
    batch_rows: int
    read: Callable[[Piece], T]
    join: Callable[[list[T]], T]
    take: Callable[[T, np.ndarray], T]

    def batches(self, sizes: Sequence[int], seed: int) -> Iterator[T]:
        """Each row of blocks of these sizes once; all batches but the last have `batch_rows` rows."""
        rng = np.random.default_rng(seed)
        rest: T | None = None
        kept = 0
        for pieces in self._piles(sizes, rng):
            read = [self.read(piece) for piece in pieces]
            pile = self.join(read if rest is None else [rest, *read])
            order = rng.permutation(kept + sum(piece.stop - piece.start for piece in pieces))
            whole = len(order) // self.batch_rows * self.batch_rows
            for start in range(0, whole, self.batch_rows):
                yield self.take(pile, order[start : start + self.batch_rows])
            kept = len(order) - whole
            rest = self.take(pile, order[whole:]) if kept else None
        if rest is not None:
            yield rest

    def _piles(self, sizes: Sequence[int], rng: np.random.Generator) -> Iterator[list[Piece]]:
        """Pieces in random order, piled up to the size of a pile."""
        limit = max(self.batch_rows, self.pile_rows)
        pieces = [
            Piece(block, start, min(start + _PIECE_ROWS, size))
            for block, size in enumerate(sizes)
            for start in range(0, size, _PIECE_ROWS)
        ]
        pile: list[Piece] = []
        rows = 0
        for number in rng.permutation(len(pieces)):
            piece = pieces[number]
            size = piece.stop - piece.start
            if pile and rows + size > limit:
                yield pile
                pile, rows = [], 0
            pile.append(piece)
            rows += size
        if pile:
            yield pile


def places(sizes: Sequence[int], seed: int, *, pile_rows: int, batch_rows: int) -> Iterator[np.ndarray]:
    """Of the same batches where the rows lie, int64, counted over all blocks."""
    starts = np.cumsum([0, *sizes])
    shuffle: Shuffle[np.ndarray] = Shuffle(
        pile_rows=pile_rows, batch_rows=batch_rows,
        read=lambda piece: np.arange(starts[piece.block] + piece.start, starts[piece.block] + piece.stop),
        join=np.concatenate, take=lambda pile, chosen: np.asarray(pile[chosen]),
    )  # fmt: skip
    return shuffle.batches(sizes, seed)


def spread(count: int, seed: int) -> np.ndarray:
    """The numbers below `count` in an order of which every beginning lies evenly over them: the ranks of points at
    multiples of the golden section, from a place that the seed gives (int64 `(count,)`)."""
    places = (np.random.default_rng(seed).random() + np.arange(count) * (5**0.5 - 1.0) / 2.0) % 1.0
    return np.asarray(np.argsort(np.argsort(places, kind="stable"), kind="stable"))
