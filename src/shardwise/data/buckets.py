"""The writing half of a shuffle: rows gather in a bucket for each partition, and leave as Parquet row groups.

A bucket is written as soon as it holds a row group, so that an input of any size passes through. What does not fit into
memory before that is appended to one spill file as Arrow IPC (the largest buckets first), and read back when its row
group is full. Row groups are cut by counting rows, so the bytes of the files depend neither on memory nor on threads.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from shardwise.core.errors import context

GROUP_BYTES = 8_000_000  # of a row group in memory: 64 partitions side by side stay below half a gigabyte
MIN_GROUP_ROWS, MAX_GROUP_ROWS = 8_192, 131_072
MAX_OPEN = 256  # files that are written side by side; with more partitions each is written in the end
STAGGER = 8  # buckets that fill in step would all be full at once: first row groups are of 1/8, 2/8 ... of the size
_SPILL = pa.ipc.IpcWriteOptions(compression="lz4")
_HASH_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Written:
    """A file of a partition, its path within the folder, and the hash of its content."""

    partition: int
    path: str
    rows: int
    size_bytes: int
    hash: str


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How files are written: `dictionary` names the columns that repeat their values."""

    compression: str = "zstd"
    dictionary: tuple[str, ...] = ()
    group_rows: int = MAX_GROUP_ROWS

    def open(self, path: Path, schema: pa.Schema) -> pq.ParquetWriter:
        return pq.ParquetWriter(
            path, schema, compression=self.compression, use_dictionary=list(self.dictionary) or False,
            write_page_checksum=True,
        )  # fmt: skip


def choose_encoding(sample: pa.RecordBatch, compression: str) -> Encoding:
    """Row groups of about `GROUP_BYTES`, dictionaries for columns whose values repeat, as the first rows show them."""
    width = sample.nbytes / max(1, sample.num_rows)
    fitting = int(GROUP_BYTES / max(1.0, width))
    rows = 1 << (max(MIN_GROUP_ROWS, min(MAX_GROUP_ROWS, fitting)).bit_length() - 1)
    repeating = tuple(
        name
        for name, column in zip(sample.schema.names, sample.columns, strict=True)
        if not pa.types.is_boolean(column.type) and len(column.unique()) <= sample.num_rows / 4
    )
    return Encoding(compression=compression, dictionary=repeating, group_rows=rows)


@dataclass
class _Bucket:
    """Rows of one partition that are not in its file yet, in their order: `front`, `segments`, `pieces`."""

    number: int
    front: list[pa.RecordBatch] = field(default_factory=list)  # read back, or left over from a row group
    segments: deque[tuple[int, int]] = field(default_factory=deque)  # (offset, length) in the spill file
    pieces: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0  # in all three
    bytes: int = 0  # in memory
    written: int = 0
    writer: pq.ParquetWriter | None = None
    last: Future[None] | None = None


class Buckets:
    """Takes pieces of partitions in the order of the data; `finish` gives the files."""

    def __init__(self, schema: pa.Schema, folder: Path, encoding: Encoding, *, count: int, memory_bytes: int,
                 threads: int = 2) -> None:  # fmt: skip
        self.schema = schema
        self.folder = folder
        self.encoding = encoding
        self.memory_bytes = memory_bytes
        self.spilled_bytes = 0
        self.files: dict[int, Written] = {}
        self._direct = count <= MAX_OPEN
        self._buckets: dict[int, _Bucket] = {}
        self._held = 0
        self._spill: BinaryIO | None = None
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="encode")
        self._flight: deque[Future[None]] = deque()
        self._threads = threads

    def add(self, partition: int, piece: pa.RecordBatch) -> None:
        """Keep rows of a partition; write what is full, spill what does not fit."""
        bucket = self._buckets.setdefault(partition, _Bucket(partition))
        size = piece.nbytes
        bucket.pieces.append(piece)
        bucket.rows += piece.num_rows
        bucket.bytes += size
        self._held += size
        while self._direct and bucket.rows >= self._group_rows(bucket):
            self._write(bucket, self._group_rows(bucket))
        if self._held > self.memory_bytes:
            self._spill_largest()

    def finish(self, name: Callable[[int], str]) -> list[Written]:
        """Write the rest; the files in the order of their partitions, each under its `name(partition)`."""
        for number in sorted(self._buckets):
            bucket = self._buckets[number]
            while bucket.rows:
                self._write(bucket, min(bucket.rows, self._group_rows(bucket)))
            self._submit(bucket, self._close, bucket, name(number))
        while self._flight:
            self._flight.popleft().result()
        return [self.files[number] for number in sorted(self.files)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the threads and close all files."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for bucket in self._buckets.values():
            if bucket.writer is not None:
                bucket.writer.close()
        if self._spill is not None:
            self._spill.close()

    # ------------------------------------------------------------------------------------------------ row groups

    def _group_rows(self, bucket: _Bucket) -> int:
        whole = self.encoding.group_rows
        return whole if bucket.written else whole * (1 + bucket.number % STAGGER) // STAGGER

    def _write(self, bucket: _Bucket, rows: int) -> None:
        """Hand the first `rows` rows of a bucket to a thread that encodes them."""
        while bucket.segments and count_rows(bucket.front) < rows:
            bucket.front += self._read_back(*bucket.segments.popleft())
        if count_rows(bucket.front) < rows:
            bucket.front, bucket.pieces = bucket.front + bucket.pieces, []
        taken, bucket.front = cut(bucket.front, rows)
        held = sum(piece.nbytes for piece in (*bucket.front, *bucket.pieces))
        self._held += held - bucket.bytes
        bucket.bytes = held
        bucket.rows -= rows
        bucket.written += rows
        self._submit(bucket, self._encode, bucket, taken)

    def _submit(self, bucket: _Bucket, work: Any, *arguments: Any) -> None:
        """Row groups of one file one after the other; at most a few in flight, as they are held in memory."""
        while len(self._flight) > self._threads:
            self._flight.popleft().result()
        future = self._pool.submit(_after, bucket.last, work, *arguments)
        bucket.last = future
        self._flight.append(future)

    def _encode(self, bucket: _Bucket, pieces: Sequence[pa.RecordBatch]) -> None:
        with context(partition=bucket.number):
            if bucket.writer is None:
                bucket.writer = self.encoding.open(self._path(bucket.number), self.schema)
            table = pa.Table.from_batches(pieces, self.schema)
            bucket.writer.write_table(table, row_group_size=max(1, table.num_rows))

    def _close(self, bucket: _Bucket, name: str) -> None:
        with context(partition=bucket.number):
            assert bucket.writer is not None
            bucket.writer.close()
            bucket.writer = None
            path = self._path(bucket.number).rename(self.folder / name)
            self.files[bucket.number] = Written(
                partition=bucket.number, path=name, rows=bucket.written, size_bytes=path.stat().st_size,
                hash=content_hash(path),
            )  # fmt: skip

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.open"

    # ------------------------------------------------------------------------------------------------ spilling

    def _spill_largest(self) -> None:
        """Move buckets to the disk, the largest first, until half of the memory is free."""
        for bucket in sorted(self._buckets.values(), key=lambda bucket: (-bucket.bytes, bucket.number)):
            if self._held <= self.memory_bytes // 2:
                return
            self._spill_bucket(bucket)

    def _spill_bucket(self, bucket: _Bucket) -> None:
        """In segments of at most a row group, so that few are in memory when they are read back."""
        rest = bucket.pieces
        while rest:
            taken, rest = cut(rest, self.encoding.group_rows)
            segment = self._append(pa.Table.from_batches(taken, self.schema).combine_chunks())
            bucket.segments.append(segment)
            self.spilled_bytes += segment[1]
        held = sum(piece.nbytes for piece in bucket.front)
        self._held += held - bucket.bytes
        bucket.pieces, bucket.bytes = [], held

    def _append(self, table: pa.Table) -> tuple[int, int]:
        """Where the table lies in the spill file."""
        with context(stage="spill"):
            if self._spill is None:
                self._spill = (self.folder / "spill.arrow").open("w+b")
            offset = self._spill.seek(0, os.SEEK_END)
            with pa.ipc.new_stream(pa.PythonFile(self._spill, "w"), self.schema, options=_SPILL) as stream:
                stream.write_table(table)
            return offset, self._spill.seek(0, os.SEEK_END) - offset

    def _read_back(self, offset: int, length: int) -> list[pa.RecordBatch]:
        assert self._spill is not None
        self._spill.seek(offset)
        with context(stage="spill"), pa.ipc.open_stream(self._spill.read(length)) as stream:
            return list(stream)


def count_rows(pieces: Sequence[pa.RecordBatch]) -> int:
    return sum(piece.num_rows for piece in pieces)


def _after(before: Future[None] | None, work: Any, *arguments: Any) -> None:
    if before is not None:
        before.result()  # it was submitted earlier, so it is done or running
    work(*arguments)


def cut(pieces: Sequence[pa.RecordBatch], rows: int) -> tuple[list[pa.RecordBatch], list[pa.RecordBatch]]:
    """The first `rows` rows, and the others, without a copy.

    >>> first, rest = cut([pa.record_batch({"x": [1, 2]}), pa.record_batch({"x": [3, 4]})], 3)
    >>> [piece["x"].to_pylist() for piece in first], [piece["x"].to_pylist() for piece in rest]
    ([[1, 2], [3]], [[4]])
    """
    first, rest = [], []
    for piece in pieces:
        here = min(rows, piece.num_rows)
        rows -= here
        if here:
            first.append(piece.slice(0, here))
        if here < piece.num_rows:
            rest.append(piece.slice(here))
    return first, rest


def content_hash(path: Path) -> str:
    """xxh3_128 of a file's content, in hexadecimal."""
    digest = xxhash.xxh3_128()
    with context(path=str(path)), path.open("rb") as file:
        while piece := file.read(_HASH_BYTES):
            digest.update(piece)
    return digest.hexdigest()
