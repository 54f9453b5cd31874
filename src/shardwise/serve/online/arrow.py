"""Bodies in Arrow's IPC formats: many rows at once, without a Python object for each."""

import pyarrow as pa

from shardwise.serve.online.http import ARROW_STREAM, Response
from shardwise.serve.online.live import Served
from shardwise.serve.online.problems import Problem
from shardwise.serve.online.rows import unknown_column

ARROW_FILE = "application/vnd.apache.arrow.file"
_MAGIC = b"ARROW1"


def read_arrow(body: bytes) -> pa.Table:
    """The table of a stream or a file, checked to the last offset; raises `Problem` 400 for what is none."""
    try:
        buffer = pa.py_buffer(body)
        with pa.ipc.open_file(buffer) if body.startswith(_MAGIC) else pa.ipc.open_stream(buffer) as reader:
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        message = f"the body is no Arrow stream or file: {str(error).strip().splitlines()[0] if str(error) else ''}"
        raise Problem(400, "malformed_arrow", message, hint="Write it with pyarrow.ipc.new_stream.") from None
    return table


def check_columns(table: pa.Table, served: Served, *, extra: str) -> None:
    """Raise `SchemaError` for columns that are missing, `Problem` for such that the model does not read."""
    predictor = served.predictor
    predictor.check_columns(table.schema)
    if extra == "refuse" and table.num_columns > len(predictor.columns):
        other = next(name for name in table.schema.names if name not in predictor.known)
        raise unknown_column(other, predictor.columns, {})


def answer_arrow(batch: pa.RecordBatch, served: Served) -> Response:
    """The columns of `Predictor.answer` as a stream; the version is told in the schema's metadata."""
    schema = batch.schema.with_metadata({"model": served.name, "version": served.version})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(batch.replace_schema_metadata(schema.metadata))
    return Response(sink.getvalue().to_pybytes(), ARROW_STREAM)
