"""Parquet: partitions are files, or row groups of one; only footers are read to plan."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from shardwise.core.errors import DataError
from shardwise.data.base import Partition
from shardwise.data.convert import conform, slices
from shardwise.data.options import ReadOptions
from shardwise.data.places import File, check_unchanged, each_file, is_url, open_file, reading
from shardwise.data.readers.base import Batches, hive_scalars, select, without
from shardwise.data.schemas import Layout, Layouts, hive_kinds, schema_of, typed_layout


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """A file that can be read in pieces: rows and stored bytes of each row group or record batch."""

    file: File
    layout: Layout
    rows: tuple[int, ...]
    sizes_bytes: tuple[int, ...]


def group_pieces(sizes_bytes: Sequence[int], target_bytes: int) -> list[tuple[int, int]]:
    """Ranges of consecutive pieces, each of about `target_bytes`; all pieces, in order; at least one range.

    >>> group_pieces([40, 40, 40, 40], 80), group_pieces([], 80)
    ([(0, 2), (2, 4)], [(0, 0)])
    """
    ranges, start, size = [], 0, 0
    for i, piece in enumerate(sizes_bytes):
        # a piece goes where the range ends nearer to the target
        if i > start and size + piece / 2 > target_bytes:
            ranges.append((start, i))
            start, size = i, 0
        size += piece
    return [*ranges, (start, len(sizes_bytes))]


def plan_pieces(pieces: Sequence[Pieces], hive: Layout, target_bytes: int) -> tuple[Partition, ...]:
    """Partitions of files that are read in pieces, in order."""
    ranges = [(each, cut) for each in pieces for cut in group_pieces(each.sizes_bytes, target_bytes)]
    return tuple(
        Partition(
            index=index, path=each.file.path, start=start, stop=stop, rows=sum(each.rows[start:stop]),
            size_bytes=sum(each.sizes_bytes[start:stop]), values=hive_scalars(each.file, hive),
            fingerprint=each.file.fingerprint,
        )
        for index, (each, (start, stop)) in enumerate(ranges)
    )  # fmt: skip


def unify_pieces(
    pieces: Sequence[Pieces], files: Sequence[File], options: ReadOptions
) -> tuple[Layout, Layout, dict[str, Any]]:
    """Layout, the part of it that comes from the paths, and the report; raises `DataError` when there are no rows."""
    layouts, hive = Layouts(), hive_kinds(files, options)
    for each in pieces:
        layouts.add(without(each.layout, dict(hive)), each.file.path)
    if not any(sum(each.rows) for each in pieces):
        raise DataError("the file has no rows", path=pieces[0].file.path)
    layout, columns = layouts.unify(options, hive, as_text=False)
    return layout, hive, {"columns": columns}


@dataclass(frozen=True, kw_only=True)
class PiecesReader:
    """What readers of files share that tell their pieces (row groups, record batches) and types by themselves."""

    options: ReadOptions
    layout: Layout
    hive: Layout = ()
    pieces: tuple[Pieces, ...] = field(default=(), repr=False)

    def schema(self) -> pa.Schema:
        return schema_of(self.layout)

    def plan(self, target_bytes: int) -> tuple[Partition, ...]:
        return plan_pieces(self.pieces, self.hive, target_bytes)

    def read(self, partition: Partition, columns: Sequence[str] | None, batch_rows: int) -> Batches:
        return Batches(self._read(partition, select(self.layout, columns), batch_rows))

    def reading_only(self) -> Self:
        """The same without what only planning needs: small, for tasks."""
        return replace(self, pieces=())

    def _read(self, partition: Partition, layout: Layout, batch_rows: int) -> Iterator[pa.RecordBatch]:
        raise NotImplementedError


class ParquetReader(PiecesReader):
    """Reads Parquet files."""

    @classmethod
    def survey(cls, files: Sequence[File], options: ReadOptions) -> "tuple[ParquetReader, dict[str, Any]]":
        """Read the footers of all files; the reader, and the report."""
        pieces = tuple(each_file(lambda file: _footer(file, options), files))
        layout, hive, report = unify_pieces(pieces, files, options)
        return cls(options=options, layout=layout, hive=hive, pieces=pieces), report

    def _read(self, partition: Partition, layout: Layout, batch_rows: int) -> Iterator[pa.RecordBatch]:
        values = dict(partition.values)
        with reading(partition.path, partition=partition.index):
            file = check_unchanged(partition.path, partition.fingerprint, self.options.storage)
            with _open(file, self.options) as parquet:
                here = set(parquet.schema_arrow.names)
                names = [name for name, _ in without(layout, values) if name in here]
                groups = list(range(partition.start, partition.stop))
                for batch in parquet.iter_batches(batch_rows, row_groups=groups, columns=names):
                    for part in slices(batch, batch_rows):
                        yield conform(part, layout, values)


def _open(file: File, options: ReadOptions) -> pq.ParquetFile:
    # read, not mapped: as fast, and mapped pages would count as memory of the process
    source = open_file(file.path, options.storage)
    try:
        return pq.ParquetFile(source, pre_buffer=is_url(file.path), page_checksum_verification=True)
    except pa.ArrowInvalid as error:
        source.close()
        truncated = "footer" in str(error) or "magic bytes" in str(error) or "smaller than" in str(error)
        what = "not a Parquet file, or a truncated one" if truncated else str(error).splitlines()[0]
        raise DataError(what, hint="Write it again, or give its --format.", path=file.path) from error


def _footer(file: File, options: ReadOptions) -> Pieces:
    with reading(file.path):
        if file.size_bytes == 0:
            raise DataError("the file is empty", hint="Write it again, or remove it.", path=file.path)
        with _open(file, options) as parquet:
            groups = [parquet.metadata.row_group(i) for i in range(parquet.num_row_groups)]
            return Pieces(
                file=file, layout=typed_layout(parquet.schema_arrow, file.path, options),
                rows=tuple(group.num_rows for group in groups),
                sizes_bytes=tuple(_stored_bytes(group) for group in groups),
            )  # fmt: skip


def _stored_bytes(group: pq.RowGroupMetaData) -> int:
    return sum(group.column(i).total_compressed_size for i in range(group.num_columns))
