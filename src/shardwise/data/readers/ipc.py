"""Arrow IPC: the file format (also called Feather v2), read by record batch, and the stream format, read as a whole."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from shardwise.core.errors import DataError
from shardwise.data.base import Partition
from shardwise.data.convert import conform, slices
from shardwise.data.options import ReadOptions
from shardwise.data.places import File, check_unchanged, open_file, reading
from shardwise.data.readers.base import look_at_files
from shardwise.data.readers.parquet import Pieces, PiecesReader, unify_pieces
from shardwise.data.schemas import Layout, typed_layout

_FILE_MAGIC = b"ARROW1"


class IpcReader(PiecesReader):
    """Reads Arrow IPC files; local ones are memory-mapped and not copied."""

    @classmethod
    def survey(cls, files: Sequence[File], options: ReadOptions) -> "tuple[IpcReader, dict[str, Any]]":
        """Read the schemas and the places of the batches of all files; the reader, and the report."""
        found, corrupt = look_at_files(lambda file: _look(file, options), files, options)
        layout, hive, report = unify_pieces(found, files, options)
        return cls(options=options, layout=layout, hive=hive, pieces=tuple(found)), {**report, **corrupt}

    def _read(self, partition: Partition, layout: Layout, batch_rows: int) -> Iterator[pa.RecordBatch]:
        values = dict(partition.values)
        with reading(partition.path, partition=partition.index):
            check_unchanged(partition.path, partition.fingerprint, self.options.storage)
            with open_file(partition.path, self.options.storage, memory_map=True) as source:
                names = {name for name, _ in layout}
                for batch in _batches(source, partition, names):
                    for part in slices(batch, batch_rows):
                        yield conform(part, layout, values)


def _batches(source: pa.NativeFile, partition: Partition, names: set[str]) -> Iterator[pa.RecordBatch]:
    if not _is_file_format(source):
        yield from pa.ipc.open_stream(source)
        return
    stored = pa.ipc.open_file(source).schema.names
    wanted = [i for i, name in enumerate(stored) if name in names]
    reader = pa.ipc.open_file(source, options=_only(wanted or [0]))
    yield from (reader.get_batch(i) for i in range(partition.start, partition.stop))


def _only(columns: list[int]) -> pa.ipc.IpcReadOptions:
    return pa.ipc.IpcReadOptions(included_fields=columns)


def _is_file_format(source: pa.NativeFile) -> bool:
    magic = source.read(len(_FILE_MAGIC))
    source.seek(0)
    return bytes(magic) == _FILE_MAGIC


def _look(file: File, options: ReadOptions) -> Pieces:
    if file.size_bytes == 0:
        raise DataError("the file is empty", hint="Write it again, or remove it.", path=file.path)
    with reading(file.path), open_file(file.path, options.storage, memory_map=True) as source:
        try:
            schema, rows, sizes = _pieces_of(source, file)
        except pa.ArrowInvalid as error:
            what = f"not an Arrow IPC file, or a truncated one: {str(error).splitlines()[0]}"
            raise DataError(what, hint="Write it again, or give its --format.", path=file.path) from error
    layout = typed_layout(schema, file.path, options)
    return Pieces(file=file, layout=layout, rows=tuple(rows), sizes_bytes=tuple(sizes))


def _pieces_of(source: pa.NativeFile, file: File) -> tuple[pa.Schema, list[int], list[int]]:
    """Schema, rows and bytes of each batch. A stream has no index: it is one piece, whose rows are counted here."""
    if not _is_file_format(source):
        stream = pa.ipc.open_stream(source)
        return stream.schema, [sum(batch.num_rows for batch in stream)], [file.size_bytes]
    schema = pa.ipc.open_file(source).schema
    reader = pa.ipc.open_file(source, options=_only([0]))
    rows = [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)]
    share = [max(1, file.size_bytes * count // max(1, sum(rows))) for count in rows]
    return schema, rows, share
