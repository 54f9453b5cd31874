"""Binned rows whose labels come from a teacher: what an ensemble predicted for each of them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shardwise.data.rows import BinnedRows


class SoftRows(BinnedRows):
    """The same rows, and beside their own labels those of the teacher, `soft()`.

    `teacher` is a folder with `fold-<number>.npy`: predictions float64 `(rows, classes)` or `(rows,)` for all rows of a
    fold, in the order of `DiskRows` of that fold alone.
    """

    def __init__(self, rows: BinnedRows, teacher: Path) -> None:
        kept = None if rows._partitions is None else sorted(rows._partitions)
        super().__init__(rows.folder, rows.all_features, rows.folds, share=rows.share, partitions=kept)
        self._teacher, self.limit = teacher, rows.limit
        answered, first = dict.fromkeys(rows.folds, 0), {}
        for block in BinnedRows(rows.folder, rows.all_features, rows.folds)._blocks:
            first[block] = answered[block.fold]
            answered[block.fold] += block.stop - block.start
        self._answers = [first[block] for block in self._blocks]  # where those of a block begin among its fold's

    def soft(self) -> np.ndarray:
        """Float64 `(rows, classes)` or `(rows,)`, in the order of the chunks."""
        return np.concatenate(list(self.soft_blocks()))

    def soft_blocks(self) -> Iterator[np.ndarray]:
        """Of the rows of each block, memory-mapped where all of them count."""
        folds = {fold: np.load(soft_path(self._teacher, fold), mmap_mode="r") for fold in self.folds}
        for first, (fold, size, chosen) in zip(self._answers, self.pieces(), strict=True):
            whole = folds[fold][first : first + size]
            yield whole if chosen is None else whole[chosen]


def soft_path(teacher: Path, fold: int) -> Path:
    """Where a teacher's answers for the rows of a fold lie."""
    return teacher / f"fold-{fold}.npy"
