"""Where predictions are written: one file, or a folder of Parquet parts. Nothing is half-written."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from shardwise.core.errors import ConfigError
from shardwise.serve.json_lines import to_json_lines
from shardwise.store.files import remove_leftovers, staged_file, staged_folder

ROW_GROUP_ROWS = 131_072
MARK = "_shardwise_predictions.json"  # in a folder that we wrote, and may therefore replace


class Closable(Protocol):
    def close(self) -> None:
        """Write what is held back; what was written is complete then."""
        ...


class Sink(Closable, Protocol):
    """Writes batches of one schema to one file."""

    def write(self, batch: pa.RecordBatch) -> None: ...


_SinkT = TypeVar("_SinkT", bound=Closable)


class ParquetSink:
    """Row groups of `ROW_GROUP_ROWS`, whatever the size of the batches."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        texts = [field.name for field in schema if not pa.types.is_floating(field.type)]
        self._writer = pq.ParquetWriter(path, schema, use_dictionary=texts, compression="snappy")
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        self._held.append(batch)
        self._held_rows += batch.num_rows
        if self._held_rows >= ROW_GROUP_ROWS:
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

Write = Callable[[int, pa.RecordBatch], None]


def output_suffix(out: str | Path) -> str | None:
    """The suffix that says how to write, None for a folder; raises `ConfigError` that lists what is allowed.

    >>> output_suffix("scores.CSV.gz"), output_suffix("scores/"), output_suffix("scores")
    ('.csv.gz', None, None)
    """
    path = Path(out)
    if str(out).endswith("/") or path.is_dir():
        return None
    known = [suffix for suffix in SINKS if path.name.lower().endswith(suffix)]
    if not known and path.suffix:
        hint = f"Give a file that ends in {', '.join(SINKS)}, or a folder (without a suffix, or with / at its end)."
        raise ConfigError(f"predictions cannot be written to {path.name!r}", hint=hint)
    return max(known, key=len, default=None)


@contextmanager
def open_output(out: str | Path, schema: pa.Schema, facts: Mapping[str, object]) -> Iterator[Write]:
    """A function `write(partition, batch)`; what it wrote appears when the block ends well, and not at all otherwise.

    A folder gets a part for each partition and a file `MARK` with `facts`. One that holds something else is refused.
    """
    path, suffix = Path(out), output_suffix(out)
    if suffix is None:
        _check_folder(path)
        with staged_folder(path) as temp:
            with _closing(_Parts(temp, schema)) as parts:
                yield parts.write
            (temp / MARK).write_text(json.dumps(facts, indent=1, sort_keys=True), encoding="utf8")
        return
    remove_leftovers(path.parent, path.name)
    with staged_file(path) as temp, _closing(SINKS[suffix](temp, schema)) as sink:
        yield lambda _partition, batch: sink.write(batch)


class _Parts:
    """`part-00000.parquet` and so on, by partition; partitions come one after the other."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._folder, self._schema = folder, schema
        self._partition = 0
        self._sink: Sink | None = None

    def write(self, partition: int, batch: pa.RecordBatch) -> None:
        if self._sink is None or partition != self._partition:
            if self._sink is not None:
                self._sink.close()
            self._partition, self._sink = partition, self._open(partition)
        self._sink.write(batch)

    def close(self) -> None:
        """Without any rows there is one part, which has the columns."""
        (self._sink or self._open(0)).close()

    def _open(self, partition: int) -> Sink:
        return ParquetSink(self._folder / f"part-{partition:05d}.parquet", self._schema)


@contextmanager
def _closing(sink: _SinkT) -> Iterator[_SinkT]:
    """Close at the end; after an error too, when what closing says is of no interest any more."""
    try:
        yield sink
    except BaseException:
        with suppress(OSError, pa.ArrowException):
            sink.close()
        raise
    sink.close()


def _check_folder(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        hint = "Choose a new folder, or a file in this one."
        raise ConfigError("the folder holds something else than predictions", hint=hint, path=str(folder))


def _without_dictionaries(schema: pa.Schema) -> pa.Schema:
    """Text formats have no dictionaries."""
    kinds = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in schema.types]
    return pa.schema(list(zip(schema.names, kinds, strict=True)))
