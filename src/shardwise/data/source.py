"""Reading a dataset from its first row to its last: with the numbers of the rows, and with what could not be read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow.csv import WriteOptions, write_csv

from shardwise.core.errors import DataError, SchemaError
from shardwise.data.base import Partition
from shardwise.data.dataset import BATCH_ROWS, Dataset
from shardwise.data.places import check_unchanged

Done = Callable[[int], None]
_FIRST_ROWS, _FIRST_BYTES = 4_096, 1 << 20  # of a partition, by which its rows are estimated
_LOOKED_AT = 5  # partitions
SKIP_HINT = "To go on without what cannot be read: --skip-corrupt."


@dataclass(kw_only=True)
class Losses:
    """Partitions of the source that could not be read to the end, why, and the rows that are lost with them.

    `rows` counts those of formats that tell how many there are (Parquet, Arrow).
    """

    rows: int = 0
    skipped_rows: int = 0  # bad rows of text files
    messages: dict[int, str] = field(default_factory=dict)  # by number of the source partition

    def add(self, partition: Partition, delivered: int, error: DataError | str) -> None:
        """Count a partition that broke after `delivered` rows; in a second pass it is not counted again."""
        if partition.index not in self.messages:
            self.messages[partition.index] = str(error)
            self.rows += max(0, (partition.rows or 0) - delivered)


def scan(
    dataset: Dataset,
    columns: Sequence[str] | None = None,
    *,
    batch_rows: int = BATCH_ROWS,
    losses: Losses | None = None,
    done: Done = lambda _: None,
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """`(number of the first row, batch)` in the order of the data; `done(rows)` is called after each partition.

    With `losses`, a partition that cannot be read (further) is counted there and the next one follows; what it gave
    before stays. Without, its `DataError` names it. A changed file and a schema that does not fit are always errors.
    """
    for partition in dataset.partitions:
        rows = 0
        batches = dataset.read(partition, columns, batch_rows)
        try:
            for batch in batches:
                yield partition.first_row + rows, batch
                rows += batch.num_rows
        except DataError as error:
            if losses is None or not is_corrupt(error):
                suggest_skipping(error)
                raise
            losses.add(partition, rows, error)
        if losses is not None:
            losses.skipped_rows += batches.skipped_rows
        done(rows)


def tell_losses(dataset: Dataset, losses: Losses) -> Iterator[tuple[str, dict[str, Any]]]:
    """A sentence, and what it rests on, for files that could not be opened and partitions that could not be read."""
    unopened = dataset.report.get("corrupt_files")
    if unopened:
        text = f"{unopened['files']:,} file(s) cannot be read, so that all their rows are lost: {unopened['example']}"
        yield text, dict(unopened)
    if losses.messages:
        lost = f"{losses.rows:,} rows" if losses.rows else "an unknown number of rows"
        evidence = {"partitions": sorted(losses.messages), "rows": losses.rows}
        first = next(iter(losses.messages.values()))
        yield f"{lost} of {len(losses.messages):,} source partitions are lost: {first}", evidence


def first_batch(dataset: Dataset, rows: int = BATCH_ROWS) -> pa.RecordBatch | None:
    """The first batch with rows, of at most `rows`; None where there is none."""
    losses = Losses() if dataset.reader.options.skip_corrupt else None
    return next((batch for _, batch in scan(dataset, batch_rows=rows, losses=losses) if batch.num_rows), None)


def estimate_rows(dataset: Dataset) -> int:
    """Rows; where the files do not tell, from the first rows of a few partitions that are spread over the data.

    It is exact where there are only a few partitions, all of them short.
    """
    if dataset.rows is not None:
        return dataset.rows
    count = len(dataset.partitions)
    places = np.unique(np.linspace(0, count - 1, min(count, _LOOKED_AT)).astype(int))
    rows, size_bytes = 0.0, 0
    for partition in (dataset.partitions[place] for place in places):
        found = _partition_rows(replace(dataset, partitions=(partition,)))
        rows += found or 0.0
        size_bytes += 0 if found is None else partition.size_bytes
    return round(rows * dataset.size_bytes / max(1, size_bytes))


def _partition_rows(dataset: Dataset) -> float | None:
    """Rows of a dataset of one partition of text: counted if it is short, else by its bytes; None if it is corrupt."""
    losses = Losses() if dataset.reader.options.skip_corrupt else None
    of_path = dict(dataset.partitions[0].values)
    stored = [name for name in dataset.reader.schema().names if name not in of_path]
    rows = text_bytes = 0
    for _, batch in scan(dataset, stored or None, batch_rows=_FIRST_ROWS, losses=losses):
        rows += batch.num_rows
        text_bytes += _text_bytes(batch, named=dataset.report["format"] == "jsonl")
        if rows >= _FIRST_ROWS or text_bytes >= _FIRST_BYTES:
            return max(float(rows), float(dataset.size_bytes * rows / max(1, text_bytes)))
    return None if losses is not None and losses.messages else float(rows)


def _text_bytes(batch: pa.RecordBatch, *, named: bool) -> int:
    """About as many as the rows have in a text file; `named`: where each cell comes with the name of its column."""
    sink = pa.BufferOutputStream()
    try:
        write_csv(batch, sink, WriteOptions(include_header=False))
    except pa.ArrowException:  # of a type, or with a cell, that CSV has not
        return int(batch.nbytes / 1.5)
    names = sum(len(name.encode()) + 4 for name in batch.schema.names) if named else 0
    return int(sink.tell() + names * batch.num_rows)


def is_corrupt(error: DataError) -> bool:
    """Whether a partition cannot be read, rather than being another one or of other columns than planned."""
    return not isinstance(error, SchemaError) and "has changed" not in error.message


def suggest_skipping(error: DataError) -> None:
    """Add the way on to the error for a file that cannot be read."""
    if is_corrupt(error) and "--skip-corrupt" not in (error.hint or ""):
        error.hint = f"{error.hint or 'Restore the file.'} {SKIP_HINT}"


def check_sources(dataset: Dataset) -> None:
    """Raise `DataError` when a file is not what it was when the dataset was planned; it names the file."""
    seen: set[str] = set()
    for partition in dataset.partitions:
        if partition.path not in seen:
            seen.add(partition.path)
            check_unchanged(partition.path, partition.fingerprint, dataset.reader.options.storage)
