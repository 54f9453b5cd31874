"""How files are read: what a person may say where the files themselves do not tell."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shardwise.core.errors import ConfigError

FORMATS = ("parquet", "csv", "jsonl", "arrow")
ON_BAD_ROW = ("error", "skip")
DEFAULT_TARGET_BYTES = 64_000_000


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Options of `open_dataset`; the defaults are right for files that follow the conventions.

    format       one of `FORMATS`; None: by the name of the files, else by their first bytes
    encoding     of CSV and JSON lines, a name that Python knows; a byte order mark is followed in any case
    delimiter    of CSV, one character; None: the one of `, tab ; |` that makes a table of the first rows
    skip_corrupt files that cannot be opened are left out, and told in the report of the dataset; one must be left
    on_bad_row   rows of CSV with too few or too many cells, lines that are no JSON: `error`, or `skip` and count them
    types        column -> Arrow type as text (`int64`, `string`, `timestamp[us]`), or the format of dates that are text
                 (`%d/%m/%Y`)
    drop         columns that are not read, whatever is in them
    storage      options of the file system, as fsspec takes them (`{"endpoint_url": ...}`); never shown or written
    """

    format: str | None = None
    encoding: str = "utf8"
    delimiter: str | None = None
    on_bad_row: str = "error"
    skip_corrupt: bool = False
    types: Mapping[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    storage: Mapping[str, object] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in FORMATS:
            raise ConfigError(f"format {self.format!r} is not known", hint=f"It is one of {', '.join(FORMATS)}.")
        if self.on_bad_row not in ON_BAD_ROW:
            raise ConfigError(f"on_bad_row {self.on_bad_row!r} is not known", hint="It is error or skip.")
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise ConfigError(f"delimiter {self.delimiter!r} is not one character", hint="Write it like ';' or a tab.")
        if self.delimiter is not None and not self.delimiter.isascii():
            raise ConfigError(f"delimiter {self.delimiter!r} is not ASCII", hint="Write it like ';' or a tab.")
        try:
            "".encode(self.encoding)
        except LookupError:
            raise ConfigError(
                f"encoding {self.encoding!r} is not known",
                hint="Write it as Python does: utf8, latin-1, cp1252, utf-16.",
            ) from None

    @property
    def skip_bad_rows(self) -> bool:
        return self.on_bad_row == "skip"

    def to_json(self) -> dict[str, object]:
        """What decides the content that is read; without `storage`, which may hold secrets."""
        told = {"skip_corrupt": True} if self.skip_corrupt else {}
        return {
            "format": self.format,
            "encoding": self.encoding,
            "delimiter": self.delimiter,
            "on_bad_row": self.on_bad_row,
            "types": dict(sorted(self.types.items())),
            "drop": sorted(self.drop),
            **told,
        }
