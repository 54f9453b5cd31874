"""Batches as JSON lines, column by column: no Python object per row."""

import json

import pyarrow as pa
import pyarrow.compute as pc

_ESCAPES = {"\\": "\\\\", '"': '\\"', **{chr(code): json.dumps(chr(code))[1:-1] for code in range(32)}}
_CONTROL = "[\\x00-\\x1f]"
_BARE = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)  # without quotes


def to_json_lines(batch: pa.RecordBatch) -> bytes:
    """One JSON object a line, in UTF-8; null, NaN and infinities are null, other types than numbers are strings.

    >>> to_json_lines(pa.record_batch({"id": ["a", None], "x": [0.5, 2.0]}))
    b'{"id":"a","x":0.5}\\n{"id":null,"x":2}\\n'
    """
    if batch.num_rows == 0:
        return b""
    pieces: list[pa.Array | pa.Scalar] = []
    for number, (name, column) in enumerate(zip(batch.schema.names, batch.columns, strict=True)):
        opening = "{" if number == 0 else ","
        pieces += [_text(f"{opening}{json.dumps(name, ensure_ascii=False)}:"), _cells(column)]
    lines = pc.binary_join_element_wise(*pieces, _text("}\n"), _text(""))
    return _content(lines)


def _cells(column: pa.Array) -> pa.Array:
    """The JSON text of each cell, as large strings."""
    kind = column.type
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_finite(column), column, None)
    text = pc.cast(column, pa.large_string())
    if not any(is_bare(kind) for is_bare in _BARE):
        text = pc.binary_join_element_wise(_text('"'), _escaped(text), _text('"'), _text(""))
    return pc.fill_null(text, _text("null"))


def _escaped(text: pa.Array) -> pa.Array:
    has_control = pc.any(pc.match_substring_regex(text, _CONTROL)).as_py()
    for character, escape in _ESCAPES.items():
        if has_control or character in '\\"':
            text = pc.replace_substring(text, character, escape)
    return text


def _text(content: str) -> pa.Scalar:
    return pa.scalar(content, pa.large_string())


def _content(lines: pa.Array) -> bytes:
    """The lines in a row are the value buffer of the array."""
    assert lines.offset == 0
    buffer = lines.buffers()[2]
    return b"" if buffer is None else buffer.to_pybytes()
