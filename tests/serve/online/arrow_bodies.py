"""What schemathesis has to know besides the document: which bytes are a table of Arrow. It imports this module."""

import pyarrow as pa
import schemathesis
from hypothesis import strategies as st
from tests.registry.parts import make_table


def stream_of(rows: int) -> bytes:
    table = make_table(rows).drop_columns(["y", "row"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


schemathesis.openapi.media_type(
    "application/vnd.apache.arrow.stream", st.sampled_from([stream_of(rows) for rows in (1, 3, 300)])
)
