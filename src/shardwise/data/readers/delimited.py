"""CSV and its relatives (tabs, semicolons, bars), parsed by Arrow block by block."""

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from shardwise.core.errors import DataError, ShardwiseError, context
from shardwise.data import dates
from shardwise.data.options import ReadOptions
from shardwise.data.places import File
from shardwise.data.readers.quotes import QuoteScanner, safe_points
from shardwise.data.readers.records import Parsed, Records
from shardwise.data.readers.text import TextFile, head, open_text
from shardwise.data.schemas import NULL, Kind, Layout, check_names, override
from shardwise.data.types import conflict

# what pandas takes for missing (pandas.io.parsers, na_values)
NULL_SPELLINGS = [
    "", " ", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
]  # fmt: skip
_TRUE, _FALSE = ["true", "True", "TRUE"], ["false", "False", "FALSE"]
_DELIMITERS = ",\t;|"
_SNIFFED_ROWS = 50
_NUMBER = r"^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*$"
_BAD_CELL = re.compile(
    r"In CSV column #(\d+): (?:Row #(\d+): )?CSV conversion error to (.+?): invalid value '(.*)'", re.S
)
_BAD_ROW = re.compile(r"CSV parse error: (?:Row #(\d+): )?Expected (\d+) columns, got (\d+): (.*)", re.S)
_BAD_TEXT = re.compile(r"In CSV column #(\d+): (?:Row #(\d+): )?CSV conversion error to .+?: invalid UTF8 data")


@dataclass(frozen=True, kw_only=True)
class CsvRecords:
    """A CSV file whose header was read; `newline` is the byte that ends a record."""

    text: TextFile
    options: ReadOptions
    start: int
    names: tuple[str, ...]
    delimiter: str
    newline: int

    def last_end(self, content: bytes) -> int:
        if b'"' not in content:
            return content.rfind(bytes([self.newline])) + 1
        return self._scanner().last_record_end(content)

    def check_tail(self, content: bytes) -> None:
        scanner = self._scanner()
        scanner.last_record_end(content)
        if scanner.inside:
            shown = content[:80].decode(errors="replace")
            raise DataError(f"a quote is never closed; the file ends in the cell: {shown!r}", hint="Mend the last row.")

    def points(self, step: int) -> Iterator[int]:
        chunks = self.text.stored(self.start, self.text.size_bytes)
        return (self.start + point for point in safe_points(chunks, self._scanner(), step))

    def infer(self, block: bytes) -> Layout:
        wanted = [name for name in self.names if name not in self.options.drop]
        table = self._parse(block, arrow_csv.ConvertOptions(include_columns=wanted)).batch if block.strip() else None
        if table is None:
            return tuple((name, NULL) for name in wanted)
        return tuple(
            (name, override(self.options, name) or _look_closer(table.column(i), self.text.path))
            for i, name in enumerate(wanted)
        )

    def parser(self, layout: Layout) -> Callable[[bytes], Parsed]:
        """Rows with the columns of `layout` that this file has; text where a date format must be applied."""
        here = set(self.names)
        wanted = {name: pa.string() if kind.formats else kind.type for name, kind in layout if name in here}
        if not wanted:
            wanted = {self.names[0]: pa.string()}  # rows are counted all the same
        convert = arrow_csv.ConvertOptions(include_columns=list(wanted), column_types=wanted)
        return lambda block: self._parse(block, convert)

    def _parse(self, block: bytes, convert: arrow_csv.ConvertOptions) -> Parsed:
        convert.null_values, convert.true_values, convert.false_values = NULL_SPELLINGS, _TRUE, _FALSE
        convert.strings_can_be_null = True
        skipped: list[arrow_csv.InvalidRow] = []
        parse = arrow_csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True)
        if self.options.skip_bad_rows:
            parse.invalid_row_handler = _skip_into(skipped)
        read = arrow_csv.ReadOptions(column_names=self.names, block_size=len(block) + 1, use_threads=False)
        try:
            table = arrow_csv.read_csv(
                pa.BufferReader(block), read_options=read, parse_options=parse, convert_options=convert
            )
        except pa.ArrowInvalid as error:
            raise self._explain(error, convert) from error
        return Parsed(batch=one_batch(table), skipped_rows=len(skipped))

    def _explain(self, error: pa.ArrowInvalid, convert: arrow_csv.ConvertOptions) -> ShardwiseError:
        """What Arrow says, in our words: a value of another type, a ragged row, or a wrong encoding."""
        said = str(error)
        if match := _BAD_CELL.match(said):
            name = self.names[int(match[1])]  # Arrow counts the columns of the file, read or not
            where = {"row": int(match[2])} if match[2] else {}
            return conflict(name, convert.column_types[name], match[4], **where)
        if match := _BAD_ROW.match(said):
            row = {"row": int(match[1])} if match[1] else {}
            return DataError(
                f"{match[2]} cells were expected, {match[3]} were found: {match[4][:80]!r}",
                hint="Mend the row, give the delimiter, or leave such rows out with on_bad_row='skip'.",
                **row,
            )
        if match := _BAD_TEXT.match(said):
            return wrong_encoding(self.text, column=self.names[int(match[1])])
        return DataError(f"this is no CSV: {said.splitlines()[0][:200]}", hint="Look at the file.")

    def _scanner(self) -> QuoteScanner:
        return QuoteScanner(delimiter=ord(self.delimiter), newline=self.newline)


def _skip_into(skipped: list[arrow_csv.InvalidRow]) -> Callable[[arrow_csv.InvalidRow], str]:
    def handle(row: arrow_csv.InvalidRow) -> str:
        skipped.append(row)
        return "skip"

    return handle


def open_csv(file: File, options: ReadOptions) -> Records | None:
    """Read the header; None when the file is empty. Raises `SchemaError` for blank or repeated names."""
    text = open_text(file, options.encoding, options.storage)
    content = head(text, lambda content: _header_end(content, options.delimiter) > 0)
    if not content.strip():
        return None
    end = _header_end(content, options.delimiter) or len(content)
    encoding = text.encoding if text.is_seekable else "utf-8"
    with context(path=file.path):
        delimiter = options.delimiter or sniff(content.decode(encoding, errors="replace"), file.path)
        lines = csv.reader(io.StringIO(content[:end].decode(encoding), newline=""), delimiter=delimiter)
        names = next(row for row in lines if row)
    check_names([name for name in names if name not in options.drop], file.path)
    newline = 0x0D if b"\n" not in content and b"\r" in content else 0x0A
    return CsvRecords(
        text=text,
        options=options,
        start=text.skip_bytes + end,
        names=tuple(names),
        delimiter=delimiter,
        newline=newline,
    )


def _header_end(content: bytes, delimiter: str | None) -> int:
    """Length of the blank lines and the header at the beginning; 0 when the header does not end here."""
    newline = 0x0D if b"\n" not in content and b"\r" in content else 0x0A
    for possible in (delimiter or _DELIMITERS).encode():
        for end in QuoteScanner(delimiter=possible, newline=newline).record_ends(content)[:1000].tolist():
            if content[:end].strip():
                return int(end)
    return 0


def sniff(text: str, path: str = "") -> str:
    """The delimiter under which the header has several cells and most rows have as many.

    >>> sniff("a;b\\n1,5;2\\n")
    ';'
    """
    candidates = ("\t" + _DELIMITERS) if ".tsv" in path or ".tab" in path else _DELIMITERS
    scores = {delimiter: _agreement(text, delimiter) for delimiter in dict.fromkeys(candidates)}
    best = max(scores, key=lambda delimiter: scores[delimiter])
    return best if scores[best] > (0.0, 0) else candidates[0]


def _agreement(text: str, delimiter: str) -> tuple[float, int]:
    """Share of the first rows with as many cells as the header, and that number; (0, 0) for a single cell."""
    try:
        rows = [
            row for row in islice(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), _SNIFFED_ROWS) if row
        ]
    except csv.Error:
        return 0.0, 0
    if not rows or len(rows[0]) < 2:
        return 0.0, 0
    return sum(len(row) == len(rows[0]) for row in rows) / len(rows), len(rows[0])


def _look_closer(values: pa.Array, path: str) -> Kind:
    """The kind of a column from what Arrow inferred: dates in other spellings, mixed content, numbers too long."""
    kind = values.type
    if pa.types.is_binary(kind):
        raise DataError("the text is not utf-8", hint="Give its encoding: --encoding latin-1 or cp1252.", path=path)
    if pa.types.is_timestamp(kind):
        return Kind(type=pa.timestamp("ns" if _is_finer_than_us(values) else "us", tz=kind.tz))
    if pa.types.is_floating(kind):
        return float_kind(values)
    if not pa.types.is_string(kind):
        return Kind(type=kind)
    formats = dates.guess(values)
    if formats:
        return Kind(type=dates.type_of(formats[0]), formats=formats)
    return Kind(type=kind, note=mixed_note(values))


def _is_finer_than_us(moments: pa.Array) -> bool:
    if moments.type.unit != "ns":
        return False
    return not pc.cast(moments, pa.timestamp("us", moments.type.tz), safe=False).cast(moments.type).equals(moments)


def float_kind(values: pa.Array) -> Kind:
    """float64, with a note when the values are integers that are too long for int64."""
    finite = values.filter(pc.is_finite(values))
    long = len(finite) > 0 and pc.max(pc.abs(finite)).as_py() >= 2.0**63
    whole = long and pc.all(pc.equal(pc.floor(finite), finite)).as_py()
    return Kind(type=pa.float64(), note="integers beyond 64 bits, read as float64: 15 digits are kept" if whole else "")


def mixed_note(values: pa.Array) -> str:
    """What to say of a text column in which most values are numbers; nothing of any other."""
    known = values.drop_null()
    numeric = pc.match_substring_regex(known, _NUMBER)
    numbers = int(pc.sum(numeric).as_py() or 0)
    if not 0.5 <= numbers / max(1, len(known)) < 1.0:
        return ""
    other = known.filter(pc.invert(numeric))[0].as_py()
    return f"mostly numbers, but also {other[:40]!r}: read as text"


def wrong_encoding(text: TextFile, **where: object) -> DataError:
    return DataError(
        f"the text is not {text.encoding}",
        hint="Give its encoding: --encoding latin-1 or cp1252.",
        path=text.path,
        **where,
    )


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """A table of at most one chunk as a batch."""
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
