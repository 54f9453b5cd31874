"""Shuffles by the name of the engine: threads of this process, or an engine's workers.

On an engine each worker reads partitions of the source, decides with the same partitioner about the same numbered rows,
and sends them as Arrow IPC over the engine's exchange (`compute.exchange`); others gather a partition's rows in the
order of the data and write its file. Row groups are cut by counting, by the encoding that the first rows call for: the
files have the bytes that one process would have written.
"""

import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from shardwise.compute.ceiling import check_disk
from shardwise.compute.engines import Asked
from shardwise.compute.exchange.base import ExchangeJob, Parcel
from shardwise.compute.exchange.engines import EXCHANGES
from shardwise.core.errors import ConfigError, DataError
from shardwise.core.events import Advanced, Events, StageStarted
from shardwise.core.names import nearest
from shardwise.data.base import Partition, Partitioner
from shardwise.data.buckets import Buckets, Encoding, Written, choose_encoding
from shardwise.data.dataset import Dataset
from shardwise.data.shuffle import (
    BASE_BYTES,
    DISK_SHARE,
    Shuffle,
    ShuffleJob,
    ShuffleResult,
    check_memory,
    choose_batch_rows,
    no_rows,
    shuffle,
    split,
)
from shardwise.data.source import Losses, check_sources, scan

PARCELS_BYTES = 64_000_000  # of rows that a worker holds before they leave as parcels; at most half of its room
_EXCHANGED_SHARE = 1.0  # of the bytes as stored, for parcels in files or in an engine's own
_IPC = pa.ipc.IpcWriteOptions(compression="lz4")
_SHARED = "On an engine the data and OUT lie where all workers see them, under the same path."


def shuffle_on(engine: str, job: ShuffleJob, events: Events) -> ShuffleResult:
    """Write the partitions by the workers of an engine; the same files as `shuffle.shuffle`, which see for the errors.

    `job.memory_bytes` bounds what a worker holds of the data, `job.folder` is seen by all workers under its path.
    """
    check_memory(job.memory_bytes)
    check_disk(job.folder, int(job.dataset.size_bytes * (DISK_SHARE + _EXCHANGED_SHARE)))
    batch_rows, parts = choose_batch_rows(job.dataset), job.dataset.partitions
    scratch = job.folder / "exchange"
    scratch.mkdir()
    room = (job.memory_bytes - BASE_BYTES) // 2
    events.emit(StageStarted(stage="shuffle", total=len(parts)))
    exchange = ExchangeJob[Written | Losses](
        items=list(enumerate(parts)), keys=job.partitioner.count + 1, scratch=scratch,
        spread=_Spread(
            dataset=replace(job.dataset, partitions=(), counter=None), partitioner=job.partitioner,
            batch_rows=batch_rows, held_bytes=min(PARCELS_BYTES, room), skip_corrupt=job.skip_corrupt,
        ),
        gather=_Gather(
            schema=job.dataset.schema, folder=job.folder, name=job.name, count=job.partitioner.count,
            encoding=_encoding(job, batch_rows), memory_bytes=room,
        ),
        passed=lambda item: events.emit(Advanced(stage="shuffle", rows=item[1].rows or 0)),
    )  # fmt: skip
    try:
        results = EXCHANGES[engine](exchange, Asked(workers=job.workers, address=job.address))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # what a worker still writes there goes with the folder
    files = tuple(result for result in results if isinstance(result, Written))
    _check_files(job.folder, files)
    check_sources(job.dataset)
    return ShuffleResult(files=files, losses=_joined(result for result in results if isinstance(result, Losses)))


def _encoding(job: ShuffleJob, batch_rows: int) -> Encoding:
    """By the first rows, as in one process."""
    batches = scan(job.dataset, batch_rows=batch_rows, losses=Losses() if job.skip_corrupt else None)
    first = next((batch for _, batch in batches if batch.num_rows), None)
    if first is None:
        raise no_rows()
    return choose_encoding(first, job.compression)


def _check_files(folder: Path, files: tuple[Written, ...]) -> None:
    for file in files:
        path = folder / file.path
        if not path.is_file() or path.stat().st_size != file.size_bytes:
            raise DataError(f"a worker has written {file.path}, which is not to be seen here", path=str(folder),
                            hint=_SHARED)  # fmt: skip


def _joined(losses: Iterator[Losses]) -> Losses:
    total = Losses()
    for each in losses:
        total.rows += each.rows
        total.skipped_rows += each.skipped_rows
        total.messages |= each.messages
    total.messages = dict(sorted(total.messages.items()))
    return total


@dataclass(frozen=True, kw_only=True)
class _Spread:
    """On a worker: the rows of a source partition as parcels, a partition of the new dataset for each key.

    The key after the last one is for what could not be read.
    """

    dataset: Dataset  # without its partitions: each comes as an item
    partitioner: Partitioner
    batch_rows: int
    held_bytes: int
    skip_corrupt: bool

    def __call__(self, item: tuple[int, Partition]) -> Iterator[Parcel]:
        position, partition = item
        order = iter(range(position << 32, (position + 1) << 32))
        losses = Losses() if self.skip_corrupt else None
        held: dict[int, list[pa.RecordBatch]] = {}
        held_bytes = 0
        alone = replace(self.dataset, partitions=(partition,))
        for numbered in scan(alone, batch_rows=self.batch_rows, losses=losses):
            if not numbered[1].num_rows:
                continue
            held_bytes += numbered[1].nbytes
            for number, piece in split(self.partitioner, numbered).items():
                held.setdefault(number, []).append(piece)
            if held_bytes > self.held_bytes:
                yield from self._parcels(held, order)
                held, held_bytes = {}, 0
        yield from self._parcels(held, order)
        if losses is not None:
            yield Parcel(self.partitioner.count, next(order), json.dumps(asdict(losses)).encode())

    def _parcels(self, held: dict[int, list[pa.RecordBatch]], order: Iterator[int]) -> Iterator[Parcel]:
        for number in sorted(held):
            table = pa.Table.from_batches(held.pop(number), self.dataset.schema).combine_chunks()
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, self.dataset.schema, options=_IPC) as stream:
                stream.write_table(table)
            yield Parcel(number, next(order), sink.getvalue().to_pybytes())


@dataclass(frozen=True, kw_only=True)
class _Gather:
    """On a worker: a partition's rows become its file, which appears whole; or what could not be read is added up."""

    schema: pa.Schema
    folder: Path
    name: Callable[[int], str]
    count: int
    encoding: Encoding
    memory_bytes: int

    def __call__(self, key: int, contents: Iterator[bytes]) -> Written | Losses:
        if key == self.count:
            return _joined(_losses_from(content) for content in contents)
        attempt = self.folder / f"{key}.{secrets.token_hex(6)}"  # an engine may do it twice, even at once
        try:
            attempt.mkdir()
        except FileNotFoundError as error:
            what = "a worker does not find the folder to write"
            raise DataError(what, path=str(self.folder), hint=_SHARED) from error
        try:
            written = self._write(key, contents, attempt)
            (attempt / written.path).replace(self.folder / written.path)
        finally:
            shutil.rmtree(attempt, ignore_errors=True)
        return written

    def _write(self, key: int, contents: Iterator[bytes], folder: Path) -> Written:
        with Buckets(self.schema, folder, self.encoding, count=1, memory_bytes=self.memory_bytes, threads=1) as buckets:
            for content in contents:
                with pa.ipc.open_stream(content) as stream:
                    for piece in stream:
                        buckets.add(key, piece)
            (written,) = buckets.finish(self.name)
        return written


def _losses_from(content: bytes) -> Losses:
    told = json.loads(content)
    return Losses(**{**told, "messages": {int(number): text for number, text in told["messages"].items()}})


SHUFFLES: dict[str, Shuffle] = {"local": shuffle, **{engine: partial(shuffle_on, engine) for engine in EXCHANGES}}
"""Engine -> its shuffle."""


def choose_shuffle(engine: str) -> Shuffle:
    """The shuffle of an engine; raises `ConfigError` for one that is not known."""
    if engine not in SHUFFLES:
        raise ConfigError(f"there is no engine {engine!r} to shuffle with", hint=nearest(engine, SHUFFLES))
    return SHUFFLES[engine]
