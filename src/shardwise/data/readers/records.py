"""CSV and JSON lines: survey the files for types and safe cuts, plan byte ranges, read blocks of whole records."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from shardwise.compute.threads import in_order
from shardwise.core.errors import DataError, ShardwiseError
from shardwise.data.base import Partition
from shardwise.data.convert import conform, slices
from shardwise.data.options import DEFAULT_TARGET_BYTES, ReadOptions
from shardwise.data.places import File, check_unchanged, reading
from shardwise.data.readers.base import Batches, hive_scalars, look_at_files, select, without
from shardwise.data.readers.text import TextFile, blocks, skip
from shardwise.data.schemas import Kind, Layout, Layouts, hive_kinds, merge_kinds, schema_of

SURVEY_BYTES = 256 << 20  # looked at for types, over all files
_FILE_BYTES = (3 << 19, 32 << 20)  # at least and at most of one file
_SAMPLE_BYTES = 512 << 10
_STEP_BYTES = 4 << 20
_MAX_SURVEYED_BLOCKS = 64


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """Rows of a block, and how many bad ones were left out."""

    batch: pa.RecordBatch
    skipped_rows: int = 0


class Records(Protocol):
    """An opened text file of one format."""

    @property
    def text(self) -> TextFile: ...

    @property
    def start(self) -> int:
        """Bytes before the first record."""
        ...

    def last_end(self, content: bytes) -> int:
        """Length of the whole records at the beginning of `content`, which begins with a record."""
        ...

    def check_tail(self, content: bytes) -> None:
        """Raise `DataError` when the last bytes of a file, behind the last end of a record, cannot be one."""
        ...

    def points(self, step: int) -> Iterator[int]:
        """Offsets in the file where records end, about one for each `step` bytes."""
        ...

    def infer(self, block: bytes) -> Layout:
        """Names and kinds of the columns in a block."""
        ...

    def parser(self, layout: Layout) -> Callable[[bytes], Parsed]:
        """What turns a block into rows with (at least) the columns of `layout` that the file has."""
        ...


Opener = Callable[[File, ReadOptions], "Records | None"]


@dataclass(frozen=True, kw_only=True)
class Surveyed:
    """What was learned of a file: None for `layout` when it is empty, `points` where it may be cut."""

    file: File
    layout: Layout | None
    has_rows: bool = False
    start: int = 0
    points: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TextReader:
    """Reads text files of one format; `opener` knows the format."""

    opener: Opener
    options: ReadOptions
    layout: Layout
    hive: Layout = ()
    surveyed: tuple[Surveyed, ...] = field(default=(), repr=False)

    @classmethod
    def survey(
        cls, opener: Opener, files: Sequence[File], options: ReadOptions, target_bytes: int = DEFAULT_TARGET_BYTES
    ) -> "tuple[TextReader, dict[str, Any]]":
        """Look at all files; the reader, and the report."""
        budget = int(np.clip(SURVEY_BYTES // len(files), *_FILE_BYTES))
        layouts, kept, empty = Layouts(), [], []
        hive = hive_kinds(files, options)
        found, corrupt = look_at_files(
            lambda file: _survey(opener, file, options, budget, target_bytes), files, options
        )
        for each in found:
            if each.layout is None:
                empty.append(each.file.path)
                continue
            kept.append(each)
            layouts.add(without(each.layout, dict(hive)), each.file.path)
        if not kept:
            raise DataError("the file is empty", hint="It must hold column names and rows.", path=empty[0])
        if not any(each.has_rows for each in kept):
            raise DataError("the file has no rows", hint="It holds column names only.", path=kept[0].file.path)
        layout, columns = layouts.unify(options, hive, as_text=True)
        report: dict[str, Any] = {"columns": columns, **corrupt}
        if empty:
            report["empty_files"] = {"files": len(empty), "example": empty[0]}
        return cls(opener=opener, options=options, layout=layout, hive=hive, surveyed=tuple(kept)), report

    def schema(self) -> pa.Schema:
        return schema_of(self.layout)

    def plan(self, target_bytes: int) -> tuple[Partition, ...]:
        ranges = [(each, cut) for each in self.surveyed for cut in byte_ranges(each, target_bytes)]
        return tuple(
            Partition(
                index=index, path=each.file.path, start=start, stop=stop, size_bytes=stop - start,
                values=hive_scalars(each.file, self.hive), fingerprint=each.file.fingerprint,
            )
            for index, (each, (start, stop)) in enumerate(ranges)
        )  # fmt: skip

    def read(self, partition: Partition, columns: Sequence[str] | None, batch_rows: int) -> Batches:
        batches = Batches()
        batches.source = self._read(partition, select(self.layout, columns), batch_rows, batches)
        return batches

    def _read(
        self, partition: Partition, layout: Layout, batch_rows: int, batches: Batches
    ) -> Iterator[pa.RecordBatch]:
        values = dict(partition.values)
        with reading(partition.path, partition=partition.index):
            file = check_unchanged(partition.path, partition.fingerprint, self.options.storage)
            records = self.opener(file, self.options)
            assert records is not None
            inside = without(layout, values)
            parse = records.parser(inside)
            rows = 0
            with closing(in_order(parse, _blocks_of(records, partition), pa.cpu_count())) as parsed_blocks:
                while True:
                    with _rows_before(rows):
                        parsed = next(parsed_blocks, None)
                        if parsed is None:
                            return
                        batch = conform(parsed.batch, layout, values)
                    rows += parsed.batch.num_rows + parsed.skipped_rows
                    batches.skipped_rows += parsed.skipped_rows
                    yield from slices(batch, batch_rows)

    def reading_only(self) -> "TextReader":
        """The same without what only planning needs: small, for tasks."""
        return replace(self, surveyed=())

    def with_dictionaries(self) -> "TextReader":
        return self


@contextmanager
def _rows_before(count: int) -> Iterator[None]:
    """Rows in errors are counted from the start of the partition, not of the block."""
    try:
        yield
    except ShardwiseError as error:
        row = error.context.get("row")
        if isinstance(row, int):
            error.context["row"] = row + count
        raise


def byte_ranges(surveyed: Surveyed, target_bytes: int) -> list[tuple[int, int]]:
    """Ranges of about `target_bytes` that cover all records of a file, cut where records end."""
    start, stop = surveyed.start, surveyed.file.size_bytes
    count = max(1, -(-(stop - start) // target_bytes))
    if count == 1 or not surveyed.points:
        return [(start, stop)]
    points = np.array([*surveyed.points, stop], dtype=np.int64)
    ideal = start + np.arange(1, count, dtype=np.int64) * (stop - start) // count
    cuts = np.unique(points[np.searchsorted(points, ideal)])
    edges = [start, *cuts[(cuts > start) & (cuts < stop)].tolist(), stop]
    return list(pairwise(edges))


def _survey(opener: Opener, file: File, options: ReadOptions, budget: int, target_bytes: int) -> Surveyed:
    with reading(file.path):
        records = opener(file, options)
        if records is None:
            return Surveyed(file=file, layout=None)
        size = file.size_bytes
        points: tuple[int, ...] = ()
        if records.text.is_seekable and size > min(budget, target_bytes):
            points = tuple(records.points(max(1, min(_STEP_BYTES, target_bytes // 8))))
        start = records.start if records.text.is_seekable else 0
        surveyed = Surveyed(file=file, layout=(), start=start, points=points)
        layouts = [records.infer(block) for block in _samples(records, surveyed, budget)]
        has_rows = len(layouts) > 0
        layout = _merge(layouts) if layouts else records.infer(b"")
        return replace(surveyed, layout=layout, has_rows=has_rows)


def _merge(layouts: Sequence[Layout]) -> Layout:
    """One layout for the blocks of a file."""
    columns: dict[str, dict[Kind, None]] = {}
    for layout in layouts:
        for name, kind in layout:
            columns.setdefault(name, {})[kind] = None
    merged = [(name, merge_kinds(list(kinds), as_text=True)) for name, kinds in columns.items()]
    return tuple((name, kind) for name, kind in merged if kind is not None)


def _samples(records: Records, surveyed: Surveyed, budget: int) -> Iterator[bytes]:
    """Blocks to look at: all of a small file; pieces from the start to the end of a large one."""
    size = surveyed.file.size_bytes
    whole = Partition(index=0, path=surveyed.file.path, start=surveyed.start, stop=size)
    if not records.text.is_seekable:
        # all of the beginning, then ever more rarely: a compressed file has no middle to go to
        with closing(_blocks_of(records, whole)) as stream:
            for i, block in enumerate(islice(stream, _MAX_SURVEYED_BLOCKS)):
                if i < budget >> 22 or i & (i - 1) == 0:
                    yield block
        return
    if size <= budget or not surveyed.points:
        with closing(_blocks_of(records, whole)) as stream:
            yield from islice(stream, max(1, budget >> 22) + 1)
        return
    starts = np.array([surveyed.start, *surveyed.points])
    places = np.unique(np.linspace(0, len(starts) - 1, max(2, budget // _SAMPLE_BYTES)).astype(int))
    for start in starts[places].tolist():
        piece = replace(whole, start=start, stop=min(size, start + _SAMPLE_BYTES))
        content = b"".join(records.text.decoded(piece.start, piece.stop))
        end = len(content) if piece.stop == size else records.last_end(content)
        if end:
            yield content[:end]


def _blocks_of(records: Records, partition: Partition) -> Generator[bytes, None, None]:
    text = records.text
    chunks: Iterator[bytes] = text.decoded(partition.start, partition.stop)
    if not text.is_seekable:
        chunks = skip(chunks, records.start)
    return blocks(chunks, records.last_end, records.check_tail)
