"""Changes to a dataset that was partitioned: rows appended, small files compacted, another scheme in its place."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from shardwise.core.errors import ConfigError, DataError, SchemaError
from shardwise.core.events import Events, Said
from shardwise.core.names import nearest
from shardwise.data.base import Partitioner
from shardwise.data.dataset import Dataset, ReadOptions, open_dataset
from shardwise.data.manifest import Manifest, PartFile, fingerprints, read_manifest
from shardwise.data.partition import (
    PartitionOptions,
    PartitionResult,
    Rewrite,
    check_out,
    make_source,
    open_source,
    output,
    replace_by,
    rewrite,
)  # fmt: skip
from shardwise.data.partitioners import parse_spec, partitioner_from_json
from shardwise.data.partitioners.extend import extend
from shardwise.data.partitioners.positions import ByPiece
from shardwise.data.source import Losses


def append(
    sources: Sequence[str], out: str, options: PartitionOptions, *, reading: ReadOptions | None = None,
    events: Events | None = None,
) -> PartitionResult:  # fmt: skip
    """Add the rows of `sources` to the dataset `out`, by its own scheme; its rows stay where they are.

    Raises `DataError` when there is no dataset, `SchemaError` when the columns are others, `ConfigError` for a scheme
    that is not the dataset's.
    """
    events = events or Events()
    folder = check_out(out, sources, overwrite=True)
    with output(folder, options.wait_s) as before:
        if before is None:
            raise DataError("there is no partitioned dataset to append to", path=str(folder),
                            hint="Make it first, with --by and without --append.")  # fmt: skip
        if options.by and options.by != before.by:
            raise ConfigError(f"the dataset is partitioned by {' '.join(before.by)}, not by {' '.join(options.by)}",
                              hint="Leave --by out: rows are appended by the dataset's own scheme.")  # fmt: skip
        options = replace(options, by=before.by, seed=before.seed, compression=before.compression)
        dataset = open_like(before, sources, options, reading)
        for note in _seen_before(before, dataset):
            events.emit(Said(text=note, level="warning"))
        known = partitioner_from_json(before.partitioner)
        specs = tuple(parse_spec(text) for text in before.by)
        found, renumber = extend(known, specs, make_source(dataset, options, _losses(options)))
        kept = tuple(_moved(file, renumber(file.partition), found) for file in before.files)
        to = Rewrite(
            options=options, by=before.by, generation=before.generation + 1, kept=kept, fits=False,
            sources=(*before.sources, *_sources(dataset)), notes=before.notes,
        )  # fmt: skip
        result = rewrite(folder, dataset, lambda *_: found, to, events)
        notes = [*_seen_before(before, dataset), *_overlap(before, result, events), *result.notes]
        return replace(result, notes=tuple(notes))


def compact(out: str, options: PartitionOptions, *, events: Events | None = None) -> PartitionResult:
    """Write the partitions that lie in several files into one file each; rows, scheme and order stay."""
    folder = Path(out).expanduser().absolute()
    standing(read_manifest(folder), folder)
    with output(folder, options.wait_s) as found:
        before = standing(found, folder)
        files: dict[int, list[PartFile]] = {}
        for file in before.files:
            files.setdefault(file.partition, []).append(file)
        old = tuple(file for several in files.values() if len(several) > 1 for file in several)
        if not old:
            return PartitionResult(folder=str(folder), manifest=before, written_rows=0,
                                   notes=("every partition is one file already",))  # fmt: skip
        whole = max(file.size_bytes for file in old) + 1
        dataset = open_dataset([str(folder / file.path) for file in old], target_bytes=whole)
        by_path = {str(folder / file.path): file.partition for file in old}
        pieces = ByPiece([by_path[partition.path] for partition in dataset.partitions])
        to = Rewrite(
            options=replace(options, compression=before.compression, seed=before.seed), by=before.by, old=old,
            kept=tuple(file for file in before.files if file not in old), generation=before.generation + 1,
            sources=before.sources, fits=False, notes=before.notes,
        )  # fmt: skip
        known = partitioner_from_json(before.partitioner)
        return rewrite(folder, dataset, lambda *_: _Standing(pieces, known), to, events or Events())


def remake(
    data: str, out: str | None, partitioner: Partitioner, options: PartitionOptions, *, note: str,
    events: Events | None = None,
) -> PartitionResult:  # fmt: skip
    """Write a dataset anew by another partitioner: in its place, or into the folder `out`.

    Raises `DataError` when the dataset is not one that was partitioned.
    """
    folder = Path(data).expanduser().absolute()
    target = folder if out is None else check_out(out, [data], overwrite=options.overwrite)
    with output(target, options.wait_s) as found:
        before = standing(read_manifest(folder) if out is not None else found, folder)
        options = replace(options, by=before.by, seed=before.seed, compression=before.compression)
        to = replace_by(options, found)
        to = replace(to, sources=before.sources, fits=False, notes=(*before.notes, note))
        return rewrite(target, open_dataset([str(folder)]), lambda *_: partitioner, to, events or Events())


class _Standing:
    """Rows stay in the partitions in which they are; what these hold is told by the partitioner that put them there."""

    def __init__(self, pieces: ByPiece, known: Partitioner) -> None:
        self.count = known.count
        self.columns = known.columns
        self.assign = pieces.assign
        self.label = known.label
        self.to_json = known.to_json


def standing(found: Manifest | None, folder: Path) -> Manifest:
    """The manifest; raises `DataError` where there is none."""
    if found is None:
        raise DataError("this is no dataset that shardwise partitioned", path=str(folder),
                        hint="Partition it first: shardwise partition DATA OUT --by hash:COLUMN:8.")  # fmt: skip
    return found


def open_like(
    before: Manifest, sources: Sequence[str], options: PartitionOptions, reading: ReadOptions | None
) -> Dataset:
    """Open data whose columns must be those of a dataset, and read them in its types."""
    dataset = open_source(sources, options, reading)
    names, wanted = dataset.schema.names, before.schema.names
    for name in wanted:
        if name not in names:
            raise SchemaError(f"the data lacks the column {name!r} of the dataset", hint=nearest(name, names))
    for name in names:
        if name not in wanted:
            raise SchemaError(f"the data has a column {name!r} that the dataset lacks",
                              hint=f"{nearest(name, wanted)} Leave it out, or partition all rows anew.")  # fmt: skip
    types = {
        field.name: str(field.type) for field in before.schema if dataset.schema.field(field.name).type != field.type
    }
    if not types:
        return dataset
    asked = dataset.reader.options
    return open_dataset(sources, options=replace(asked, types={**asked.types, **types}))


def _losses(options: PartitionOptions) -> Losses | None:
    return Losses() if options.skip_corrupt else None


def _sources(dataset: Dataset) -> tuple[Mapping[str, str], ...]:
    return fingerprints([(part.path, part.fingerprint) for part in dataset.partitions])


def _seen_before(before: Manifest, dataset: Dataset) -> list[str]:
    """Files that were written to the dataset before, told by name, size and time."""
    known = [dict(source) for source in before.sources]
    again = [source["name"] for source in _sources(dataset) if dict(source) in known]
    if not again:
        return []
    more = f" and {len(again) - 1} more" if len(again) > 1 else ""
    return [f"{again[0]}{more} was written to this dataset before: its rows are in it twice now"]


def _overlap(before: Manifest, result: PartitionResult, events: Events) -> list[str]:
    """Whether the keys of the new rows lie among those that were there, where keys have an order."""
    if before.partitioner["kind"] != "range" and not before.by[0].startswith(("year", "month", "day", "hour")):
        return []
    fresh = [file for file in result.manifest.files if file not in before.files and file.path.endswith(
        f"-{result.manifest.generation}.parquet")]  # fmt: skip
    old, new = _bounds(before.files), _bounds(fresh)
    if not old or not new or new[0] > old[1] or new[1] < old[0]:
        return []
    note = (f"the keys of the new rows ({new[0]} to {new[1]}) overlap those that were there ({old[0]} to {old[1]}): "
            "partitions have several files now, which --compact puts together")  # fmt: skip
    events.emit(Said(text=note))
    return [note]


def _bounds(files: Sequence[PartFile]) -> tuple[Any, Any] | None:
    known = [file for file in files if file.minimum is not None]
    return (min(file.minimum for file in known), max(file.maximum for file in known)) if known else None


def _moved(file: PartFile, number: int, found: Partitioner) -> PartFile:
    return file if file.partition == number else replace(file, partition=number, label=found.label(number))
