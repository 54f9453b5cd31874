"""One schema for all files of a dataset, and the report of what had to be brought together."""

import difflib
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from shardwise.core.errors import SchemaError, context
from shardwise.core.schema import parse_type
from shardwise.data import dates
from shardwise.data.options import ReadOptions
from shardwise.data.places import File
from shardwise.data.types import lossy_note, normalise, unify_all


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a column of a file holds: its type, the date formats that its texts allow, and what a person should know."""

    type: pa.DataType
    formats: tuple[str, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        return " or ".join(self.formats) or str(self.type)


Layout = tuple[tuple[str, Kind], ...]
NULL, STRING = Kind(type=pa.null()), Kind(type=pa.string())


def check_names(names: Sequence[str], path: str) -> None:
    """Raise `SchemaError` for columns without a name and names that are used twice."""
    blank = [str(i + 1) for i, name in enumerate(names) if not name.strip()]
    if blank:
        raise SchemaError(
            f"column{'s' if len(blank) > 1 else ''} {some(blank)} {'have' if len(blank) > 1 else 'has'} no name",
            hint="Name every column; an index that pandas wrote is left out with to_csv(index=False).",
            path=path,
        )
    if len(set(names)) < len(names):
        twice = [repr(name) for name, count in Counter(names).items() if count > 1]
        raise SchemaError(f"column names are used twice: {some(twice)}", hint="Rename or drop them.", path=path)


def some(names: Sequence[str], limit: int = 5) -> str:
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")


def typed_layout(schema: pa.Schema, path: str, options: ReadOptions) -> Layout:
    """The layout of a file that carries its own schema; raises `SchemaError` for types that are refused."""
    wanted = [column for column in schema if column.name not in options.drop and not is_pandas_index(column.name)]
    check_names([column.name for column in wanted], path)
    with context(path=path):
        return tuple(
            (column.name, Kind(type=normalise(column.type, column.name), note=lossy_note(column.type) or ""))
            for column in wanted
        )


def is_pandas_index(name: str) -> bool:
    """Whether pandas stored an index without a name under this name; it is no column."""
    return name.startswith("__index_level_") and name.endswith("__")


def merge_kinds(kinds: Sequence[Kind], *, as_text: bool) -> Kind | None:
    """The kind that holds the values of all; None where they differ, and `as_text` does not make them text."""
    known = [kind for kind in kinds if not pa.types.is_null(kind.type)]
    note = next((kind.note for kind in kinds if kind.note), "")
    if not known:
        return replace(NULL, note=note)
    formats = [fit for fit in known[0].formats if all(fit in kind.formats for kind in known)]
    if formats:
        return Kind(type=dates.type_of(formats[0]), formats=tuple(formats), note=note)
    plain = not any(kind.formats for kind in known)
    merged = unify_all([kind.type for kind in known]) if plain else None
    if merged is not None:
        return Kind(type=merged, note=note)
    if not as_text:
        return None
    found = " and ".join(sorted({str(kind) for kind in known}))
    return Kind(type=pa.string(), note=note or f"holds {found}: read as text")


@dataclass
class _Found:
    """The kinds of one column: how many files have each, and one of them."""

    files: dict[Kind, tuple[int, str]] = field(default_factory=dict)

    def add(self, kind: Kind, count: int, path: str) -> None:
        before, example = self.files.get(kind, (0, path))
        self.files[kind] = (before + count, example)


@dataclass
class Layouts:
    """Gathers the layouts of files, in their order; equal ones are counted."""

    seen: dict[Layout, tuple[int, str]] = field(default_factory=dict)

    def add(self, layout: Layout, path: str) -> None:
        count, example = self.seen.get(layout, (0, path))
        self.seen[layout] = (count + 1, example)

    def unify(self, options: ReadOptions, hive: Layout, *, as_text: bool) -> tuple[Layout, dict[str, Any]]:
        """One layout for all files, and the report's `columns`: columns as they first appear, then those of the paths.

        Raises `SchemaError` where the files disagree, naming the column, both types and two files.
        """
        columns = self._columns()
        check_overrides(options, [*columns, *dict(hive)])
        total = sum(count for count, _ in self.seen.values())
        layout, report = [], {}
        for name, found in columns.items():
            kind = override(options, name) or _settle(merge_kinds(list(found.files), as_text=as_text), name)
            if kind is None:
                raise _disagreement(name, found)
            layout.append((name, kind))
            if said := self._say(name, kind, found, total):
                report[name] = said
        return (*layout, *hive), report

    def _columns(self) -> dict[str, _Found]:
        columns: dict[str, _Found] = {}
        for layout, (count, path) in self.seen.items():
            for name, kind in layout:
                columns.setdefault(name, _Found()).add(kind, count, path)
        return columns

    def _say(self, name: str, kind: Kind, found: _Found, total: int) -> dict[str, Any]:
        """What the report holds of a column; nothing when all files agree and nothing was noted."""
        having = sum(count for count, _ in found.files.values())
        types: dict[str, dict[str, Any]] = {}
        for each, (count, path) in found.files.items():
            entry = types.setdefault(str(each), {"type": str(each), "files": 0, "example": path})
            entry["files"] += count
        said: dict[str, Any] = {"type": str(kind.type)}
        if len(types) > 1 or kind.note:
            said["found"] = list(types.values())
        if having < total:
            lacking = next(path for layout, (_, path) in self.seen.items() if name not in dict(layout))
            said["missing"] = {"files": total - having, "example": lacking}
        if kind.note:
            said["note"] = kind.note
        return said if len(said) > 1 else {}


def _settle(kind: Kind | None, name: str) -> Kind | None:
    """Dates that could be of two formats stay text."""
    if kind is None or len(kind.formats) < 2:
        return kind
    either = " or ".join(kind.formats)
    note = f"dates that could be {either}: read as text; types={{{name!r}: {kind.formats[0]!r}}} decides"
    return Kind(type=pa.string(), note=note)


def _disagreement(name: str, found: _Found) -> SchemaError:
    pairs = list(itertools.combinations([(kind, path) for kind, (_, path) in found.files.items()], 2))
    clash = [pair for pair in pairs if merge_kinds([pair[0][0], pair[1][0]], as_text=False) is None]
    (first, here), (other, there) = (clash or pairs)[0]
    return SchemaError(
        f"the files disagree about column {name!r}: it is {first} in {here} and {other} in {there}",
        hint=f"Write the files with one type, or read it as text with types={{{name!r}: 'string'}}.",
        column=name,
    )


def override(options: ReadOptions, name: str) -> Kind | None:
    """The kind that the options give to a column."""
    text = options.types.get(name)
    if text is None:
        return None
    if "%" in text:
        return Kind(type=dates.type_of(text), formats=(text,))
    return Kind(type=normalise(parse_type(text), name))


def check_overrides(options: ReadOptions, names: Sequence[str]) -> None:
    """Raise `SchemaError` for a type that is given to a column which does not exist."""
    for name in options.types:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"Did you mean {near[0]!r}?" if near else f"The columns are {some(list(map(repr, names)))}."
            raise SchemaError(f"types names a column {name!r} that does not exist", hint=hint)


def hive_kinds(files: Sequence[File], options: ReadOptions) -> Layout:
    """Kinds of the columns in the paths: int64, date32 or string, whatever holds all their values."""
    values = [dict(file.values) for file in files]
    names = dict.fromkeys(name for each in values for name in each if name not in options.drop)
    return tuple((name, override(options, name) or _hive_kind([each.get(name) for each in values])) for name in names)


def _hive_kind(texts: Sequence[str | None]) -> Kind:
    known = pa.array(sorted({text for text in texts if text is not None}), pa.string())
    for kind in (pa.int64(), pa.date32()):
        try:
            known.cast(kind)
        except pa.ArrowInvalid:
            continue
        return Kind(type=kind) if len(known) else STRING
    return STRING


def schema_of(layout: Layout) -> pa.Schema:
    return pa.schema([pa.field(name, kind.type) for name, kind in layout])
