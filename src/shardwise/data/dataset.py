"""A dataset: a table in files, planned into partitions, read in bounded batches."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from shardwise.core.errors import ConfigError, DataError
from shardwise.core.schema import schema_to_json
from shardwise.core.units import format_size
from shardwise.data.access import AccessCounter
from shardwise.data.base import Partition
from shardwise.data.formats import choose_format
from shardwise.data.manifest import Manifest
from shardwise.data.options import DEFAULT_TARGET_BYTES, ReadOptions
from shardwise.data.places import find_files, manifest_of
from shardwise.data.readers import SURVEYS, AnyReader
from shardwise.data.readers.base import Batches
from shardwise.data.tables import from_table as _write_table
from shardwise.data.types import TypeConflict, widened

__all__ = ["Dataset", "ReadOptions", "TypeConflict", "from_table", "open_dataset"]

BATCH_ROWS = 65_536


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A table with a schema, in partitions. Small and picklable: it holds references, never rows.

    schema        columns over all files, unified
    partitions    in the natural order of the paths; all of them together are all rows, each once
    fingerprint   changes with the files (path, size, time or etag), the options and the plan
    report        what was unified, as JSON values: `format`, `files`, `columns` (those about which something is to be
                  said: their types in which files, files that lack them, notes), `ignored_files`, `schemes` (how
                  folders with a manifest are partitioned)
    """

    reader: AnyReader
    partitions: tuple[Partition, ...]
    fingerprint: str
    report: Mapping[str, Any]
    sources: tuple[str, ...]
    target_bytes: int
    counter: AccessCounter | None = field(default=None, compare=False)

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    @cached_property
    def _schema(self) -> pa.Schema:
        return self.reader.schema()

    @property
    def date_formats(self) -> dict[str, str]:
        """Columns of dates that are text in the files, with the format in which they are read, as `strptime` has it."""
        return {name: kind.formats[0] for name, kind in self.reader.layout if kind.formats}

    @property
    def rows(self) -> int | None:
        """Rows, where the files tell (Parquet, Arrow); None for text."""
        counts = [partition.rows for partition in self.partitions]
        return None if None in counts else sum(count for count in counts if count is not None)

    @property
    def size_bytes(self) -> int:
        """Bytes as stored."""
        return sum(partition.size_bytes for partition in self.partitions)

    def read(self, partition: Partition, columns: Sequence[str] | None = None, batch_rows: int = BATCH_ROWS) -> Batches:
        """Batches of at most `batch_rows` rows, with `columns` (None: all) in the order of the schema.

        Raises `TypeConflict` for a value that does not fit its column's type, `DataError` for what cannot be read and
        for a file that has changed since it was planned.
        """
        if batch_rows < 1:
            raise ConfigError(f"batch_rows {batch_rows} is too small", hint="Give at least 1.")
        batches = self.reader.read(partition, columns, batch_rows)
        return batches if self.counter is None else self.counter.watch(partition, batches)

    def counted(self, counter: AccessCounter) -> "Dataset":
        """The same dataset, whose readings in this process are counted."""
        return replace(self, counter=counter)

    def with_dictionaries(self) -> "Dataset":
        """The dataset whose `read` gives strings as dictionaries where the files hold them so: faster to count.

        A dictionary may hold words that no row of a batch has.
        """
        return replace(self, reader=self.reader.with_dictionaries())

    def widened(self, column: str, value: str | None = None) -> "Dataset":
        """The dataset, planned anew, with `column` of the next wider type: integer to float to string.

        With the `value` of a `TypeConflict`, the first type that holds it.
        """
        wider = str(widened(self.schema.field(column).type, value))
        options = replace(self.reader.options, types={**self.reader.options.types, column: wider})
        return open_dataset(self.sources, options=options, target_bytes=self.target_bytes)

    def describe(self) -> dict[str, Any]:
        """What the dataset is, as JSON values."""
        return {
            "sources": list(self.sources),
            "schema": schema_to_json(self.schema),
            "partitions": len(self.partitions),
            "rows": self.rows,
            "size_bytes": self.size_bytes,
            "size": format_size(self.size_bytes),
            "fingerprint": self.fingerprint,
            "options": self.reader.options.to_json(),
            "report": dict(self.report),
        }


def open_dataset(
    sources: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    *,
    options: ReadOptions | None = None,
    target_bytes: int = DEFAULT_TARGET_BYTES,
) -> Dataset:
    """Find the files, unify their schemas and plan partitions of about `target_bytes` as stored; nothing is copied.

    A source is a file, a folder (all below it, `key=value` folders become columns), a glob, or a URL that fsspec knows.
    Raises `DataError` for files that cannot be read, `SchemaError` for files that disagree, `ConfigError` for options.
    """
    options = options or ReadOptions()
    if target_bytes < 1:
        raise ConfigError(f"target_bytes {target_bytes} is too small", hint="Give at least 1.")
    given = [sources] if isinstance(sources, str | os.PathLike) else sources
    places = tuple(os.fspath(source) for source in given)
    while True:
        manifests = [manifest_of(source, options.storage) for source in places]
        try:
            return _open(places, options, target_bytes, [manifest for manifest in manifests if manifest is not None])
        except DataError:
            # a dataset that was written anew between the manifest and its files is opened again
            if manifests == [manifest_of(source, options.storage) for source in places]:
                raise


def _open(sources: tuple[str, ...], options: ReadOptions, target_bytes: int, manifests: list[Manifest]) -> Dataset:
    found = find_files(sources, options.storage)
    name, files, ignored = choose_format(found, options.format, options.storage)
    reader, report = SURVEYS[name](files, options, target_bytes)
    report = {"format": name, "files": len(files), **report}
    if ignored:
        report["ignored_files"] = {"files": len(ignored), "example": ignored[0].path}
    if manifests:
        report["schemes"] = [_scheme(manifest) for manifest in manifests]
    content = [[file.path, file.fingerprint] for file in files], options.to_json(), target_bytes, name
    return Dataset(
        reader=reader.reading_only(),
        partitions=reader.plan(target_bytes),
        fingerprint=hashlib.blake2b(json.dumps(content).encode(), digest_size=12).hexdigest(),
        report=report,
        sources=sources,
        target_bytes=target_bytes,
    )


def _scheme(manifest: Manifest) -> dict[str, Any]:
    """What the report keeps of a manifest."""
    return {
        "by": list(manifest.by),
        "key": list(manifest.key),
        "count": manifest.count,
        "filled": len({file.partition for file in manifest.files}),
        "generation": manifest.generation,
    }


def from_table(table: Any, folder: str, *, target_bytes: int = DEFAULT_TARGET_BYTES) -> Dataset:
    """A dataset of a pandas, polars or Arrow table, a `RecordBatchReader`, or a dict of arrays.

    It is written once into `folder` as an Arrow IPC file whose name is the hash of its content, and mapped into memory
    when it is read. The same table gives the same dataset, with the same fingerprint in any folder.
    """
    path = _write_table(table, folder)
    return replace(open_dataset([path], target_bytes=target_bytes), fingerprint=Path(path).stem.rpartition("-")[2])
