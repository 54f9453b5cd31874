"""The manifest `_shardwise.json` of a dataset that was partitioned: what readers read, and nothing beside it.

It is replaced in one step, after all files that it names are on the disk: a reader finds the old dataset or the new.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from shardwise.core.errors import DataError, context
from shardwise.core.schema import schema_from_json, schema_to_json
from shardwise.store.files import write_atomic

MANIFEST_NAME = "_shardwise.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class PartFile:
    """A file of a partition.

    `minimum` and `maximum` are those of the first key column as JSON values (dates as ISO text), None where nothing is
    known; `hash` is xxh3_128 of the content.
    """

    partition: int
    label: str
    path: str
    rows: int
    size_bytes: int
    minimum: Any = None
    maximum: Any = None
    nulls: int | None = None
    hash: str = ""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Schema, scheme and files of a dataset.

    by            the scheme as it was asked for, a spec for each level
    partitioner   the fitted scheme, as `partitioner_from_json` reads it; empty where rows follow none, as predictions
    count         partitions, also those without rows
    key           columns that decide
    sources       `{"name", "fingerprint"}` of the files that the rows came from
    generation    how often the dataset was written; part of the names of files
    """

    schema: pa.Schema
    by: tuple[str, ...]
    partitioner: Mapping[str, Any]
    count: int
    key: tuple[str, ...]
    files: tuple[PartFile, ...]
    seed: int = 0
    compression: str = "zstd"
    sources: tuple[Mapping[str, str], ...] = ()
    generation: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "generation": self.generation,
            "rows": self.rows,
            "size_bytes": self.size_bytes,
            "schema": schema_to_json(self.schema),
            "scheme": {"by": list(self.by), "count": self.count, "key": list(self.key), "seed": self.seed,
                       "compression": self.compression, "partitioner": dict(self.partitioner)},
            "partitions": [asdict(file) for file in self.files],
            "sources": [dict(source) for source in self.sources],
            "notes": list(self.notes),
        }  # fmt: skip

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`; raises `DataError` for another format."""
        if content.get("format") != FORMAT:
            raise DataError(f"a manifest of format {content.get('format')!r}, {FORMAT} is known",
                            hint="It was written by another release: use that one, or partition anew.")  # fmt: skip
        scheme = content["scheme"]
        return cls(
            schema=schema_from_json(content["schema"]), by=tuple(scheme["by"]), partitioner=scheme["partitioner"],
            count=scheme["count"], key=tuple(scheme["key"]), seed=scheme["seed"], compression=scheme["compression"],
            files=tuple(PartFile(**file) for file in content["partitions"]), sources=tuple(content["sources"]),
            generation=content["generation"], notes=tuple(content["notes"]),
        )  # fmt: skip


def parse_manifest(text: bytes | str, path: str) -> Manifest:
    """Read a manifest; raises `DataError` when it is damaged."""
    with context(path=path):
        try:
            return Manifest.from_json(json.loads(text))
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError("the manifest is damaged", hint="Partition the data anew into another folder.") from error


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a local folder; None where there is none."""
    path = folder / MANIFEST_NAME
    if not path.is_file():
        return None
    with context(path=str(path)):
        return parse_manifest(path.read_bytes(), str(path))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest in one step: from then on readers see what it names."""
    text = json.dumps(manifest.to_json(), ensure_ascii=False, separators=(",", ":"))
    # a partition a line, for people and diffs
    write_atomic(folder / MANIFEST_NAME, text.replace('},{"partition"', '},\n{"partition"').encode() + b"\n")


def key_bounds(path: Path, key: Sequence[str]) -> dict[str, Any]:
    """`minimum`, `maximum` and `nulls` of the first key column, from the footer of a Parquet file."""
    if not key:
        return {}
    footer = pq.read_metadata(path)
    places = [place for place in range(footer.num_columns) if footer.schema.column(place).path == key[0]]
    if not places:
        return {}
    groups = [footer.row_group(group).column(places[0]) for group in range(footer.num_row_groups)]
    known = [group.statistics for group in groups if group.statistics is not None]
    bounded = [each for each in known if each.has_min_max]
    nulls = sum(each.null_count for each in known) if all(each.has_null_count for each in known) else None
    if not bounded or len(known) < len(groups):
        return {"nulls": nulls}
    return {"minimum": _json_value(min(each.min for each in bounded)),
            "maximum": _json_value(max(each.max for each in bounded)), "nulls": nulls}  # fmt: skip


def _json_value(value: Any) -> Any:
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, bool | int | float | str):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def fingerprints(paths: Sequence[tuple[str, str]]) -> tuple[Mapping[str, str], ...]:
    """Sources for the manifest from `(path, fingerprint)` pairs, each once, in their order."""
    unique = dict.fromkeys((os.path.basename(path.rstrip("/")), fingerprint) for path, fingerprint in paths)
    return tuple({"name": name, "fingerprint": fingerprint} for name, fingerprint in unique)
