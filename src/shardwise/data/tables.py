"""Tables that are in memory already: pandas, polars, Arrow, dicts of arrays; to an Arrow IPC file."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shardwise.core.errors import DataError, SchemaError, context
from shardwise.data.convert import conform
from shardwise.data.options import ReadOptions
from shardwise.data.schemas import schema_of, typed_layout

_BATCH_ROWS = 65_536
_HASH_BYTES = 1 << 20


def from_table(table: Any, folder: str) -> str:
    """Write `table` into `folder` and return the path; a file of the same content that is there already is kept.

    Raises `DataError` for an empty table or something that is no table, `SchemaError` for its columns.
    """
    reader = as_reader(table)
    layout = typed_layout(reader.schema, "the table", ReadOptions())
    with context(path=folder):
        os.makedirs(folder, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".table-", suffix=".arrow", dir=folder)
        os.close(handle)
    try:
        with context(path=name):
            rows = _write(reader, layout, name)
            if rows == 0:
                raise DataError("the table has no rows", hint="Give at least one.")
            final = os.path.join(folder, f"table-{_digest(name)}.arrow")
            if not os.path.exists(final):
                os.replace(name, final)
            return final
    finally:
        Path(name).unlink(missing_ok=True)


def as_reader(table: Any) -> pa.RecordBatchReader:
    """Anything tabular as a stream of batches; columns of pandas keep no index."""
    if isinstance(table, pa.RecordBatchReader):
        return table
    if isinstance(table, np.ndarray) and table.dtype.names:
        table = {name: table[name] for name in table.dtype.names}
    if isinstance(table, Mapping):
        table = _from_columns({str(name): values for name, values in table.items()})
    elif type(table).__module__.partition(".")[0] == "pandas" and hasattr(table, "columns"):
        table = _from_pandas(table)
    if isinstance(table, pa.RecordBatch):
        table = pa.Table.from_batches([table])
    if isinstance(table, pa.Table):
        return table.to_reader(max_chunksize=_BATCH_ROWS)
    if hasattr(table, "__arrow_c_stream__"):
        return pa.RecordBatchReader.from_stream(table)
    raise DataError(
        f"{type(table).__name__} is no table", hint="Give a pandas, polars or Arrow table, or a dict of arrays."
    )


def _from_pandas(frame: Any) -> pa.Table:
    names = [str(name) for name in frame.columns]
    arrays = [_array(frame.iloc[:, i], name) for i, name in enumerate(names)]
    return pa.Table.from_arrays(arrays, names=names)


def _from_columns(columns: Mapping[str, Any]) -> pa.Table:
    arrays = [_array(values, name) for name, values in columns.items()]
    lengths = {name: len(values) for name, values in zip(columns, arrays, strict=True)}
    if len(set(lengths.values())) > 1:
        raise SchemaError(f"the columns are of different lengths: {lengths}", hint="Give as many values to each.")
    return pa.Table.from_arrays(arrays, names=list(columns))


def _array(values: Any, name: str) -> pa.Array:
    """A column as Arrow; objects of several types become text, as they do in CSV."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        parts = list(values)
    nested = next((part for part in parts if isinstance(part, dict | list | tuple | set | bytes | np.ndarray)), None)
    if nested is not None:
        hint = "Flatten it into columns of numbers or strings."
        raise SchemaError(f"column {name!r} holds a {type(nested).__name__}", hint=hint, column=name)
    return pa.array([None if _is_missing(part) else str(part) for part in parts], pa.string())


def _is_missing(value: Any) -> bool:
    return value is None or value != value or type(value).__name__ in ("NAType", "NaTType")


def _write(reader: pa.RecordBatchReader, layout: Any, path: str) -> int:
    rows = 0
    with open(path, "wb") as out, pa.ipc.new_file(out, schema_of(layout)) as writer:
        for batch in _bounded(reader):
            rows += batch.num_rows
            writer.write_batch(conform(batch, layout, {}))
    with open(path, "rb") as written:
        os.fsync(written.fileno())
    return rows


def _bounded(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    for batch in reader:
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            yield batch.slice(start, _BATCH_ROWS)


def _digest(path: str) -> str:
    digest = hashlib.blake2b(digest_size=8)
    with open(path, "rb") as content:
        while piece := content.read(_HASH_BYTES):
            digest.update(piece)
    return digest.hexdigest()
