"""What all readers share: the batches that they give, and the columns of the paths."""

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa

from shardwise.core.errors import DataError, SchemaError
from shardwise.data.base import Scalar
from shardwise.data.options import ReadOptions
from shardwise.data.places import File, each_file
from shardwise.data.schemas import Layout, some


@dataclass
class Batches(Iterator[pa.RecordBatch]):
    """Batches of a partition, in order; `skipped_rows` counts the bad rows that were left out so far."""

    source: Iterator[pa.RecordBatch] = field(default_factory=lambda: iter(()))
    skipped_rows: int = 0

    def __next__(self) -> pa.RecordBatch:
        return next(self.source)


Found = TypeVar("Found")


def look_at_files(
    look: Callable[[File], Found], files: Sequence[File], options: ReadOptions
) -> tuple[list[Found], dict[str, Any]]:
    """What `look` finds in each file, in their order, and what the report tells of those that cannot be read.

    With `skip_corrupt` these are left out, unless none is left; else the `DataError` of the first one is raised.
    """

    def careful(file: File) -> Found | DataError:
        try:
            return look(file)
        except SchemaError:
            raise
        except DataError as error:
            if not options.skip_corrupt:
                raise
            return error

    seen = list(each_file(careful, files))
    corrupt = [(file.path, each) for file, each in zip(files, seen, strict=True) if isinstance(each, DataError)]
    found = [each for each in seen if not isinstance(each, DataError)]
    if corrupt and not found:
        raise corrupt[0][1]
    if not corrupt:
        return found, {}
    told = {"files": len(corrupt), "example": str(corrupt[0][1]), "paths": [path for path, _ in corrupt]}
    return found, {"corrupt_files": told}


def select(layout: Layout, columns: Sequence[str] | None) -> Layout:
    """The part of a layout that is asked for, in its own order; raises `SchemaError` for a column that is not there."""
    if columns is None:
        return layout
    known = {name for name, _ in layout}
    unknown = [name for name in columns if name not in known]
    if unknown:
        raise SchemaError(
            f"there is no column {some([repr(name) for name in unknown])}",
            hint=f"The columns are {some([repr(name) for name, _ in layout], 20)}.",
        )
    wanted = set(columns)
    return tuple((name, kind) for name, kind in layout if name in wanted)


def hive_scalars(file: File, hive: Layout) -> tuple[tuple[str, Scalar], ...]:
    """The values of a file's path under the types of the dataset; dates as ISO text, as a `Partition` holds them."""
    texts = dict(file.values)
    values: list[tuple[str, Scalar]] = []
    for name, kind in hive:
        value = pa.scalar(texts.get(name), pa.string()).cast(kind.type).as_py()
        values.append((name, value.isoformat() if isinstance(value, datetime.date) else value))
    return tuple(values)


def without(layout: Layout, names: Mapping[str, object]) -> Layout:
    return tuple((name, kind) for name, kind in layout if name not in names)
