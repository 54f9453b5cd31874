"""Partition a dataset: fit the scheme, shuffle the rows, and let the new files appear at once with their manifest."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from shardwise.compute.ceiling import available_bytes
from shardwise.compute.engines import check_engine
from shardwise.core.errors import ConfigError, DataError, DiskFull
from shardwise.core.events import Events, Said, StageStarted
from shardwise.data.base import Partitioner
from shardwise.data.commit import SCRATCH_NAME, check_free, commit, recover
from shardwise.data.dataset import Dataset, ReadOptions, TypeConflict, open_dataset
from shardwise.data.manifest import Manifest, PartFile, fingerprints, key_bounds, read_manifest
from shardwise.data.options import DEFAULT_TARGET_BYTES
from shardwise.data.partitioners import Source, parse_spec, plan_partitioner
from shardwise.data.places import is_url
from shardwise.data.shuffle import ShuffleJob, ShuffleResult, check_memory
from shardwise.data.shuffles import choose_shuffle
from shardwise.data.source import Losses, scan, suggest_skipping, tell_losses
from shardwise.store.files import scratch_folder
from shardwise.store.locks import writing

DEFAULT_MEMORY_BYTES = 1_000_000_000
COMPRESSIONS = ("zstd", "snappy", "lz4", "gzip", "none")


@dataclass(frozen=True, kw_only=True)
class PartitionOptions:
    """How to partition.

    by            a spec for each level, such as `hash:carrier:8`
    count         partitions where a spec names none; None: such that each has about 64 MB
    memory_bytes  ceiling on this process, and on each worker of an engine; None: 1 GB, or half of what is free if that
                  is less
    threads       that encode in this process; None: one for each CPU
    skip_corrupt  go on without what cannot be read, and count it
    wait_s        how long to wait for another process that writes the same dataset
    engine        what shuffles the rows: this process (local), or the workers of ray, spark or dask
    workers       of the engine; None: as many as it has CPUs
    address       where the engine listens; None: its own default, else a cluster on this machine
    """

    by: tuple[str, ...] = ()
    count: int | None = None
    seed: int = 0
    memory_bytes: int | None = None
    threads: int | None = None
    compression: str = "zstd"
    overwrite: bool = False
    skip_corrupt: bool = False
    wait_s: float = 0.0
    engine: str = "local"
    workers: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        check_engine(self.engine, self.address)
        if self.compression not in COMPRESSIONS:
            raise ConfigError(
                f"there is no compression {self.compression!r}", hint=f"Allowed: {', '.join(COMPRESSIONS)}."
            )

    @property
    def room_bytes(self) -> int:
        """The ceiling on memory; raises `OverBudget` for one under which nothing can be done."""
        room = self.memory_bytes or min(DEFAULT_MEMORY_BYTES, available_bytes() // 2)
        check_memory(room)
        return room


@dataclass(frozen=True, kw_only=True)
class PartitionResult:
    """What was done: the manifest as it is now, and what a person should know (`notes`)."""

    folder: str
    manifest: Manifest
    written_rows: int
    lost_rows: int = 0
    spilled_bytes: int = 0
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        rows = rows_of(self.manifest)
        return {
            "out": self.folder, "by": list(self.manifest.by), "rows": self.manifest.rows,
            "size_bytes": self.manifest.size_bytes, "files": len(self.manifest.files),
            "partitions": self.manifest.count, "filled": sum(count > 0 for count in rows),
            "largest_rows": max(rows), "smallest_rows": min(rows), "written_rows": self.written_rows,
            "lost_rows": self.lost_rows, "spilled_bytes": self.spilled_bytes, "notes": list(self.notes),
        }  # fmt: skip


def rows_of(manifest: Manifest) -> list[int]:
    """Rows of each partition, also of those that are empty."""
    rows = [0] * manifest.count
    for file in manifest.files:
        rows[file.partition] += file.rows
    return rows


Plan = Callable[[Dataset, Losses | None], Partitioner]


def create(
    sources: Sequence[str], out: str, options: PartitionOptions, *, reading: ReadOptions | None = None,
    events: Events | None = None,
) -> PartitionResult:  # fmt: skip
    """Partition `sources` into the new folder `out`.

    Raises `BadInput` for data, columns and folders that cannot be used, `CeilingReached` for memory and disk.
    """
    events = events or Events()
    specs = tuple(parse_spec(text) for text in options.by)
    folder = check_out(out, sources, overwrite=options.overwrite)
    dataset = open_source(sources, options, reading)

    def plan(data: Dataset, losses: Losses | None) -> Partitioner:
        return plan_partitioner(specs, make_source(data, options, losses))

    with output(folder, options.wait_s) as before:
        if before is not None and not options.overwrite:
            raise _stands(folder)
        return rewrite(folder, dataset, plan, replace_by(options, before), events)


def open_source(sources: Sequence[str], options: PartitionOptions, reading: ReadOptions | None) -> Dataset:
    """The dataset that is read; an error for a file that is corrupt names the way on without it."""
    try:
        return open_dataset(sources, options=replace(reading or ReadOptions(), skip_corrupt=options.skip_corrupt))
    except DataError as error:
        suggest_skipping(error)
        raise


def replace_by(options: PartitionOptions, before: Manifest | None) -> "Rewrite":
    """A rewrite of all rows: what was there before gives way."""
    return Rewrite(options=options, by=options.by, generation=before.generation + 1 if before else 0,
                   old=before.files if before else ())  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """What becomes of a folder: `old` files give way to the new ones, `kept` ones stay beside them."""

    options: PartitionOptions
    by: tuple[str, ...]
    generation: int
    old: tuple[PartFile, ...] = ()
    kept: tuple[PartFile, ...] = ()
    sources: tuple[Any, ...] = ()
    notes: tuple[str, ...] = ()  # remedies that were applied
    fits: bool = True  # types may be widened where text does not fit


def rewrite(folder: Path, dataset: Dataset, plan: Plan, to: Rewrite, events: Events) -> PartitionResult:
    """Plan, shuffle into a scratch folder, and commit; the caller holds the lock."""
    with scratch_folder(folder, SCRATCH_NAME) as scratch:
        while True:
            losses = Losses() if to.options.skip_corrupt else None
            try:
                events.emit(StageStarted(stage="plan"))
                partitioner = plan(dataset, losses)
                result = _shuffle(dataset, partitioner, scratch, to, events)
                break
            except DiskFull as error:
                error.context.setdefault("path", str(folder))
                error.message += ": nothing of the new dataset was kept"
                raise
            except TypeConflict as conflict:  # each time one column gets a wider type, until the widest
                if not to.fits:
                    raise
                dataset = dataset.widened(conflict.column, conflict.value)
        _check_rows(dataset, result)
        manifest = describe(scratch, dataset, partitioner, result, to)
        notes = notes_on(manifest, dataset, result.losses)
        for note in notes:
            events.emit(Said(text=note, level="warning"))
        commit(folder, scratch, manifest, [file.path for file in to.old])
    return PartitionResult(folder=str(folder), manifest=manifest, written_rows=result.rows,
                           lost_rows=result.losses.rows + result.losses.skipped_rows,
                           spilled_bytes=result.spilled_bytes, notes=tuple(notes))  # fmt: skip


def _shuffle(dataset: Dataset, partitioner: Partitioner, scratch: Path, to: Rewrite, events: Events) -> ShuffleResult:
    job = ShuffleJob(
        dataset=dataset, partitioner=partitioner, folder=scratch,
        name=partial(_file_name, f"-{to.generation}" if to.generation else ""),
        memory_bytes=to.options.room_bytes, compression=to.options.compression, threads=to.options.threads or 0,
        skip_corrupt=to.options.skip_corrupt, workers=to.options.workers, address=to.options.address,
    )  # fmt: skip
    return choose_shuffle(to.options.engine)(job, events)


def _file_name(suffix: str, number: int) -> str:
    return f"part-{number:05}{suffix}.parquet"


def describe(scratch: Path, dataset: Dataset, partitioner: Partitioner, result: ShuffleResult, to: Rewrite) -> Manifest:
    """The manifest of the new files and those that are kept."""
    files = [
        PartFile(
            partition=file.partition, label=partitioner.label(file.partition), path=file.path, rows=file.rows,
            size_bytes=file.size_bytes, hash=file.hash, **key_bounds(scratch / file.path, partitioner.columns),
        )
        for file in result.files
    ]  # fmt: skip
    sources = fingerprints([(part.path, part.fingerprint) for part in dataset.partitions])
    return Manifest(
        schema=dataset.schema, by=to.by, partitioner=partitioner.to_json(), count=partitioner.count,
        key=partitioner.columns, files=tuple(sorted([*to.kept, *files], key=lambda file: (file.partition, file.path))),
        seed=to.options.seed, compression=to.options.compression,
        sources=to.sources or sources, generation=to.generation, notes=to.notes,
    )  # fmt: skip


def _check_rows(dataset: Dataset, result: ShuffleResult) -> None:
    """Every row went somewhere: else it is a defect of ours, and nothing is committed."""
    if dataset.rows is not None and result.rows + result.losses.rows != dataset.rows:
        raise DataError(f"{dataset.rows:,} rows were to be written, and {result.rows:,} were",
                        hint="A file was changed meanwhile, or this is a defect: please report it.")  # fmt: skip


def notes_on(manifest: Manifest, dataset: Dataset, losses: Losses) -> list[str]:
    """What a person should know of the partitions that came out."""
    rows, notes = rows_of(manifest), []
    empty = sum(count == 0 for count in rows)
    asked = [parse_spec(text) for text in manifest.by]
    number = asked[0].number if len(asked) == 1 and asked[0].kind in ("range", "similar") else None
    if number and manifest.count < number and not manifest.notes:
        notes.append(f"{manifest.count:,} of {number:,} partitions could be made: the key has too few different values")
    if manifest.count > manifest.rows:
        notes.append(f"there are more partitions ({manifest.count:,}) than rows ({manifest.rows:,})")
    elif empty and manifest.partitioner["kind"] not in ("value", "nested"):
        notes.append(f"{empty:,} of {manifest.count:,} partitions are empty: the key has too few values, or is null")
    mean = manifest.rows / max(1, manifest.count - empty)
    largest = max(range(manifest.count), key=lambda number: rows[number])
    if rows[largest] > 2 * mean and manifest.partitioner["kind"] in ("hash", "range", "balanced"):
        label = next(file.label for file in manifest.files if file.partition == largest)
        notes.append(
            f"partition {largest} ({label}) has {rows[largest]:,} rows, {rows[largest] / mean:.1f} times the mean: see "
            "`shardwise profile --partitions`, which names hot keys and remedies"
        )
    notes += [text for text, _ in tell_losses(dataset, losses)]
    if losses.skipped_rows:
        notes.append(f"{losses.skipped_rows:,} bad rows of text files were skipped")
    return notes


# -- places ----------------------------------------------------------------------------------------------------------


@contextmanager
def output(folder: Path, wait_s: float) -> Iterator[Manifest | None]:
    """The folder, locked and cleared of what dead writers left; its manifest if there is one.

    A folder that was made for this and is still empty in the end is removed again.
    """
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with writing(folder, wait_s=wait_s):
            recover(folder)
            yield read_manifest(folder)
    finally:
        if made and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def check_out(out: str, sources: Sequence[str], *, overwrite: bool) -> Path:
    """The folder to write; raises `DataError` where it is in the way of something."""
    if is_url(out):
        raise ConfigError(f"{out} is a URL, and datasets are written to local folders",
                          hint="Write it here, and copy the folder.")  # fmt: skip
    folder = Path(out).expanduser().absolute()
    check_free(folder)
    for source in sources:
        place = Path(source).expanduser().absolute()
        if folder == place or folder.is_relative_to(place):
            raise DataError(f"{out} lies inside the data {source}, and would be read as data the next time",
                            hint="Choose a folder outside.")  # fmt: skip
        if place.is_relative_to(folder):
            raise DataError(f"the data {source} lies inside {out}, where the dataset is to be written",
                            hint="Choose another folder.")  # fmt: skip
    if not overwrite and read_manifest(folder) is not None:
        raise _stands(folder)
    return folder


def _stands(folder: Path) -> DataError:
    return DataError("the folder holds a partitioned dataset already", path=str(folder),
                     hint="Add rows with --append, replace it with --overwrite, or choose another folder.")  # fmt: skip


def make_source(dataset: Dataset, options: PartitionOptions, losses: Losses | None) -> Source:
    """What a scheme is fitted on; the rows of text files are counted first."""
    if dataset.rows is None and any(parse_spec(text).kind in ("rows", "bytes", "balanced") for text in options.by):
        counts: list[int] = []
        for _ in scan(dataset, dataset.schema.names[:1], losses=losses, done=counts.append):
            pass
    else:
        counts = [partition.rows or 0 for partition in dataset.partitions]
    pieces = tuple(
        (part.first_row, rows, part.size_bytes) for part, rows in zip(dataset.partitions, counts, strict=True)
    )
    fitting = max(1, round(dataset.size_bytes / DEFAULT_TARGET_BYTES))
    return Source(
        schema=dataset.schema, scan=lambda columns: scan(dataset, columns, losses=losses), pieces=pieces,
        count=options.count or fitting, seed=options.seed,
    )  # fmt: skip
