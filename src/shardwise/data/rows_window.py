"""A member's share of binned rows: a window on them, whatever the partitions' sizes are."""

from collections.abc import Callable
from functools import cached_property

import numpy as np

from shardwise.data.rows import BinnedRows, Chunk
from shardwise.data.rows_soft import SoftRows

ALIGNED_ROWS = 1024  # windows begin at whole multiples: LightGBM draws its bags in blocks of so many rows


class RowsWindow(BinnedRows):
    """The rows `start` to `stop` of `whole`, in its order; blocks are cut where the window ends.

    So a gang's members have equal shares, also where partitions are uneven, empty, or fewer than members.
    """

    def __init__(self, whole: BinnedRows, start: int, stop: int) -> None:
        kept = None if whole._partitions is None else sorted(whole._partitions)
        super().__init__(whole.folder, whole.all_features, whole.folds, share=whole.share, partitions=kept)
        self._whole, self.start, self.stop, self.limit = whole, start, stop, whole.limit

    @property
    def source(self) -> BinnedRows:
        """The rows on which this is a window."""
        return self._whole

    @property
    def key(self) -> tuple[object, ...]:
        return (*super().key, self.start, self.stop)

    @cached_property
    def n_rows(self) -> int:
        return self.stop - self.start

    @cached_property
    def _pieces(self) -> list[tuple[int, int, int]]:
        """(block, first row in it, last one) of all blocks that the window touches."""
        pieces, before = [], 0
        for number, size in enumerate(super().block_rows()):
            first, last = max(self.start - before, 0), min(self.stop - before, size)
            if first < last:
                pieces.append((number, first, last))
            before += size
        return pieces

    def block_rows(self) -> list[int]:
        return [last - first for _, first, last in self._pieces]

    def block(self, number: int) -> Chunk:
        block, first, last = self._pieces[number]
        chunk = super().block(block)
        weight = None if chunk.weight is None else chunk.weight[first:last]
        return Chunk(chunk.X[first:last], chunk.y[first:last], weight)

    def release(self, number: int) -> None:
        super().release(self._pieces[number][0])

    def target(self) -> np.ndarray:
        """Float64 `(rows,)`."""
        return self._of_pieces(np.empty(self.n_rows), lambda chunk: chunk.y)

    def weight(self) -> np.ndarray | None:
        """Float32 `(rows,)`; None when no row of the whole has a weight."""
        if not self._weighted:
            return None
        return self._of_pieces(np.empty(self.n_rows, np.float32), lambda chunk: chunk.weight)

    def group(self) -> np.ndarray | None:
        """Uint64 `(rows,)`, as of the whole."""
        groups = self._whole.group()
        return None if groups is None else groups[self.start : self.stop]

    def soft(self) -> np.ndarray | None:
        """What a teacher says of these rows, float64 `(rows, classes)` or `(rows,)`; None where the whole has none."""
        whole = self._whole
        if not isinstance(whole, SoftRows):
            return None
        cuts = {block: slice(first, last) for block, first, last in self._pieces}
        return np.concatenate([soft[cuts[block]] for block, soft in enumerate(whole.soft_blocks()) if block in cuts])

    def _of_pieces(self, out: np.ndarray, read: Callable[[Chunk], np.ndarray | None]) -> np.ndarray:
        start = 0
        for number, size in enumerate(self.block_rows()):
            values = read(self.block(number))
            assert values is not None
            out[start : start + size] = values
            start += size
            self.release(number)
        return out


def window_of(rows: BinnedRows, rank: int, size: int) -> RowsWindow:
    """The share of a member: about 1 / size of the rows, consecutive, from a whole multiple of `ALIGNED_ROWS` on."""
    ends = [rows.n_rows * r // size // ALIGNED_ROWS * ALIGNED_ROWS for r in range(size)] + [rows.n_rows]
    return RowsWindow(rows, ends[rank], ends[rank + 1])


def has_teacher(rows: BinnedRows) -> bool:
    """Whether these rows, or those on which they are a window, have a teacher's answers beside their labels."""
    return isinstance(rows.source, SoftRows)


def soft_of(rows: BinnedRows) -> np.ndarray | None:
    """A teacher's answers for rows, float64 `(rows, classes)` or `(rows,)`; None where there is no teacher."""
    return rows.soft() if isinstance(rows, RowsWindow | SoftRows) else None
