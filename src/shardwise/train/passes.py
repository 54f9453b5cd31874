"""The passes over the raw data, as tasks that a worker runs on one partition: profile, summaries, encode.

A task is small and picklable, reads its partition from storage, leaves its result as a blob or as files of the run, and
returns a record for the journal: references, never tables.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.errors import DataError, context
from shardwise.core.state import State, dump_state, load_state
from shardwise.core.target import Target
from shardwise.data.access import AccessCounter
from shardwise.data.base import Partition
from shardwise.data.bins import Binner
from shardwise.data.dataset import BATCH_ROWS, Dataset
from shardwise.data.hashing import HashedBatch, hash_column
from shardwise.data.profile import Profile
from shardwise.data.rows import RowsWriter
from shardwise.data.source import Losses, is_corrupt, scan, suggest_skipping
from shardwise.features.base import FOLD, TARGET
from shardwise.features.recipe import Recipe
from shardwise.plan.stages import batch_rows
from shardwise.split.base import TEST, Splitter
from shardwise.split.hashed import position_hashes
from shardwise.split.temporal import time_values
from shardwise.stats.quantiles import Quantiles
from shardwise.store.blobs import FolderBlobs

BINS, FLOATS = "bins", "floats"  # sub-folders of encoded rows
TIME_CAPACITY = 16_384  # of the sketch of times: of 1e9 rows the last 200,000 are told apart
_FLOAT_SEED = 7  # which rows are kept as floats does not depend on the fold, whose hash has another seed


@dataclass(frozen=True, kw_only=True)
class TimePass:
    """Quantiles of the time column, from which a temporal split takes its cuts.

    Rows without a `target` have no say: where the newest have none, they would be the whole test.
    """

    dataset: Dataset
    column: str
    target: str
    blobs: Path

    def __call__(self, partition: Partition) -> Mapping[str, Any]:
        summary, counter = Quantiles(self.column, capacity=TIME_CAPACITY), AccessCounter()
        with context(stage="time", partition=partition.index, path=partition.path):
            one = replace(self.dataset.counted(counter), partitions=(partition,))
            losses = Losses() if one.reader.options.skip_corrupt else None  # counted where the profile is
            for _, batch in scan(one, [self.column, self.target], losses=losses):
                values = time_values(batch.column(self.column), part=True)
                known = ~pc.is_null(batch.column(self.target), nan_is_null=True).to_numpy(zero_copy_only=False)
                summary.add_sorted(np.sort(values[np.isfinite(values) & known]))
        return {"blob": keep_state(self.blobs, {"summary": summary.state()}), "access": counter.to_json()}


class Near:
    """The last thing that a task has left under a key in this process, which need not be read again.

    Taken to another process it keeps nothing: there nobody would ask for it.
    """

    def __init__(self) -> None:
        self._kept: tuple[str, Any] | None = None

    def keep(self, key: str, value: Any) -> None:
        self._kept = key, value

    def take(self, key: str) -> Any:
        """What was kept under the key, once; None where it is not there."""
        kept, self._kept = self._kept, None
        return kept[1] if kept is not None and kept[0] == key else None

    def __reduce__(self) -> tuple[type["_Far"], tuple[()]]:
        return _Far, ()


class _Far(Near):
    def keep(self, key: str, value: Any) -> None:
        del key, value


@dataclass(frozen=True, kw_only=True)
class ProfilePass:
    """Profile of the open rows and of the sealed test rows of a partition, and how many rows each fold got."""

    dataset: Dataset
    splitter: Splitter
    blobs: Path
    near: Near = field(default_factory=Near)

    def __call__(self, partition: Partition) -> Mapping[str, Any]:
        """The record of a partition. With `skip_corrupt`, one that cannot be read to its end counts as without rows.

        Other columns may be asked for later, and break elsewhere: what it gave before its end is left out as well.
        """
        try:
            return self._count(partition)
        except DataError as error:
            if not is_corrupt(error) or not self.dataset.reader.options.skip_corrupt:
                suggest_skipping(error)
                raise
            empty = Profile(self.dataset.schema), Profile(self.dataset.schema)
            return {**self._record(*empty, np.zeros(0, np.int8)), "access": [], "corrupt": str(error)}

    def _count(self, partition: Partition) -> Mapping[str, Any]:
        share = partition.rows / self.dataset.rows if partition.rows and self.dataset.rows else 1.0
        opened, sealed = (Profile(self.dataset.schema, share=share) for _ in range(2))
        assigned: list[np.ndarray] = []
        held: list[HashedBatch] = []
        row, counter = partition.first_row, AccessCounter()
        dataset = self.dataset.with_dictionaries().counted(counter)
        with context(stage="profile", partition=partition.index, path=partition.path):
            batches = dataset.read(partition, None, batch_rows(len(dataset.schema)))
            for batch in batches:
                cells = HashedBatch.of(batch)
                folds = self.splitter.assign(batch, row, cells.hashes)
                row += batch.num_rows
                assigned.append(folds)
                test = folds == TEST
                opened.add(cells.filter(~test) if test.any() else cells)
                if test.any():  # few rows of a batch, so that those of many are counted at once
                    held.append(cells.filter(test))
                if sum(part.batch.num_rows for part in held) >= BATCH_ROWS:
                    sealed.add(HashedBatch.concat(held))
                    held = []
            if held:
                sealed.add(HashedBatch.concat(held))
        folds = np.concatenate([np.zeros(0, np.int8), *assigned])
        record = self._record(opened, sealed, folds)
        return {**record, "access": counter.to_json(), "skipped_rows": batches.skipped_rows}

    def profiles(self, record: Mapping[str, Any]) -> tuple[Profile, Profile]:
        """Of the open rows and of the sealed ones of a partition, by its record."""
        if (near := self.near.take(record["blob"])) is not None:
            opened, sealed = near
            return opened, sealed
        state = load_state(FolderBlobs(self.blobs).read(record["blob"]))
        return Profile.from_state(state["open"]), Profile.from_state(state["sealed"])

    def _record(self, opened: Profile, sealed: Profile, folds: np.ndarray) -> dict[str, Any]:
        blob = keep_state(self.blobs, {"open": opened.state(), "sealed": sealed.state()})
        self.near.keep(blob, (opened, sealed))
        return {
            "blob": blob,
            "folds_blob": keep_blob(self.blobs, folds.tobytes()),
            "rows": len(folds),
            "folds": {str(fold): int(rows) for fold, rows in zip(*np.unique(folds, return_counts=True), strict=True)},
        }


@dataclass(frozen=True, kw_only=True)
class LabelledPass:
    """What a pass needs that reads features, target, weight and fold of the labelled rows.

    `folds` has for each partition the blob with its rows' fold numbers, as the profile's pass left them: what decides
    the fold (often the whole row) is not read again.
    """

    dataset: Dataset
    folds: Mapping[int, str]
    target: Target
    blobs: Path
    recipe: str  # blob of the planned or fitted recipe
    weight: str | None = None
    class_weight: Mapping[str, float] | None = None
    group: str | None = None  # whose rows depend on each other

    def rows(
        self, partition: Partition, inputs: tuple[str, ...], counter: AccessCounter, *, counted: bool = False
    ) -> Iterator["Labelled"]:
        """Batches of the labelled rows of a partition, with what goes with them; as it suits who counts values."""
        dataset = (self.dataset.with_dictionaries() if counted else self.dataset).counted(counter)
        wanted = dict.fromkeys([*inputs, self.target.column, *filter(None, [self.weight, self.group])])
        all_folds = np.frombuffer(FolderBlobs(self.blobs).read(self.folds[partition.index]), np.int8)
        if not len(all_folds):  # empty, or corrupt
            return
        row = 0
        for batch in dataset.read(partition, list(wanted), batch_rows(len(dataset.schema)) if counted else BATCH_ROWS):
            folds = all_folds[row : row + batch.num_rows]
            target = self.target.encode(batch.column(self.target.column))
            group = self._groups(batch, partition.first_row + row)
            row += batch.num_rows
            weight = self._weights(batch, target)
            known = ~np.isnan(target) if weight is None else ~np.isnan(target) & (weight > 0)
            if not known.all():
                batch = batch.filter(pa.array(known))
                folds, target = folds[known], target[known]
                weight = None if weight is None else weight[known]
                group = None if group is None else group[known]
            yield Labelled(batch, folds, target, weight, group)

    def _groups(self, batch: pa.RecordBatch, first_row: int) -> np.ndarray | None:
        """Hashes uint64 `(rows,)` of the groups; a row without one is its own."""
        if self.group is None:
            return None
        column = batch.column(self.group)
        alone = column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
        return np.where(alone, position_hashes(batch.num_rows, first_row, 0), hash_column(column))

    def _weights(self, batch: pa.RecordBatch, target: np.ndarray) -> np.ndarray | None:
        """Sample weight times class weight, float32 `(rows,)`; a null or negative weight counts as 0."""
        if self.weight is None and self.class_weight is None:
            return None
        weight = np.ones(batch.num_rows, np.float32)
        if self.weight is not None:
            given = pc.cast(batch.column(self.weight), pa.float32(), safe=False).to_numpy(zero_copy_only=False)
            weight *= np.clip(np.nan_to_num(given, nan=0.0, posinf=0.0), 0, None)
        if self.class_weight is not None:
            table = np.array([self.class_weight.get(str(label), 1.0) for label in self.target.classes], np.float32)
            weight *= table[np.nan_to_num(target).astype(np.int64)]
        return weight

    @property
    def loaded_recipe(self) -> Recipe:
        return _recipe(str(self.blobs), self.recipe)


@dataclass(frozen=True)
class Labelled:
    """Labelled rows: raw columns, folds int8 `(rows,)`, target float64 `(rows,)`, weight float32 `(rows,)` or None, and
    group uint64 `(rows,)` or None."""

    batch: pa.RecordBatch
    folds: np.ndarray
    target: np.ndarray
    weight: np.ndarray | None
    group: np.ndarray | None = None

    def only(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Target, weight and fold; the target of rows that are not `chosen` is NaN, by which they are not written."""
        target = self.target if chosen.all() else np.where(chosen, self.target, np.nan)
        return target, self.weight, self.folds


@dataclass(frozen=True, kw_only=True)
class SummariesPass(LabelledPass):
    """What the recipe asks for beyond the profile, over the open rows."""

    def __call__(self, partition: Partition) -> Mapping[str, Any]:
        recipe = self.loaded_recipe
        summaries, counter = recipe.summaries(), AccessCounter()
        with context(stage="recipe", partition=partition.index, path=partition.path):
            for labelled in self.rows(partition, recipe.summary_inputs, counter, counted=True):
                batch = _with_labels(labelled)
                for summary in summaries.values():
                    summary.update(batch)
        state = {name: summary.state() for name, summary in summaries.items()}
        return {"blob": keep_state(self.blobs, state), "access": counter.to_json()}


@dataclass(frozen=True, kw_only=True)
class EncodePass(LabelledPass):
    """Model-ready rows of a partition, written into the run's folder of rows: see `encode`.

    `hidden` are folds whose targets no feature may see: those that validate. `float_share` of the rows that are in none
    of the `scored` folds are kept as floats.
    """

    folder: Path
    binner: str  # blob
    float_share: float
    scored: tuple[int, ...]
    hidden: tuple[int, ...] = ()

    def __call__(self, partition: Partition) -> Mapping[str, Any]:
        recipe, binner = self.loaded_recipe, _binner(str(self.blobs), self.binner)
        floats = RowsWriter(self.folder / FLOATS, len(recipe.features))
        bins = RowsWriter(self.folder / BINS, len(binner.columns), np.uint8)
        rows, counter = 0, AccessCounter()
        with (
            context(stage="encode", partition=partition.index, path=partition.path),
            bins.partition(partition.index) as codes_out,
            floats.partition(partition.index) as floats_out,
        ):
            for labelled in self.rows(partition, recipe.inputs, counter):
                X = recipe.transform(labelled.batch, folds=labelled.folds, hidden=self.hidden)
                codes_out.write(binner.codes(X).T, *labelled.only(labelled.folds != TEST))
                kept = self._kept(labelled, partition.first_row + rows)
                floats_out.write(X, *labelled.only(kept), labelled.group)
                rows += len(labelled.target)
        return {"rows": rows, "access": counter.to_json()}

    def _kept(self, labelled: "Labelled", first_row: int) -> np.ndarray:
        if self.float_share >= 1.0:
            return np.ones(len(labelled.target), bool)
        drawn = position_hashes(len(labelled.target), first_row, _FLOAT_SEED) < np.uint64(self.float_share * 2**64)
        return np.asarray(drawn | np.isin(labelled.folds, self.scored))


def _with_labels(labelled: Labelled) -> pa.RecordBatch:
    """Open rows with their target and fold as further columns."""
    open_rows = labelled.folds != TEST
    batch = labelled.batch.append_column(TARGET, pa.array(labelled.target))
    batch = batch.append_column(FOLD, pa.array(labelled.folds, pa.int8()))
    return batch.filter(pa.array(open_rows)) if not open_rows.all() else batch


def keep_state(folder: Path, state: State) -> str:
    """Write a state as a blob under the hash of its content, and return that key."""
    return keep_blob(folder, dump_state(state))


def keep_blob(folder: Path, content: bytes) -> str:
    """Write bytes as a blob under their hash, and return that key."""
    digest = hashlib.sha256(content).hexdigest()
    key = f"{digest[:2]}/{digest[2:]}"
    FolderBlobs(folder).write(key, content)
    return key


@lru_cache(maxsize=2)
def _recipe(folder: str, key: str) -> Recipe:
    return Recipe.from_state(load_state(FolderBlobs(Path(folder)).read(key)))


@lru_cache(maxsize=2)
def _binner(folder: str, key: str) -> Binner:
    return Binner.from_state(load_state(FolderBlobs(Path(folder)).read(key)))
