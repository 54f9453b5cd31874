"""dataset > partition > batch: the words of this room as types."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

Scalar = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class Partition:
    """The unit of work and of resume: a file, or a piece of one. Small and picklable: a reference, never a table.

    `start` and `stop` are row groups (Parquet), record batches (Arrow IPC) or byte offsets (CSV, JSON lines); `rows` is
    None until it is known; `values` are the columns that a Hive-style path carries; `fingerprint` changes when the
    file does.
    """

    index: int
    path: str
    start: int = 0
    stop: int = 0
    rows: int | None = None
    size_bytes: int = 0
    values: tuple[tuple[str, Scalar], ...] = ()
    fingerprint: str = ""
    numbered_from: int | None = None

    @property
    def first_row(self) -> int:
        """The number of the first row; rows of this partition are numbered above those of the partitions before it.

        Where the files tell how many rows they have, the plan has no say in it: `numbered_from` is the number of the
        file, shifted, and the row in the file.
        """
        return self.index << 40 if self.numbered_from is None else self.numbered_from


class Reader(Protocol):
    """Reads one format from one place. Picklable; opens its files anew in each process."""

    def schema(self) -> pa.Schema:
        """Columns of the whole dataset, unified over all files; raises `SchemaError` where they disagree."""
        ...

    def plan(self, target_bytes: int) -> Sequence[Partition]:
        """Partitions of about `target_bytes` (as stored) in the order of the data; nothing is copied."""
        ...

    def read(self, partition: Partition, columns: Sequence[str] | None, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Batches of at most `batch_rows` rows with `columns` (None: all), in the order and the types of `schema()`."""
        ...


class Partitioner(Protocol):
    """Decides row by row to which partition of a new dataset a row goes.

    A pure function of the row, its number and the partitioner's own numbers: the same in any process, on any engine, in
    any release of one format, however the batches are cut.
    """

    columns: tuple[str, ...]  # what `assign` reads
    count: int  # partitions, whether or not a row goes there

    def assign(self, batch: pa.RecordBatch, first_row: int) -> np.ndarray:
        """Partition numbers int32 `(rows,)`, each in [0, count); `first_row` is the number of the batch's first row."""
        ...

    def label(self, number: int) -> str:
        """What a partition holds, in a few words for people; each partition has a label of its own."""
        ...

    def to_json(self) -> dict[str, Any]:
        """All that `partitioners.partitioner_from_json` needs to build it again."""
        ...
