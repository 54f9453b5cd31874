"""From what a file holds to what the schema says: order, types, columns of the path, columns that are missing."""

from collections.abc import Iterator, Mapping

import pyarrow as pa

from shardwise.data import dates
from shardwise.data.base import Scalar
from shardwise.data.schemas import Kind, Layout, schema_of
from shardwise.data.types import cast, conflict


def conform(batch: pa.RecordBatch, layout: Layout, values: Mapping[str, Scalar]) -> pa.RecordBatch:
    """`batch` with exactly the columns of `layout`; `values` are constant, what the file lacks is null."""
    schema = schema_of(layout)
    if not values and batch.schema.equals(schema):
        return batch
    places = {name: index for index, name in enumerate(batch.schema.names)}
    columns = []
    for name, kind in layout:
        if name in values:
            columns.append(_constant(values[name], kind.type, batch.num_rows))
        elif name in places:
            columns.append(convert(batch.column(places[name]), kind, name))
        else:
            columns.append(pa.nulls(batch.num_rows, kind.type))
    if not columns:
        return batch.select([])
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def convert(column: pa.Array, kind: Kind, name: str) -> pa.Array:
    """Values as `kind`, also texts in its date format; raises `TypeConflict` for a value that does not fit."""
    if not kind.formats or not pa.types.is_string(column.type):
        return cast(column, kind.type, name)
    parsed = dates.parse(column, kind.formats[0])
    if parsed.null_count > column.null_count:
        row = next(i for i in range(len(column)) if column[i].is_valid and not parsed[i].is_valid)
        raise conflict(name, kind.type, column[row].as_py(), row=row + 1)
    return parsed


def _constant(value: Scalar, kind: pa.DataType, rows: int) -> pa.Array:
    scalar = pa.scalar(value).cast(kind) if value is not None else pa.scalar(None, kind)
    return pa.repeat(scalar, rows)


def slices(batch: pa.RecordBatch, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The batch in pieces of at most `batch_rows` rows, without a copy."""
    for start in range(0, batch.num_rows, batch_rows):
        yield batch.slice(start, batch_rows)
