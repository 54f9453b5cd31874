"""Which format files are in: by their names, else by their first bytes."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from shardwise.core.errors import DataError
from shardwise.data.options import FORMATS
from shardwise.data.places import File, open_file

_SUFFIXES = {
    "parquet": "parquet", "parq": "parquet", "pq": "parquet",
    "csv": "csv", "tsv": "csv", "tab": "csv", "psv": "csv", "txt": "csv",
    "jsonl": "jsonl", "ndjson": "jsonl", "json": "jsonl",
    "arrow": "arrow", "arrows": "arrow", "feather": "arrow", "ipc": "arrow",
}  # fmt: skip
_TEXT_FORMATS = ("csv", "jsonl")
_COMPRESSED = re.compile(r"\.(gz|gzip|bz2|zst|zstd|lz4)$", re.IGNORECASE)
_MAGIC = ((b"PAR1", "parquet"), (b"ARROW1", "arrow"), (b"\xff\xff\xff\xff", "arrow"))
_KNOWN = "parquet, csv, tsv, jsonl, arrow (csv and jsonl also as .gz, .bz2, .zst, .lz4)"


def format_of_name(path: str) -> str | None:
    """The format that a file name tells.

    >>> format_of_name("a/b.csv.gz"), format_of_name("b.PARQUET"), format_of_name("README.md")
    ('csv', 'parquet', None)
    """
    name = path.rsplit("/", 1)[-1].partition("?")[0]
    bare = _COMPRESSED.sub("", name)
    known = _SUFFIXES.get(bare.rsplit(".", 1)[-1].lower()) if "." in bare else None
    return known if bare == name or known in _TEXT_FORMATS else None


def choose_format(
    files: Sequence[File], given: str | None, storage: Mapping[str, object]
) -> tuple[str, list[File], list[File]]:
    """The format of all files, the files that are in it, and those left out because their names are no data files'.

    Raises `DataError` for an unknown format, and for files of several formats.
    """
    if given is not None:
        return given, list(files), []
    named = [(file, format_of_name(file.path)) for file in files]
    if not any(known for _, known in named):
        named = [(file, _format_of_content(file, storage)) for file in files]
    counts = Counter(known for _, known in named if known)
    if not counts:
        raise DataError(
            "the format of the file is not known", hint=f"Known are {_KNOWN}; say which it is with --format "
            f"({', '.join(FORMATS)}).", path=files[0].path,
        )  # fmt: skip
    if len(counts) > 1:
        found = " and ".join(f"{counts[name]} {name} ({_first(named, name)})" for name in FORMATS if name in counts)
        raise DataError(f"the files are of several formats: {found}", hint="Give a glob that names one: 'data/*.csv'.")
    kept = [file for file, known in named if known]
    return next(iter(counts)), kept, [file for file, known in named if not known]


def _first(named: Sequence[tuple[File, str | None]], wanted: str) -> str:
    return next(file.path for file, known in named if known == wanted)


def _format_of_content(file: File, storage: Mapping[str, object]) -> str | None:
    """Only what its first bytes prove; text may be anything."""
    with open_file(file.path, storage) as raw:
        start = bytes(raw.read(64))
    if start.lstrip().startswith(b"{"):
        return "jsonl"
    return next((known for magic, known in _MAGIC if start.startswith(magic)), None)
