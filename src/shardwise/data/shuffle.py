"""The shuffle: rows of a dataset go to the files of N partitions, at a bounded memory.

Batches are read in order, each is assigned and split by a few threads, and its pieces go to buckets that write Parquet
(`data.buckets`). Decision 0006 compares this with DuckDB and PyArrow's dataset writer. `data.shuffles` has this one and
those of engines by name: each takes the same job and gives the same result.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa

from shardwise.compute.ceiling import check_disk, cpu_quota
from shardwise.compute.threads import in_order
from shardwise.core.errors import DataError, OverBudget
from shardwise.core.events import Advanced, Events, StageStarted
from shardwise.core.units import format_size
from shardwise.data.base import Partitioner
from shardwise.data.buckets import Buckets, Written, choose_encoding
from shardwise.data.dataset import Dataset
from shardwise.data.source import Losses, check_sources, scan

BATCH_ROWS, BATCH_BYTES = 65_536, 32_000_000
_PEEK_ROWS = 1_024
BASE_BYTES = 320_000_000  # interpreter, libraries, and what allocators keep
MIN_MEMORY_BYTES = 400_000_000
DISK_SHARE = 1.25  # of the bytes as stored: other encodings, and the spill
_FEW_ROWS = 256  # rows of a piece below which copying pieces one by one costs more than it frees

Numbered = tuple[int, pa.RecordBatch]


@dataclass(frozen=True, kw_only=True)
class ShuffleJob:
    """What is to be written where: `name` gives the file of a partition, `memory_bytes` bounds the process.

    `skip_corrupt` counts what cannot be read instead of failing. On an engine `memory_bytes` bounds each worker; there
    are `workers` (None: as many as it has), and it is asked at `address`; `name` and the partitioner are pickled.
    """

    dataset: Dataset
    partitioner: Partitioner
    folder: Path
    name: Callable[[int], str]
    memory_bytes: int
    compression: str = "zstd"
    threads: int = 0
    skip_corrupt: bool = False
    workers: int | None = None
    address: str | None = None


@dataclass(frozen=True, kw_only=True)
class ShuffleResult:
    """The files in the order of their partitions; `spilled_bytes` went through the disk a second time."""

    files: tuple[Written, ...]
    spilled_bytes: int = 0
    losses: Losses = field(default_factory=Losses)

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)


Shuffle = Callable[[ShuffleJob, Events], ShuffleResult]


def shuffle(job: ShuffleJob, events: Events) -> ShuffleResult:
    """Write the partitions with the threads of this process.

    Raises `DiskFull` before anything is written when the disk is too small, `OverBudget` when the memory is,
    `DataError` for a source that cannot be read or has changed meanwhile; what is in `job.folder` then is of no use.
    """
    check_memory(job.memory_bytes)
    check_disk(job.folder, int(job.dataset.size_bytes * DISK_SHARE))
    losses, threads = Losses(), job.threads or cpu_quota()
    batches = scan(
        job.dataset, batch_rows=choose_batch_rows(job.dataset), losses=losses if job.skip_corrupt else None,
        done=_announce(job, events),
    )  # fmt: skip
    first = next((numbered for numbered in batches if numbered[1].num_rows), None)
    if first is None:
        raise no_rows()
    encoding = choose_encoding(first[1], job.compression)
    room = (job.memory_bytes - BASE_BYTES) // 2
    with (
        closing(in_order(partial(split, job.partitioner), chain([first], batches), threads)) as parts,
        Buckets(job.dataset.schema, job.folder, encoding, count=job.partitioner.count, memory_bytes=room,
                threads=threads) as buckets,
    ):  # fmt: skip
        for pieces in parts:
            for number, piece in pieces.items():
                buckets.add(number, piece)
        files = buckets.finish(job.name)
    check_sources(job.dataset)
    return ShuffleResult(files=tuple(files), spilled_bytes=buckets.spilled_bytes, losses=losses)


def no_rows() -> DataError:
    """The error for data without rows."""
    return DataError("the data has no rows to partition", hint="Look at the files that were given.")


def choose_batch_rows(dataset: Dataset) -> int:
    """Rows of a batch of about `BATCH_BYTES`, as wide as the first rows are; at most `BATCH_ROWS`."""
    peek = scan(dataset, batch_rows=_PEEK_ROWS, losses=Losses())  # what is lost is counted when it is read
    first = next((batch for _, batch in peek if batch.num_rows), None)
    if first is None:
        return BATCH_ROWS
    return max(_PEEK_ROWS, min(BATCH_ROWS, int(BATCH_BYTES / max(1.0, first.nbytes / first.num_rows))))


def _announce(job: ShuffleJob, events: Events) -> Callable[[int], None]:
    events.emit(StageStarted(stage="shuffle", total=len(job.dataset.partitions)))
    return lambda rows: events.emit(Advanced(stage="shuffle", rows=rows))


def check_memory(memory_bytes: int) -> None:
    """Raise `OverBudget` for a ceiling under which nothing can be written."""
    if memory_bytes < MIN_MEMORY_BYTES:
        raise OverBudget(
            f"a memory ceiling of {format_size(memory_bytes)} is too low to partition",
            hint=f"Give at least --memory {MIN_MEMORY_BYTES // 10**6}MB.",
        )


def split(partitioner: Partitioner, numbered: Numbered) -> dict[int, pa.RecordBatch]:
    """The rows of a batch by their partition, in rising numbers; within one in the order of the batch.

    >>> from shardwise.data.partitioners.positions import RoundRobin
    >>> pieces = split(RoundRobin(2), (0, pa.record_batch({"x": [5, 6, 7]})))
    >>> {number: piece["x"].to_pylist() for number, piece in pieces.items()}
    {0: [5, 7], 1: [6]}
    """
    first_row, batch = numbered
    numbers = partitioner.assign(batch, first_row)
    # a radix sort, for 16 bits: faster than a filter for each partition
    order = np.argsort(numbers.astype(np.uint16) if partitioner.count <= 1 << 16 else numbers, kind="stable")
    ordered = numbers[order]
    starts = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])[: len(ordered)]
    stops = np.append(starts[1:], len(ordered))
    cuts = list(zip(ordered[starts].tolist(), starts.tolist(), stops.tolist(), strict=True))
    if len(cuts) == 1:
        return {cuts[0][0]: batch}
    if len(ordered) < len(cuts) * _FEW_ROWS:
        turned = batch.take(pa.array(order))
        return {number: turned.slice(start, stop - start) for number, start, stop in cuts}
    # copied piece by piece, so that a piece that has been written gives its memory back
    return {number: batch.take(pa.array(order[start:stop])) for number, start, stop in cuts}
