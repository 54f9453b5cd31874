"""Binned rows whose labels come from a teacher: what an ensemble predicted for each of them."""

from pathlib import Path

import numpy as np

from shardwise.data.rows import BinnedRows


class SoftRows(BinnedRows):
    """The same rows, and beside their own labels those of the teacher, `soft()`.

    `teacher` is a folder with `fold-<number>.npy`: predictions float64 `(rows, classes)` or `(rows,)` for all rows of a
    fold, in the order of `DiskRows` of that fold alone.
    """

    def __init__(self, rows: BinnedRows, teacher: Path) -> None:
        super().__init__(rows.folder, rows.all_features, rows.folds, share=rows.share)
        self._teacher = teacher

    def soft(self) -> np.ndarray:
        """Float64 `(rows, classes)` or `(rows,)`, in the order of the chunks."""
        folds = {fold: np.load(soft_path(self._teacher, fold)) for fold in self.folds}
        taken = dict.fromkeys(self.folds, 0)
        parts = []
        for fold, size, chosen in self.pieces():
            whole = folds[fold][taken[fold] : taken[fold] + size]
            parts.append(whole if chosen is None else whole[chosen])
            taken[fold] += size
        return np.concatenate(parts)


def soft_path(teacher: Path, fold: int) -> Path:
    """Where a teacher's answers for the rows of a fold lie."""
    return teacher / f"fold-{fold}.npy"
