"""What the partitioners share: what they are fitted on, checks of what was asked, the numbers of rows."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from shardwise.core.errors import ConfigError, SchemaError
from shardwise.core.names import nearest

MAX_PARTITIONS = 100_000
_OFFSET = (1 << 40) - 1  # of a row in its partition: see `Partition.first_row`

Scan = Callable[[Sequence[str]], Iterator[tuple[int, pa.RecordBatch]]]


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a partitioner is fitted on.

    scan      columns -> (number of the first row, batch), in the order of the data; each call is one pass
    pieces    (first row number, rows, stored bytes) of each partition of the source, in order
    count     how many partitions to make where the spec does not say
    """

    schema: pa.Schema
    scan: Scan
    pieces: tuple[tuple[int, int, int], ...] = ()
    count: int = 1
    seed: int = 0

    @property
    def rows(self) -> int:
        return sum(rows for _, rows, _ in self.pieces)


def check_count(count: int) -> int:
    """The count; raises `ConfigError` when it is none."""
    if not 1 <= count <= MAX_PARTITIONS:
        raise ConfigError(
            f"{count:,} partitions were asked for", hint=f"Give a whole number from 1 to {MAX_PARTITIONS:,}."
        )
    return count


def check_key(columns: Collection[str], names: Collection[str]) -> None:
    """Raise `SchemaError` for a key that is no column, with the nearest name."""
    for column in columns:
        if column not in names:
            raise SchemaError(f"there is no column {column!r} to partition by", hint=nearest(column, names))


def row_numbers(rows: int, first_row: int) -> np.ndarray:
    """Numbers int64 `(rows,)` of the rows of a batch in the dataset: rising, with gaps between its partitions."""
    return np.arange(first_row, first_row + rows, dtype=np.int64)


def row_places(rows: int, first_row: int) -> np.ndarray:
    """Places int64 `(rows,)`: number of the source partition plus place in it.

    Without the gaps of the row numbers, so that it can be counted in turn, also where each partition has but one row.
    """
    numbers = row_numbers(rows, first_row)
    return (numbers >> 40) + (numbers & _OFFSET)
