"""Reading a dataset from its first row to its last: with the numbers of the rows, and with what could not be read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from shardwise.core.errors import DataError, SchemaError
from shardwise.data.base import Partition
from shardwise.data.dataset import BATCH_ROWS, Dataset
from shardwise.data.places import check_unchanged

Done = Callable[[int], None]


@dataclass(kw_only=True)
class Losses:
    """Partitions of the source that could not be read to the end, why, and the rows that are lost with them.

    `rows` counts those of formats that tell how many there are (Parquet, Arrow).
    """

    rows: int = 0
    skipped_rows: int = 0  # bad rows of text files
    messages: dict[int, str] = field(default_factory=dict)  # by number of the source partition

    def add(self, partition: Partition, delivered: int, error: DataError) -> None:
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
        except SchemaError:
            raise
        except DataError as error:
            if "has changed" in error.message:
                raise
            if losses is None:
                error.hint = error.hint or "Restore the file, or go on without what cannot be read: --skip-corrupt."
                raise
            losses.add(partition, rows, error)
        if losses is not None:
            losses.skipped_rows += batches.skipped_rows
        done(rows)


def check_sources(dataset: Dataset) -> None:
    """Raise `DataError` when a file is not what it was when the dataset was planned; it names the file."""
    seen: set[str] = set()
    for partition in dataset.partitions:
        if partition.path not in seen:
            seen.add(partition.path)
            check_unchanged(partition.path, partition.fingerprint, dataset.reader.options.storage)
