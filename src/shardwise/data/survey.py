"""From a dataset to what `data.health` judges: rows, sizes and key ranges of its partitions, and its frequent keys."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.errors import SchemaError
from shardwise.core.names import nearest
from shardwise.core.target import canonical
from shardwise.data.dataset import Dataset
from shardwise.data.hashing import hash_rows
from shardwise.data.health import Health, HotKey, Part, assess
from shardwise.data.manifest import Manifest
from shardwise.data.partitioners import partitioner_from_json
from shardwise.data.places import manifest_of
from shardwise.data.source import first_batch, scan
from shardwise.stats.arrays import plain
from shardwise.stats.counts import Counts

_NULL, _APART = "\x00", "\x1f"


def check_health(dataset: Dataset, *, key: Sequence[str] = (), workers: int = 1) -> Health:
    """Judge the partitions of a dataset: those of its manifest, or those that its reader plans.

    The key is that of the manifest unless one is named; with a key, its columns are read once. Raises `SchemaError` for
    a key that is no column.
    """
    found = manifest_of(dataset.sources[0], {}) if len(dataset.sources) == 1 else None
    manifest = found if found is not None and found.partitioner else None
    key = tuple(key) or (manifest.key if manifest else ())
    check_key_columns(key, dataset.schema.names)
    hot, seen = look_at_keys(dataset, key)
    if manifest is not None and manifest.partitioner["kind"] == "hotkeys":
        hot = [replace(each, spread=each.name in manifest.partitioner["names"]) for each in hot]
    parts = _stored_parts(manifest) if manifest else seen
    ranged = bool(key) and (manifest is None or manifest.partitioner["kind"] == "range")
    return assess(parts, workers=workers, key=key, hot_keys=hot, ranged=ranged)


def check_key_columns(key: Sequence[str], names: Sequence[str]) -> None:
    """Raise `SchemaError` for a key that is no column, with the nearest name."""
    for name in key:
        if name not in names:
            raise SchemaError(f"there is no column {name!r} to look for hot keys in", hint=nearest(name, names))


def _stored_parts(manifest: Manifest) -> list[Part]:
    """Partitions as the manifest tells them; empty ones too, but for the place that is kept for null keys."""
    partitioner = partitioner_from_json(manifest.partitioner)
    files: dict[int, list[Any]] = {}
    for file in manifest.files:
        files.setdefault(file.partition, []).append(file)
    parts = []
    for number in range(manifest.count):
        here = files.get(number, [])
        label = partitioner.label(number)
        if not here and "is null" in label:
            continue
        bounded = [file for file in here if file.minimum is not None]
        parts.append(Part(
            label=label, rows=sum(file.rows for file in here), size_bytes=sum(file.size_bytes for file in here),
            files=len(here), minimum=min((file.minimum for file in bounded), default=None),
            maximum=max((file.maximum for file in bounded), default=None),
        ))  # fmt: skip
    return parts


def look_at_keys(dataset: Dataset, key: Sequence[str]) -> tuple[list[HotKey], list[Part]]:
    """Frequent keys, most frequent first, and the partitions that the reader plans with the ranges of the first key."""
    counts = Counts("key")
    seen: dict[int, list[Any]] = {part.index: [part.rows or 0, None, None] for part in dataset.partitions}
    if key or dataset.rows is None:
        seen = {number: [0, None, None] for number in seen}
        for first_row, batch in scan(dataset, list(key) or dataset.schema.names[:1]):
            here = seen[first_row >> 40]
            here[0] += batch.num_rows
            if key and batch.num_rows:
                here[1:] = _reach(here[1], here[2], batch.column(key[0]))
                counts.update(pa.record_batch({"key": spell_keys(batch, key)}))
    parts = [
        Part(
            label=part.path.rsplit("/", 1)[-1] + (f" from {part.start}" if part.start else ""),
            rows=seen[part.index][0], size_bytes=part.size_bytes,
            minimum=seen[part.index][1], maximum=seen[part.index][2],
        )
        for part in dataset.partitions
    ]  # fmt: skip
    total = max(1, sum(part.rows for part in parts))
    hot = [HotKey(key=_cells(text), rows=rows, share=rows / total) for text, rows in counts.top()[:100]]
    return hot, parts


def _cells(text: str) -> tuple[str | None, ...]:
    return tuple(None if cell == _NULL else cell for cell in text.split(_APART))


def spell_keys(batch: pa.RecordBatch, key: Sequence[str]) -> pa.Array:
    """The key of each row as one text; null cells are spelled too, as they are a key like any other."""
    cells = [pc.fill_null(canonical(plain(batch.column(name))), _NULL) for name in key]
    return cells[0] if len(cells) == 1 else pc.binary_join_element_wise(*cells, _APART)


def hash_key(hot: HotKey, key: Sequence[str], schema: pa.Schema) -> np.uint64:
    """The row hash of a key that was spelled."""
    cells = {
        name: pa.array([cell], pa.string()).cast(schema.field(name).type)
        for name, cell in zip(key, hot.key, strict=True)
    }
    return np.uint64(hash_rows(pa.record_batch(cells), key)[0])


def _reach(low: Any, high: Any, column: pa.Array) -> tuple[Any, Any]:
    ends = pc.min_max(plain(column)).as_py()
    if ends["min"] is None:
        return low, high
    low = ends["min"] if low is None else min(low, ends["min"])
    return low, ends["max"] if high is None else max(high, ends["max"])


def column_share(dataset: Dataset, columns: Sequence[str]) -> float:
    """The share of the bytes in memory that `columns` take, on the first rows; 1.0 for all of them.

    Raises `SchemaError` for one that is not there.
    """
    if not columns:
        return 1.0
    first = first_batch(dataset)
    return max(1e-6, first.select(list(columns)).nbytes / max(1, first.nbytes)) if first is not None else 1.0


def expansion(dataset: Dataset) -> float:
    """Bytes in memory for a byte as stored, on the first rows; 4.0 where the files do not tell their rows."""
    first, part = first_batch(dataset), dataset.partitions[0]
    if first is None or not part.rows or not part.size_bytes:
        return 4.0
    return float(first.nbytes / first.num_rows) / (part.size_bytes / part.rows)
