"""Files of predictions, of any format. None is half-written."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from shardwise.core.errors import ConfigError
from shardwise.data.places import filesystem, is_url, reading
from shardwise.serve.forms import AnswerForm
from shardwise.serve.json_lines import to_json_lines
from shardwise.store.files import remove_leftovers, staged_file

COMPRESSION = "snappy"  # of Parquet files
ROW_GROUP_ROWS = 131_072
ROW_GROUP_CELLS = 1 << 24  # of wide outputs a row group has fewer rows


class Closable(Protocol):
    def close(self) -> None:
        """Write what is held back; what was written is complete then."""
        ...


class Sink(Closable, Protocol):
    """Writes batches of one schema to one file."""

    def write(self, batch: pa.RecordBatch) -> None: ...


_SinkT = TypeVar("_SinkT", bound=Closable)


class ParquetSink:
    """Row groups of `ROW_GROUP_ROWS` (fewer of many columns), whatever the size of the batches."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        texts = [field.name for field in schema if not pa.types.is_floating(field.type)]
        self._writer = pq.ParquetWriter(path, schema, use_dictionary=texts, compression=COMPRESSION)
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0
        self._group_rows = max(1, min(ROW_GROUP_ROWS, ROW_GROUP_CELLS // max(1, len(schema))))

    def write(self, batch: pa.RecordBatch) -> None:
        self._held.append(batch)
        self._held_rows += batch.num_rows
        if self._held_rows >= self._group_rows:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._held_rows:
            self._writer.write_table(pa.Table.from_batches(self._held), row_group_size=self._held_rows)
        self._held, self._held_rows = [], 0


class CsvSink:
    """Comma-separated, UTF-8, with a header; null is an empty cell, an empty string is `""`."""

    compression: str | None = None

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = _without_dictionaries(schema)
        self._stream = pa.output_stream(str(path), compression=self.compression)
        self._writer = pa_csv.CSVWriter(self._stream, self._schema)

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch.cast(self._schema))

    def close(self) -> None:
        self._writer.close()
        self._stream.close()


class GzipCsvSink(CsvSink):
    compression = "gzip"


class JsonLinesSink:
    """One JSON object a line, UTF-8; null, NaN and infinities are null."""

    compression: str | None = None

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = _without_dictionaries(schema)
        self._stream = pa.output_stream(str(path), compression=self.compression)

    def write(self, batch: pa.RecordBatch) -> None:
        self._stream.write(to_json_lines(batch.cast(self._schema)))

    def close(self) -> None:
        self._stream.close()


class GzipJsonLinesSink(JsonLinesSink):
    compression = "gzip"


SINKS: dict[str, Callable[[Path, pa.Schema], Sink]] = {
    ".parquet": ParquetSink,
    ".csv": CsvSink,
    ".csv.gz": GzipCsvSink,
    ".jsonl": JsonLinesSink,
    ".jsonl.gz": GzipJsonLinesSink,
}

Write = Callable[[pa.RecordBatch], None]


def output_suffix(out: str | Path) -> str | None:
    """The suffix that says how to write, None for a folder; raises `ConfigError` that lists what is allowed.

    >>> output_suffix("scores.CSV.gz"), output_suffix("scores/"), output_suffix("scores")
    ('.csv.gz', None, None)
    """
    path, remote = Path(out), is_url(str(out))
    if str(out).endswith("/") or (not remote and path.is_dir()):
        return None
    known = [suffix for suffix in SINKS if path.name.lower().endswith(suffix)]
    if not known and path.suffix:
        hint = f"Give a file that ends in {', '.join(SINKS)}, or a folder (without a suffix, or with / at its end)."
        raise ConfigError(f"predictions cannot be written to {path.name!r}", hint=hint)
    return max(known, key=len, default=None)


def check_form(form: AnswerForm, suffix: str | None) -> None:
    """Raise `ConfigError` for numbers of few bytes in text, which has no place to tell what they mean."""
    if suffix not in (None, ".parquet") and form.dtype in ("float16", "uint8"):
        hint = "Write Parquet (FILE.parquet or a folder), or choose --dtype float32."
        raise ConfigError(f"{suffix} files cannot hold {form.dtype}", hint=hint)


@contextmanager
def open_output(out: str, schema: pa.Schema, storage: Mapping[str, object] | None = None) -> Iterator[Write]:
    """A function `write(batch)`; what it wrote appears as the file `out` when the block ends well, else not at all.

    An object at a URL (`storage`: options of its store) is written on this machine first, into a temporary file, and
    put there in one step: object stores show it when all has come, and after a kill the old one is there, or none.
    """
    suffix = output_suffix(out)
    assert suffix is not None
    if is_url(out):
        system, inside = filesystem(out, storage or {})
        with tempfile.TemporaryDirectory(prefix="shardwise-") as folder:
            temp = Path(folder) / f"out{suffix}"
            with closing(SINKS[suffix](temp, schema)) as sink:
                yield sink.write
            with reading(out):  # no folder is made: in S3 that would be a bucket
                system.put_file(str(temp), inside)
        return
    path = Path(out)
    remove_leftovers(path.parent, path.name)
    with staged_file(path) as temp, closing(SINKS[suffix](temp, schema)) as sink:
        yield sink.write


@contextmanager
def closing(sink: _SinkT) -> Iterator[_SinkT]:
    """Close at the end; after an error too, when what closing says is of no interest any more."""
    try:
        yield sink
    except BaseException:
        with suppress(OSError, pa.ArrowException):
            sink.close()
        raise
    sink.close()


def _without_dictionaries(schema: pa.Schema) -> pa.Schema:
    """Text formats have no dictionaries."""
    kinds = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in schema.types]
    return pa.schema(list(zip(schema.names, kinds, strict=True)))
