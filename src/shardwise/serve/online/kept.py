"""What is kept of requests after their answer, for labels and for sketches: sizes, and texts cut to what tells them."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from shardwise.serve.online.rows import Row

MOST_TEXT = 1_000  # characters of a text that sketches see; longer ones are hardly categories
_ROW_BYTES = 100  # of a row's places in lists


def size_of(rows: Sequence[Row]) -> int:
    """Bytes of rows of plain values in memory, about."""
    return sum(_ROW_BYTES + sys.getsizeof(row) + sum(map(sys.getsizeof, row.values())) for row in rows)


def plain(rows: Sequence[Row], known: frozenset[str]) -> Sequence[Row]:
    """Rows without what no version reads: lists and objects in columns that are ignored."""
    if all(len(row) == len(known) for row in rows):
        return rows
    return [{name: value for name, value in row.items() if not isinstance(value, dict | list)} for row in rows]


class Sketched:
    """Rows that wait to be sketched, by column: at most `most_rows`, and `most_bytes`, about. Long texts are cut.

    Any thread may add, one may take what was added out of use. Little is lost where two add at once.
    """

    def __init__(self, columns: Sequence[str], most_rows: int, most_bytes: int) -> None:
        self.columns, self.rows = tuple(columns), 0
        self._most_rows, self._left_bytes = most_rows, most_bytes
        self._parts: list[tuple[list[tuple[Any, ...]], np.ndarray]] = []
        self._tables: list[tuple[pa.Table, np.ndarray]] = []

    @property
    def is_full(self) -> bool:
        return self.rows >= self._most_rows or self._left_bytes <= 0

    def add(self, rows: Sequence[Row], scores: np.ndarray) -> None:
        """Rows of Python values, with their scores; those beyond the bounds are not kept."""
        room = self._most_rows - self.rows  # looked at once: another thread may add
        if room <= 0 or self._left_bytes <= 0:
            return
        kept: list[tuple[Any, ...]] = []
        for row in rows[:room]:
            values = tuple(_short(row[name]) if type(row[name]) is str else row[name] for name in self.columns)
            kept.append(values)
            self._left_bytes -= _ROW_BYTES + sys.getsizeof(values) + sum(map(sys.getsizeof, values))
            if self._left_bytes <= 0:
                break
        self._count(len(kept), scores)
        self._parts.append((kept, scores[: len(kept)].copy()))

    def add_table(self, table: pa.Table, scores: np.ndarray) -> None:
        """The same of a table; nothing else of it is held."""
        room, left_bytes = self._most_rows - self.rows, self._left_bytes
        if room <= 0 or left_bytes <= 0:
            return
        kept = table.slice(0, room).select(list(self.columns))
        kept = pa.table([_short_column(column) for column in kept.columns], names=list(self.columns))
        if kept.nbytes > left_bytes:
            kept = kept.slice(0, 1 + left_bytes * kept.num_rows // kept.nbytes)
        kept = kept.take(np.arange(kept.num_rows))  # a slice would hold all that it was cut from
        self._left_bytes -= kept.nbytes
        self._count(kept.num_rows, scores)
        self._tables.append((kept, scores[: kept.num_rows].copy()))

    def pieces(self) -> Iterator[tuple[Mapping[str, Any], np.ndarray]]:
        """Columns by name, with the scores of their rows. All rows of Python values together: a batch of many rows is
        cheap, many of one row are not."""
        parts, tables = list(self._parts), list(self._tables)  # others may still add
        rows = [row for part, _ in parts for row in part]
        if rows:
            columns = map(list, zip(*rows, strict=True))
            yield dict(zip(self.columns, columns, strict=True)), np.concatenate([scores for _, scores in parts])
        for table, scores in tables:
            if table.num_rows:
                yield dict(zip(table.column_names, table.columns, strict=True)), scores

    def _count(self, rows: int, scores: np.ndarray) -> None:
        self.rows += rows
        self._left_bytes -= scores[:rows].nbytes


def _short_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Dictionaries become plain values: theirs may be larger than the rows that are kept."""
    kind = column.type
    if not pa.types.is_dictionary(kind):
        return pa.chunked_array([_short_texts(chunk) for chunk in column.chunks], kind)
    chunks = [_short_texts(chunk.dictionary).take(chunk.indices) for chunk in column.chunks]
    return pa.chunked_array(chunks, kind.value_type)


def _short_texts(values: pa.Array) -> pa.Array:
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return values
    long = pc.fill_null(pc.greater(pc.binary_length(values), MOST_TEXT), False)
    if not long.true_count:
        return values
    short = [_short(value) for value in values.filter(long).to_pylist()]
    return pc.replace_with_mask(values, long, pa.array(short, values.type))


def _short(text: str) -> str:
    """The beginning of a long text, and a hash of all of it, so that different texts stay different.

    >>> _short("Ulm"), len(_short("a" * 5_000)), _short("a" * 5_000) == _short("a" * 5_001)
    ('Ulm', 1017, False)
    """
    if len(text) <= MOST_TEXT:
        return text
    return f"{text[:MOST_TEXT]}#{xxhash.xxh3_64_hexdigest(text.encode('utf-8', 'surrogatepass'))}"
