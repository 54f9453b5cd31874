"""Parquet: partitions are files, or row groups of one; only footers are read to plan."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shardwise.core.errors import DataError
from shardwise.data.base import Partition
from shardwise.data.convert import conform, slices
from shardwise.data.options import ReadOptions
from shardwise.data.places import File, check_unchanged, is_url, open_file, reading
from shardwise.data.readers.base import Batches, hive_scalars, look_at_files, select, without
from shardwise.data.schemas import STRING, Kind, Layout, Layouts, hive_kinds, schema_of, typed_layout

PARTS = 8  # of a large file at least: so many cores have something to do
TARGET_ROWS = (500_000, 2_000_000)  # of a partition: below, starting it costs too much; above, it takes long
DICTIONARY_BYTES = 6.0  # a row of a column of strings, at most, for its dictionary to be read as it is
_ENCODED = Kind(type=pa.dictionary(pa.int32(), pa.string()))


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """A file that can be read in pieces: rows and stored bytes of each row group or record batch."""

    file: File
    layout: Layout
    rows: tuple[int, ...]
    sizes_bytes: tuple[int, ...]


def group_pieces(sizes: Sequence[float], target: float) -> list[tuple[int, int]]:
    """Ranges of consecutive pieces, each of about `target`; all pieces, in order; at least one range.

    >>> group_pieces([40, 40, 40, 40], 80), group_pieces([], 80)
    ([(0, 2), (2, 4)], [(0, 0)])
    """
    ranges, start, size = [], 0, 0.0
    for i, piece in enumerate(sizes):
        # a piece goes where the range ends nearer to the target
        if i > start and size + piece / 2 > target:
            ranges.append((start, i))
            start, size = i, 0.0
        size += piece
    return [*ranges, (start, len(sizes))]


def plan_pieces(pieces: Sequence[Pieces], hive: Layout, target_bytes: int) -> tuple[Partition, ...]:
    """Partitions of files that are read in pieces, in order: of `target_bytes`, or of few columns a part of the rows.

    A partition is worth a worker's start: a file of few columns would else be a single one with many millions of rows.
    """
    target_rows = int(np.clip(sum(sum(each.rows) for each in pieces) // PARTS, *TARGET_ROWS))
    cuts: list[tuple[int, Pieces, int, int]] = []
    for number, each in enumerate(pieces):
        shares = [
            max(size / target_bytes, rows / target_rows) for size, rows in zip(each.sizes_bytes, each.rows, strict=True)
        ]
        cuts += [(number, each, start, stop) for start, stop in group_pieces(shares, 1.0)]
    return tuple(
        Partition(
            index=index, path=each.file.path, start=start, stop=stop, rows=sum(each.rows[start:stop]),
            size_bytes=sum(each.sizes_bytes[start:stop]), values=hive_scalars(each.file, hive),
            fingerprint=each.file.fingerprint, numbered_from=(number << 40) + sum(each.rows[:start]),
        )
        for index, (number, each, start, stop) in enumerate(cuts)
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
    dictionaries: bool = False  # strings come as dictionaries where the file holds them so

    def schema(self) -> pa.Schema:
        return schema_of(self.layout)

    def plan(self, target_bytes: int) -> tuple[Partition, ...]:
        return plan_pieces(self.pieces, self.hive, target_bytes)

    def read(self, partition: Partition, columns: Sequence[str] | None, batch_rows: int) -> Batches:
        return Batches(self._read(partition, select(self.layout, columns), batch_rows))

    def reading_only(self) -> Self:
        """The same without what only planning needs: small, for tasks."""
        return replace(self, pieces=())

    def with_dictionaries(self) -> Self:
        return replace(self, dictionaries=True)

    def _read(self, partition: Partition, layout: Layout, batch_rows: int) -> Iterator[pa.RecordBatch]:
        raise NotImplementedError


class ParquetReader(PiecesReader):
    """Reads Parquet files."""

    @classmethod
    def survey(cls, files: Sequence[File], options: ReadOptions) -> "tuple[ParquetReader, dict[str, Any]]":
        """Read the footers of all files; the reader, and the report."""
        found, corrupt = look_at_files(lambda file: _footer(file, options), files, options)
        layout, hive, report = unify_pieces(found, files, options)
        return cls(options=options, layout=layout, hive=hive, pieces=tuple(found)), {**report, **corrupt}

    def _read(self, partition: Partition, layout: Layout, batch_rows: int) -> Iterator[pa.RecordBatch]:
        values = dict(partition.values)
        with reading(partition.path, partition=partition.index):
            file = check_unchanged(partition.path, partition.fingerprint, self.options.storage)
            with _open(file, self.options) as parquet:
                here = set(parquet.schema_arrow.names)
                names = [name for name, _ in without(layout, values) if name in here]
                groups = list(range(partition.start, partition.stop))
                encoded = _dictionaries(parquet, layout, groups) if self.dictionaries else []
                kinds = tuple((name, _ENCODED if name in encoded else kind) for name, kind in layout)
                with _open(file, self.options, encoded, parquet.metadata) as source:
                    for batch in source.iter_batches(batch_rows, row_groups=groups, columns=names):
                        for part in slices(batch, batch_rows):
                            yield conform(part, kinds, values)


def _dictionaries(parquet: pq.ParquetFile, layout: Layout, groups: Sequence[int]) -> list[str]:
    """Columns of strings that are small in all row groups: their dictionary is held for a whole row group."""
    places = {name: index for index, name in enumerate(parquet.schema.names)}
    chosen = []
    for name, kind in layout:
        if kind == STRING and name in places and parquet.schema_arrow.field(name).type == STRING.type:
            metadata = [parquet.metadata.row_group(group) for group in groups]
            bytes_per_row = [
                group.column(places[name]).total_uncompressed_size / max(1, group.num_rows) for group in metadata
            ]
            if max(bytes_per_row, default=0.0) <= DICTIONARY_BYTES:
                chosen.append(name)
    return chosen


def _open(
    file: File,
    options: ReadOptions,
    dictionaries: Sequence[str] = (),
    metadata: pq.FileMetaData | None = None,
) -> pq.ParquetFile:
    # read, not mapped: as fast, and mapped pages would count as memory of the process
    source = open_file(file.path, options.storage)
    try:
        return pq.ParquetFile(
            source, pre_buffer=is_url(file.path), read_dictionary=list(dictionaries), metadata=metadata,
            page_checksum_verification=True,
        )  # fmt: skip
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
