"""What a run takes over from the run that it goes on from: passes over unchanged partitions, encoded rows, candidates.

The records of the parent's passes are copied into the journal of the new run, with their blobs and encoded rows as hard
links: a unit of work has the same key in both, so that what is unchanged is not read again. Fits are not taken over.
"""

import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest
from shardwise.core.target import Target
from shardwise.data.rows_writer import partition_index
from shardwise.split.base import Splitter
from shardwise.split.plan import splitter_from_json
from shardwise.split.temporal import TemporalSplitter
from shardwise.store.base import Journal, Record
from shardwise.store.files import CANNOT_LINK, staged_folder
from shardwise.store.journal import SqliteJournal

KIND, ENCODED = "inherited", "encoded"
FIRST = 4  # candidates of the parent that are tried first
GROWTH = 2.0  # rows over those of the parent, above which split, features and bins are planned anew


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """How a run encoded its rows: blobs of the fitted recipe and of the bounds, and what else decided it."""

    recipe: str
    binner: str
    share: float
    split: Mapping[str, Any]
    target: Mapping[str, Any]
    weights: Mapping[str, float] | None
    rows: int

    @property
    def splitter(self) -> Splitter:
        return splitter_from_json(self.split)

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Parent:
    """The run that a run goes on from, as it was when that began."""

    run: str
    folder: str
    package_hash: str
    units: frozenset[str]
    first: tuple[Mapping[str, Any], ...]  # candidates, the best first
    encoded: Encoded | None

    @classmethod
    def of(cls, records: Sequence[Record]) -> Self | None:
        """From the records of the new run's journal; None for a run without a parent."""
        for record in records:
            encoded = record["encoded"]
            return cls(
                run=record["run"], folder=record["folder"], package_hash=record["package_hash"],
                units=frozenset(record["units"]), first=tuple(record["first"]),
                encoded=None if encoded is None else Encoded(**encoded),
            )  # fmt: skip
        return None

    def splitter(self, rows: int) -> Splitter | None:
        """The parent's, where it fits so many rows; one by time has to see how late the new rows are."""
        if self.encoded is None or rows > GROWTH * self.encoded.rows:
            return None
        splitter = self.encoded.splitter
        return None if isinstance(splitter, TemporalSplitter) else splitter

    def misfit(self, splitter: Splitter, target: Target, weights: Mapping[str, float] | None) -> str:
        """Why rows cannot be encoded as the parent did, in words; empty where they can."""
        if self.encoded is None:
            return "the parent does not tell how it encoded them"
        if splitter.to_json() != self.encoded.split:
            return "the split is another"
        if target.to_json() != self.encoded.target:
            return "the target has other classes"
        return "" if weights == self.encoded.weights else "classes have other weights"

    def link_rows(self, folder: Path, partitions: Collection[int]) -> None:
        """Encoded rows of the parent become those of the folder, if the parent has some of that name; of these
        `partitions` alone: others are not there any more."""
        source = Path(self.folder) / "rows" / folder.name
        if folder.exists() or not source.is_dir():
            return
        with staged_folder(folder) as temp:
            for path in _files(source):
                if all(index in partitions for index in map(partition_index, path.parts) if index is not None):
                    _link(source / path, temp / path)


def inherit(journal: Journal, folder: Path, parent: Path) -> None:
    """Note in the journal of the run in `folder` what it takes over, once; raises `ConfigError` for a parent that has
    not ended."""
    with SqliteJournal(parent / "journal.db", read_only=True) as old:
        records = list(old.read())
    finished = [record for record in records if record["kind"] == "finished"]
    if not finished:
        raise ConfigError(f"the run {parent.name!r} has not ended", hint="Its own command goes on with it.")
    units = {record["unit"]: record for record in records if record["kind"] == "unit" and _is_pass(record["record"])}
    for record in units.values():
        for blob in _blobs(record["record"]):
            _link(parent / "blobs" / blob, folder / "blobs" / blob)
    encoded = next((record["content"] for record in reversed(records) if record["kind"] == ENCODED), None)
    for name in ("recipe", "binner"):
        if encoded is not None:
            _link(parent / "blobs" / encoded[name], folder / "blobs" / encoded[name])
    told = {
        "kind": KIND, "run": parent.name, "folder": str(parent.resolve()), "units": sorted(units), "encoded": encoded,
        "package_hash": finished[-1]["result"]["package_hash"], "first": best_candidates(records),
    }  # fmt: skip
    journal.append([*units.values(), told])


def best_candidates(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The best trials of a run, those that are whole first: one that rests on a rung, or was ended before all its folds
    were done, was scored on less. The baseline and what failed are left out."""
    tops = [steps[-1] for steps in trial_steps(records).values()]
    folds = max((len(top["folds"]) for top in tops), default=0)
    usable = [top for top in tops if top["loss"] is not None and top["family"] != "baseline"]
    ranked = sorted(usable, key=lambda top: (not is_whole(top, folds), top["loss"], top["number"]))
    return [{"family": top["family"], "params": dict(top["params"])} for top in ranked[:FIRST]]


def trial_steps(records: Sequence[Record]) -> dict[int, list[Record]]:
    """What is told of each trial, by number: its rungs from the lowest one, each as it was told last.

    With more memory a run tries anew what had to do with some of the rows: what was told of it before is left out.
    """
    told: dict[int, dict[int, Record]] = {}
    for record in records:
        if record["kind"] == "trial":
            steps, rung = told.setdefault(record["number"], {}), record.get("rung") or 0
            if rung in steps and _tried(steps[rung]) != _tried(record):
                steps.clear()
            steps[rung] = record
    return {number: [steps[rung] for rung in sorted(steps)] for number, steps in sorted(told.items())}


def _tried(trial: Record) -> tuple[Any, ...]:
    """The candidate, and on which share of the rows."""
    return trial["family"], trial["params"], max((fold.get("share", 1.0) for fold in trial["folds"]), default=1.0)


def is_whole(trial: Record, folds: int) -> bool:
    """Whether a trial was trained to its end on all of so many folds."""
    return not trial.get("rests", False) and len(trial["folds"]) == folds


def run_with(runs_folder: Path, digest: str) -> Path:
    """The folder of the run that sealed a package; raises `ConfigError` where none of them did."""
    for path in sorted(runs_folder.glob("*/journal.db")):
        with SqliteJournal(path, read_only=True) as journal:
            if any(record["kind"] == "finished" and record["result"]["package_hash"] == digest
                   for record in journal.read()):  # fmt: skip
                return path.parent
    hint = "Give the --runs-folder where it was trained, or the run itself."
    raise ConfigError(f"no run below {runs_folder} has made the package {digest[:16]}", hint=hint)


def run_named(runs_folder: Path, name: str) -> Path:
    """The folder of a run; raises `ConfigError` with the nearest name."""
    known = [path.parent.name for path in runs_folder.glob("*/journal.db")]
    if name not in known:
        hint = nearest(name, known) if known else "Give --runs-folder, or the folder of a package."
        raise ConfigError(f"there is neither a package nor a run {name!r}", hint=hint)
    return runs_folder / name


def _is_pass(record: Record) -> bool:
    return "access" in record


def _blobs(record: Record) -> Iterator[str]:
    for name in ("blob", "folds_blob"):
        if name in record:
            yield str(record[name])


def _files(folder: Path) -> Iterator[Path]:
    """Relative paths of the files below a folder, without what killed writers left."""
    for place, names, files in os.walk(folder):
        names[:] = [name for name in names if not name.startswith(".")]
        for name in files:
            yield Path(place, name).relative_to(folder)


def _link(source: Path, target: Path) -> None:
    """A second name for a file that is never changed; a copy where the file system has none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in CANNOT_LINK:
            raise
        shutil.copyfile(source, target)
