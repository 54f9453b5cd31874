"""The package: the sealed folder that is served.

    manifest.json                         what it is, what it expects, the hash of every file below
    recipe.json, recipe.arrays            the fitted features
    models/0-trees/ ...                   one folder per model, in its library's own portable format
    answers.json, answers.arrays          calibration and conformal scores, where there are any
    golden/rows.arrow, predictions.npy    raw rows and what was predicted for them
    profile/profile.json, profile.arrays  statistics of the training data

The same parts give the same bytes: nothing in it tells the time or the place of its making. A package is replaced in
one step, so that its path loads at every instant (`store.files`); what else lies in a replaced folder goes with it.
Loading checks every hash, predicts the golden rows again, and executes nothing that it reads.
"""

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shardwise.core.errors import PackageError, SchemaError, ShardwiseError, context
from shardwise.core.state import State, dump_state, join_state, load_state, split_state
from shardwise.core.target import Target
from shardwise.ensemble.combine import MeanCombiner
from shardwise.ensemble.stack import Stack
from shardwise.features.recipe import Recipe
from shardwise.models.base import Model
from shardwise.models.families import load_model, save_model
from shardwise.registry.golden import SAME_LIBRARIES, check_golden, difference, write_golden
from shardwise.registry.manifest import ANSWERS, NAME, PROFILE, RECIPE, Manifest, MemberEntry, hash_files, libraries
from shardwise.stats.calibrators import Calibrator, calibrator_from_state
from shardwise.stats.conformal import Conformal
from shardwise.store.files import staged_folder, standing_folder

_ATTEMPTS = 10  # of loading a package that is replaced meanwhile


@dataclass(frozen=True)
class Member:
    """A fitted model and its weight in the mean of all members."""

    family: str
    model: Model
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Package:
    """A loaded package. `golden_difference`: how far its golden rows are from those of the making; 0 = the same."""

    folder: Path
    hash: str
    manifest: Manifest
    recipe: Recipe
    members: tuple[Member, ...]
    calibrator: Calibrator | None = None
    conformal: Conformal | None = None
    golden_difference: float = 0.0

    @property
    def target(self) -> Target:
        return self.manifest.target

    @property
    def inputs(self) -> pa.Schema:
        """Columns that a batch must have, with the types of the training data."""
        return self.manifest.inputs

    def scores(self, batch: pa.RecordBatch) -> np.ndarray:
        """Predictions of raw rows: float64 probabilities `(rows, classes)`, or `(rows,)`.

        Raises `SchemaError` when a column is missing or cannot be read as the one of the training data.
        """
        return score(
            self.recipe, self.members, self.target, batch, stack=self.manifest.stack, calibrator=self.calibrator
        )

    def scores_of(self, X: np.ndarray) -> np.ndarray:
        """The same for rows that the recipe has encoded, float32 `(rows, features)`."""
        return self.combined(member.model.predict(X) for member in self.members)

    def combined(self, predictions: Iterable[np.ndarray]) -> np.ndarray:
        """One answer of those of the members, in their order: mean or stack, then calibration."""
        mean = self._combiner.combine(predictions)
        return mean if self.calibrator is None else self.calibrator.apply(mean)

    @cached_property
    def _combiner(self) -> MeanCombiner | Stack:
        return combiner_of(self.members, self.manifest.stack)

    def profile_state(self) -> State:
        """Statistics of the training data, as `data.profile` saves them."""
        self.manifest.check_files(self.folder, [f"{PROFILE}.json", f"{PROFILE}.arrays"])
        return _read_state(self.folder, PROFILE)


def combiner_of(members: Sequence[Member], stack: Stack | None) -> MeanCombiner | Stack:
    """What makes one prediction of those of the members: the stack, or else the weighted mean."""
    return stack if stack is not None else MeanCombiner([member.weight for member in members])


def score(
    recipe: Recipe, members: Sequence[Member], target: Target, batch: pa.RecordBatch, *, stack: Stack | None = None,
    calibrator: Calibrator | None = None,
) -> np.ndarray:  # fmt: skip
    """The one way from raw rows to a prediction: recipe, models, weighted mean or stack, calibration."""
    if batch.num_rows == 0:
        return np.empty((0, target.outputs) if target.task.is_classification else 0)
    X = recipe.transform(batch)
    combined = combiner_of(members, stack).combine(member.model.predict(X) for member in members)
    return combined if calibrator is None else calibrator.apply(combined)


def write_package(
    folder: Path,
    *,
    recipe: Recipe,
    models: Sequence[Member],
    target: Target,
    schema: pa.Schema,
    metrics: Mapping[str, Any],
    lineage: Mapping[str, Any],
    profile_state: State,
    golden: pa.RecordBatch | pa.Table,
    calibrator: Calibrator | None = None,
    conformal: Conformal | None = None,
    stack: Stack | None = None,
    extra: Mapping[str, Any] | None = None,
) -> str:
    """Write or replace the package in `folder`, and return its hash.

    `schema` holds the raw columns, of which those that the recipe reads are kept; `golden` some raw rows. Raises
    `PackageError` when something else than a package stands there, or when saved models predict differently.
    """
    check_place(folder)
    with staged_folder(folder) as temp:
        _write_state(temp, RECIPE, recipe.sealed().state())
        _write_state(temp, PROFILE, profile_state)
        entries = _write_models(temp, models)
        _write_answers(temp, calibrator, conformal)
        rows = _golden_rows(golden, recipe)
        read = _read_recipe(temp), _read_models(temp, entries), target, rows
        saved = score(*read, stack=stack, calibrator=_read_answers(temp, target)[0])
        given = score(recipe, models, target, rows, stack=stack, calibrator=calibrator)
        _check_saved(difference(saved, given))
        write_golden(temp, rows, saved)
        inputs = pa.schema([pa.field(name, schema.field(name).type) for name in recipe.inputs])
        manifest = Manifest(
            target=target, inputs=inputs, members=entries, metrics=metrics, lineage=lineage, files=hash_files(temp),
            libraries=libraries([each.family for each in models]), stack=stack, extra=extra or {},
        ).to_bytes()  # fmt: skip
        (temp / NAME).write_bytes(manifest)
    return _hash(manifest)


def _check_saved(off: float) -> None:
    if not off <= SAME_LIBRARIES:  # NaN is no match either
        raise PackageError("a saved model predicts differently than it did", hint="This is a bug; please report it.")


def load_package(folder: Path | str) -> Package:
    """Load and check a package; raises `PackageError` that names what is wrong, and what to do.

    When the package is replaced while it is being read, it is read again.
    """
    final = Path(folder)
    with context(path=str(folder)):
        for _ in range(_ATTEMPTS):
            standing = standing_folder(final)
            before = _identity(standing)
            try:
                return _load(standing)
            except (ShardwiseError, OSError):
                if _identity(standing_folder(final)) == before:
                    raise
        raise PackageError("the package is replaced all the time", hint="Load it again when the training has ended.")


def package_hash(folder: Path | str) -> str:
    """SHA-256 of the manifest, which holds the hashes of all other files."""
    with context(path=str(folder)):
        standing = standing_folder(Path(folder))
        Manifest.read(standing)
        return _hash((standing / NAME).read_bytes())


def check_place(folder: Path) -> None:
    """A package may be written where there is nothing, an empty folder, or a package; else `PackageError`."""
    place = Path(folder)
    if place.is_dir() and any(place.iterdir()) and not _is_package(place):
        hint = "Choose a new folder, or remove this one yourself."
        raise PackageError("this folder holds something else than a package", hint=hint, path=str(folder))


def _is_package(folder: Path) -> bool:
    try:
        Manifest.read(folder)
    except PackageError:
        return False
    return True


def _load(folder: Path) -> Package:
    manifest = Manifest.read(folder)
    manifest.check(folder)
    calibrator, conformal = _read_answers(folder, manifest.target, manifest.files)
    package = Package(
        folder=folder,
        hash=_hash((folder / NAME).read_bytes()),
        manifest=manifest,
        recipe=_read_recipe(folder),
        members=_read_models(folder, manifest.members),
        calibrator=calibrator,
        conformal=conformal,
    )
    same = dict(manifest.libraries) == libraries([each.family for each in manifest.members])
    found = check_golden(folder, package.scores, same_libraries=same)
    return replace(package, golden_difference=found)


def _golden_rows(golden: pa.RecordBatch | pa.Table, recipe: Recipe) -> pa.RecordBatch:
    there = set(golden.schema.names)
    missing = [name for name in recipe.inputs if name not in there]
    if missing:
        raise SchemaError(f"the golden rows lack the columns {missing}")
    columns = [golden.column(name) for name in recipe.inputs]
    flat = [column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column for column in columns]
    return pa.RecordBatch.from_arrays(flat, names=list(recipe.inputs))


def _write_models(folder: Path, models: Sequence[Member]) -> tuple[MemberEntry, ...]:
    entries = []
    for number, member in enumerate(models):
        place = f"models/{number}-{member.family}"
        (folder / place).mkdir(parents=True)
        save_model(member.family, member.model, folder / place)
        entries.append(MemberEntry(folder=place, family=member.family, weight=float(member.weight)))
    return tuple(entries)


def _read_models(folder: Path, entries: Sequence[MemberEntry]) -> tuple[Member, ...]:
    return tuple(Member(entry.family, load_model(folder / entry.folder), entry.weight) for entry in entries)


def _write_answers(folder: Path, calibrator: Calibrator | None, conformal: Conformal | None) -> None:
    parts = {"calibrator": calibrator, "conformal": conformal}
    state = {name: part.state() for name, part in parts.items() if part is not None}
    if state:
        _write_state(folder, ANSWERS, state)


def _read_answers(
    folder: Path, target: Target, files: Container[str] | None = None
) -> tuple[Calibrator | None, Conformal | None]:
    """None for what is not there; of a sealed package a file that is not among its `files` is not looked at."""
    name = f"{ANSWERS}.json"
    if not (folder / name).exists() or (files is not None and name not in files):
        return None, None
    state = _read_state(folder, ANSWERS)
    return (
        calibrator_from_state(state["calibrator"]) if "calibrator" in state else None,
        Conformal.from_state(target, state["conformal"]) if "conformal" in state else None,
    )


def _read_recipe(folder: Path) -> Recipe:
    return Recipe.from_state(_read_state(folder, RECIPE))


def _write_state(folder: Path, name: str, state: State) -> None:
    header, buffers = split_state(dump_state(state))
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_bytes(header)
    (folder / f"{name}.arrays").write_bytes(buffers)


def _read_state(folder: Path, name: str) -> State:
    with context(path=str(folder / name)):
        header, buffers = (folder / f"{name}.json").read_bytes(), (folder / f"{name}.arrays").read_bytes()
        return load_state(join_state(header, buffers))


def _identity(folder: Path) -> tuple[int, ...] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _hash(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest()
