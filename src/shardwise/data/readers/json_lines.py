"""JSON lines: one flat object a line. Arrow parses; a block that it refuses is read line by line, to say why."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.json as arrow_json

from shardwise.core.errors import DataError, SchemaError, context
from shardwise.data import dates
from shardwise.data.options import ReadOptions
from shardwise.data.places import File, open_file
from shardwise.data.readers.delimited import float_kind, one_batch
from shardwise.data.readers.records import Parsed, Records
from shardwise.data.readers.text import TextFile, head, open_text
from shardwise.data.schemas import NULL, STRING, Kind, Layout, check_names, merge_kinds, override
from shardwise.data.types import cast, conflict, normalise

_SEEK_BYTES = 1 << 16
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class JsonRecords:
    """A JSON lines file."""

    text: TextFile
    options: ReadOptions
    start: int

    def last_end(self, content: bytes) -> int:
        return content.rfind(b"\n") + 1

    def check_tail(self, content: bytes) -> None:
        """The last line needs no line break."""

    def points(self, step: int) -> Iterator[int]:
        """A line break never lies inside a value, so the file is not read: a look at each place is enough."""
        size, wanted = self.text.size_bytes, self.start + step
        with open_file(self.text.path, self.text.storage) as raw:
            while wanted < size:
                point = _next_line(raw, wanted, size)
                if point < size:
                    yield point
                wanted = max(wanted + step, point + 1)

    def infer(self, block: bytes) -> Layout:
        rows = self._arrow(block, None)
        if rows is not None:
            layout = tuple((field.name, _kind_of(rows, field)) for field in rows.schema)
            again = [name for name, kind in layout if pa.types.is_timestamp(kind.type)]
            texts = self._arrow(block, pa.schema([(name, pa.string()) for name in again])) if again else None
            kinds = {name: _text_kind(texts.column(name)) for name in again} if texts is not None else {}
            layout = tuple((name, kinds.get(name, kind)) for name, kind in layout)
        else:
            layout = _infer_slowly(_lines(block, self.options.skip_bad_rows)[0])
        kept = tuple(
            (name, override(self.options, name) or kind) for name, kind in layout if name not in self.options.drop
        )
        check_names([name for name, _ in kept], self.text.path)
        with context(path=self.text.path):
            return tuple(
                (name, Kind(type=normalise(kind.type, name), formats=kind.formats, note=kind.note))
                for name, kind in kept
            )

    def parser(self, layout: Layout) -> Callable[[bytes], Parsed]:
        """Rows with the columns of `layout`; moments as text, which the schema then converts."""
        schema = pa.schema([(name, _stored_type(kind)) for name, kind in layout])

        def parse(block: bytes) -> Parsed:
            batch = self._arrow(block, schema)
            return (
                Parsed(batch=batch) if batch is not None else _parse_slowly(block, schema, self.options.skip_bad_rows)
            )

        return parse

    def _arrow(self, block: bytes, schema: pa.Schema | None) -> pa.RecordBatch | None:
        """The block as Arrow reads it; None where it cannot."""
        if not block.isascii():
            block.decode()  # Arrow does not look
        read = arrow_json.ReadOptions(block_size=len(block) + 1, use_threads=False)
        unexpected = "infer" if schema is None else "ignore"
        parse = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected)
        try:
            return one_batch(arrow_json.read_json(pa.BufferReader(block), read_options=read, parse_options=parse))
        except pa.ArrowInvalid:
            return None


def open_json_lines(file: File, options: ReadOptions) -> Records | None:
    """Look at the first line; None when the file is empty."""
    text = open_text(file, options.encoding, options.storage)
    first = head(text, lambda content: b"\n" in content.strip()).strip()
    if not first:
        return None
    if first.startswith(b"["):
        hint = "Write one object a line (jq -c '.[]'; in pandas to_json(orient='records', lines=True))."
        raise DataError("this is a JSON array, not JSON lines", hint=hint, path=file.path)
    return JsonRecords(text=text, options=options, start=text.skip_bytes)


def _next_line(raw: pa.NativeFile, start: int, size: int) -> int:
    """The offset behind the first line break at or after `start`; the size of the file when there is none."""
    raw.seek(start)
    while start < size and (piece := raw.read(_SEEK_BYTES)):
        found = bytes(piece).find(b"\n")
        if found >= 0:
            return start + found + 1
        start += len(piece)
    return size


def _stored_type(kind: Kind) -> pa.DataType:
    """How JSON holds the values of a kind."""
    if pa.types.is_integer(kind.type):
        return pa.int64()
    if pa.types.is_floating(kind.type):
        return pa.float64()
    return kind.type if kind.type in (pa.null(), pa.bool_()) else pa.string()


def _kind_of(rows: pa.RecordBatch, field: pa.Field) -> Kind:
    values = rows.column(field.name)
    if pa.types.is_floating(field.type):
        return float_kind(values)
    return _text_kind(values) if pa.types.is_string(field.type) else Kind(type=field.type)


def _text_kind(texts: pa.Array) -> Kind:
    """Strings are text or dates, never numbers: JSON says which values are numbers."""
    iso = dates.guess_iso(texts)
    if iso is not None:
        return Kind(type=iso)
    formats = dates.guess(texts)
    return Kind(type=dates.type_of(formats[0]), formats=formats) if formats else STRING


# ------------------------------------------------------------------------- line by line, when Arrow refuses a block


def _lines(block: bytes, skip_bad: bool) -> tuple[list[Row], int]:
    """The objects of a block, and how many bad lines were left out; raises `DataError` for the first bad line."""
    rows: list[Row] = []
    skipped = 0
    for line in block.split(b"\n"):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_unique)
            problem = "" if isinstance(row, dict) else "it is no object"
        except json.JSONDecodeError as error:
            row, problem = {}, str(error)
        if not problem:
            rows.append(row)
        elif skip_bad:
            skipped += 1
        else:
            raise _bad_line(line, problem, len(rows) + 1)
    return rows, skipped


def _bad_line(line: bytes, problem: str, row: int) -> DataError:
    shown = line[:80].decode(errors="replace")
    hint = "Each line must be one JSON object; leave bad lines out with on_bad_row='skip'."
    return DataError(f"a line is no JSON object: {problem}: {shown!r}", hint=hint, row=row)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise SchemaError(f"a JSON object has two values for {twice!r}", hint="Rename or drop one.", column=twice)
    return row


def _infer_slowly(rows: list[Row]) -> Layout:
    columns: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return tuple((name, _kind_of_values(values, name)) for name, values in columns.items())


def _kind_of_values(values: list[Any], name: str) -> Kind:
    texts = [value for value in values if isinstance(value, str)]
    kinds = [_text_kind(pa.array(texts, pa.string()))] if texts else []
    for sort in {type(value) for value in values} - {str}:
        if sort in (dict, list):
            raise SchemaError(f"column {name!r} is nested", hint="Flatten it, or leave it out (drop).", column=name)
        long = [float(value) for value in values if type(value) is int and abs(value) >= 2**63] if sort is int else []
        kinds.append(float_kind(pa.array(long)) if long else _SORTS[sort])
    kinds.sort(key=str)
    merged = merge_kinds(kinds, as_text=True)
    assert merged is not None
    return merged


_SORTS = {bool: Kind(type=pa.bool_()), int: Kind(type=pa.int64()), float: Kind(type=pa.float64()), type(None): NULL}


def _parse_slowly(block: bytes, schema: pa.Schema, skip_bad: bool) -> Parsed:
    rows, skipped = _lines(block, skip_bad)
    columns = [_column([row.get(field.name) for row in rows], field) for field in schema]
    batch = pa.RecordBatch.from_arrays(columns, schema=schema) if columns else pa.RecordBatch.from_pylist(list(rows))
    return Parsed(batch=batch, skipped_rows=skipped)


def _column(values: list[Any], field: pa.Field) -> pa.Array:
    if pa.types.is_string(field.type):
        values = [_text(value, field.name) for value in values]
    elif all(value is None or isinstance(value, str) for value in values):
        return cast(pa.array(values, pa.string()), field.type, field.name)
    elif pa.types.is_floating(field.type):
        values = [float(value) if type(value) is int else value for value in values]
    try:
        return pa.array(values, field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        row = next(i for i, value in enumerate(values) if not _fits(value, field.type))
        raise conflict(field.name, field.type, _text(values[row], field.name), row=row + 1) from error


def _fits(value: Any, kind: pa.DataType) -> bool:
    try:
        pa.array([value], kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return False
    return True


def _text(value: Any, name: str) -> str | None:
    """A JSON value as text: numbers and booleans as JSON writes them."""
    if isinstance(value, dict | list):
        raise SchemaError(f"column {name!r} is nested", hint="Flatten it, or leave it out (drop).", column=name)
    return value if value is None or isinstance(value, str) else json.dumps(value)
