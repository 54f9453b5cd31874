"""How often partitions are read, how many rows of them, and how long that takes: for the report of a run."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import pyarrow as pa

from shardwise.data.base import Partition
from shardwise.data.readers.base import Batches


@dataclass
class Access:
    """Of one partition: readings begun, rows given, and seconds that its reader took (not those of who asked)."""

    accesses: int = 0
    rows: int = 0
    seconds: float = 0.0


@dataclass
class AccessCounter:
    """Counts the readings of a dataset: hook it in with `dataset.counted(counter)`.

    It counts in its own process; the counters of workers travel back as JSON values and are merged. Partitions are
    known by their number in the plan.
    """

    partitions: dict[int, Access] = field(default_factory=dict)

    def watch(self, partition: Partition, batches: Batches) -> Batches:
        """The same batches, counted while they are drawn."""
        access = self.partitions.setdefault(partition.index, Access())
        access.accesses += 1
        watched = Batches()
        watched.source = self._draw(batches, watched, access)
        return watched

    def _draw(self, batches: Batches, watched: Batches, access: Access) -> Iterator[pa.RecordBatch]:
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            access.seconds += time.perf_counter() - began
            watched.skipped_rows = batches.skipped_rows
            if batch is None:
                return
            access.rows += batch.num_rows
            yield batch

    def merge(self, other: Self) -> None:
        """Add what another counter saw."""
        for number, access in other.partitions.items():
            mine = self.partitions.setdefault(number, Access())
            mine.accesses += access.accesses
            mine.rows += access.rows
            mine.seconds += access.seconds

    def to_json(self) -> list[dict[str, Any]]:
        """A record for each partition that was read, in the order of the plan."""
        return [
            {"partition": number, "accesses": access.accesses, "rows": access.rows, "seconds": access.seconds}
            for number, access in sorted(self.partitions.items())
        ]

    @classmethod
    def from_json(cls, content: list[Mapping[str, Any]]) -> Self:
        """Inverse of `to_json`."""
        return cls({
            record["partition"]: Access(record["accesses"], record["rows"], record["seconds"]) for record in content
        })  # fmt: skip
