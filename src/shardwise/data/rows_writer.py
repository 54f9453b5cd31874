"""Model-ready rows on disk, the writing side: what the encode pass leaves for the models.

A folder of rows holds float32 values, or uint8 codes (see `bins`). One sub-folder per partition, which appears whole or
not at all:

    part-000012/
      rows.json      {"format": 2, "features": F, "weighted": false, "blocks": [[fold, rows], ...]}
      X.npy          float32 or uint8, flat: the blocks one after the other, each column-major `(rows, F)`
      y.npy          float64: class index or number
      weight.npy     float32, when there are weights
      group.npy      uint64, when rows belong to groups: equal for those of one group

A block holds rows of one fold, in the order of the partition. All folds share one file per kind, so that a dataset of
thousands of partitions needs a few memory maps per partition, whatever the number of folds.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from shardwise.core.errors import DataError, context

FORMAT = 2
MANIFEST = "rows.json"
PREFIX = "part-"
BLOCK_ROWS = 65_536  # rows gathered before they are written, over all folds
_NO_FOLD = 1000  # outside int8: a row that is left out
Cell = type[np.float32] | type[np.uint8]
_DTYPES: dict[str, type[np.generic]] = {"y": np.float64, "weight": np.float32, "group": np.uint64}
_OPTIONAL = ("weight", "group")


class RowsWriter:
    """Writes encoded rows, partition by partition. Picklable: each worker writes the partitions that it is given."""

    def __init__(self, folder: str | Path, n_features: int, cell: Cell = np.float32) -> None:
        self.folder = Path(folder)
        self.n_features = n_features
        self.cell = cell

    @contextmanager
    def partition(self, index: int) -> "Iterator[PartitionWriter]":
        """Write one partition batch by batch; on leaving it appears whole, after an error not at all.

        A partition that was there already is replaced, so writing twice is the same as writing once.
        """
        writer = PartitionWriter(self.folder, index, self.n_features, self.cell)
        with context(stage="encode", partition=index), writer:
            yield writer

    def write(
        self, index: int, X: np.ndarray, y: np.ndarray, weight: np.ndarray | None, folds: np.ndarray
    ) -> dict[int, int]:
        """Write a partition that comes as one batch; returns its rows by fold."""
        with self.partition(index) as writer:
            writer.write(X, y, weight, folds)
        return writer.rows

    def done(self, index: int) -> bool:
        """Whether the partition is there."""
        return (self.folder / _name(index) / MANIFEST).is_file()

    def sweep(self) -> None:
        """Remove what killed writers left behind; to be called while nobody writes."""
        for leftover in self.folder.glob(f".{PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)


class PartitionWriter:
    """Appends batches to one partition at bounded memory; used as a context manager (see `RowsWriter.partition`)."""

    def __init__(self, folder: Path, index: int, n_features: int, cell: Cell = np.float32) -> None:
        self.rows: dict[int, int] = {}
        self._cell = cell
        self._folder = folder
        self._final = folder / _name(index)
        self._n_features = n_features
        self._pending: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
        self._pending_rows = 0
        self._given: tuple[str, ...] | None = None  # of what is optional
        self._blocks: list[tuple[int, int]] = []

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._temporary = Path(tempfile.mkdtemp(prefix=f".{self._final.name}-", dir=self._folder))
        dtypes = {"X": self._cell, **_DTYPES}
        self._files = {kind: _NpyFile(self._temporary / f"{kind}.npy", dtype) for kind, dtype in dtypes.items()}
        return self

    def write(
        self, X: np.ndarray, y: np.ndarray, weight: np.ndarray | None, folds: np.ndarray,
        group: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """Append a batch: X of the writer's cells `(rows, features)`, best column-major, the others `(rows,)`.

        Rows without a target (NaN) are left out. X may be reused by the caller afterwards. Raises `DataError` when the
        shapes disagree, or when only some batches have weights, or groups.
        """
        columns = {"y": np.asarray(y, np.float64)}
        columns |= {} if weight is None else {"weight": np.asarray(weight, np.float32)}
        columns |= {} if group is None else {"group": np.asarray(group, np.uint64)}
        self._check(X, {**columns, "folds": folds})
        X = np.asarray(X, self._cell)
        folds = np.where(np.isnan(columns["y"]), _NO_FOLD, folds.astype(np.int16))
        if self._pending_rows == 0 and len(y) >= BLOCK_ROWS:  # the usual case: no copy
            self._write_blocks(X, columns, folds)
            return
        self._pending.append((np.array(X, order="F"), {**columns, "fold": folds}))
        self._pending_rows += len(y)
        if self._pending_rows >= BLOCK_ROWS:
            self._flush()

    def _check(self, X: np.ndarray, columns: dict[str, np.ndarray]) -> None:
        rows = len(columns["y"])
        if X.shape != (rows, self._n_features) or any(len(values) != rows for values in columns.values()):
            shapes = {"X": X.shape, **{kind: values.shape for kind, values in columns.items()}}
            raise DataError(
                f"the shapes of a batch disagree: {shapes}", hint=f"{self._n_features} features are expected."
            )
        given = tuple(kind for kind in _OPTIONAL if kind in columns)
        if self._given not in (None, given):
            raise DataError("some batches of the partition have weights or groups and others have none")
        self._given = given

    def _flush(self) -> None:
        if not self._pending_rows:
            return
        batches, columns = zip(*self._pending, strict=True)
        whole = {kind: np.concatenate([part[kind] for part in columns]) for kind in columns[0]}
        X = batches[0] if len(batches) == 1 else np.concatenate([batch.T for batch in batches], axis=1).T
        self._pending, self._pending_rows = [], 0
        self._write_blocks(X, whole, whole.pop("fold"))

    def _write_blocks(self, X: np.ndarray, columns: dict[str, np.ndarray], folds: np.ndarray) -> None:
        by_column = X.T
        for fold in np.unique(folds[folds != _NO_FOLD]).tolist():
            chosen = np.flatnonzero(folds == fold)
            everything = len(chosen) == len(folds)
            self._files["X"].append(by_column if everything else np.take(by_column, chosen, axis=1))
            for kind, values in columns.items():
                self._files[kind].append(values[chosen])
            self._blocks.append((fold, len(chosen)))
            self.rows[fold] = self.rows.get(fold, 0) + len(chosen)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
                self._publish()
        finally:
            for file in self._files.values():
                file.abandon()
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _publish(self) -> None:
        for file in self._files.values():
            file.finish()
        for kind in set(_OPTIONAL) - set(self._given or ()):
            (self._temporary / f"{kind}.npy").unlink()
        manifest = {
            "format": FORMAT,
            "features": self._n_features,
            "weighted": "weight" in (self._given or ()),
            "blocks": self._blocks,
        }
        with open(self._temporary / MANIFEST, "w", encoding="utf-8") as stream:
            json.dump(manifest, stream)
            stream.flush()
            os.fsync(stream.fileno())
        if self._final.exists():  # a crash between the two renames leaves a partition that is not done
            os.rename(self._final, self._temporary / "replaced")
        os.rename(self._temporary, self._final)
        shutil.rmtree(self._final / "replaced", ignore_errors=True)
        _sync_folder(self._folder)


class _NpyFile:
    """A one-dimensional .npy file that grows; its length is written into the header at the end."""

    def __init__(self, path: Path, dtype: type[np.generic]) -> None:
        self._dtype = np.dtype(dtype)
        self._size = 0
        self._stream = open(path, "wb")  # noqa: SIM115 - closed by finish or abandon
        self._write_header()

    def _write_header(self) -> None:
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._size,)}
        np.lib.format.write_array_header_1_0(self._stream, header)  # padded, so that a length of any size fits

    def append(self, values: np.ndarray) -> None:
        self._stream.write(np.ascontiguousarray(values, self._dtype).data)
        self._size += values.size

    def finish(self) -> None:
        self._stream.seek(0)
        self._write_header()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()

    def abandon(self) -> None:
        self._stream.close()


def partition_index(name: str) -> int | None:
    """Of which partition a folder is, by its name; None for other folders."""
    number = name.removeprefix(PREFIX)
    return int(number) if number != name and number.isdecimal() else None


def _name(index: int) -> str:
    return f"{PREFIX}{index:06d}"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
