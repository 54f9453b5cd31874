"""A minibatch in slices: who works on which, and the sum of what they give, the same bits for any number of members."""

import pickle
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from shardwise.compute.gang.base import Member, share_of
from shardwise.compute.gang.mesh import tree_sum

T = TypeVar("T")


class Slices:
    """The `total` slices of each batch, of which `member` (None: this process alone) works on its own, and says to
    `saw` how many rows that were."""

    def __init__(self, total: int, member: Member | None, saw: Callable[[int], None] = lambda _rows: None) -> None:
        self.total = total
        self.member = member
        self.saw = saw
        self.mine = share_of(member.rank, member.size, total) if member is not None else range(total)

    def rows(self, start: int, stop: int) -> list[tuple[int, slice]]:
        """This member's slices of the batch that has the rows `start` to `stop`: (number, its rows)."""
        size = stop - start
        ends = [start + size * i // self.total for i in range(self.total + 1)]
        return [(i, slice(ends[i], ends[i + 1])) for i in self.mine]

    def sum(self, gradient: Callable[[int, slice], np.ndarray], start: int, stop: int) -> np.ndarray:
        """The sum of `gradient(number, rows)` over all slices of a batch, wherever they were worked out."""
        parts = {i: gradient(i, rows) for i, rows in self.rows(start, stop)}
        self.saw(sum(rows.stop - rows.start for _, rows in self.rows(start, stop)))
        if self.member is None:
            return tree_sum(parts, self.total)
        return self.member.sum_slices(parts, self.total)

    def mapped(self, function: Callable[[T], np.ndarray], items: Sequence[T]) -> list[np.ndarray]:
        """`function` of each item, in order; each item is one member's work."""
        member = self.member
        if member is None or member.size == 1:
            return [function(item) for item in items]
        mine = {i: function(item) for i, item in enumerate(items) if i % member.size == member.rank}
        parts: dict[int, np.ndarray] = {}
        for content in member.gather(pickle.dumps(mine)):
            parts |= pickle.loads(content)  # noqa: S301 - of our own members
        return [parts[i] for i in range(len(items))]
