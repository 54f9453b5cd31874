"""A short calibration: a slice of the data goes through the real passes and a few fits, and each is timed.

It takes at most `limit_s` seconds: a few for small data, else a twentieth of what the run is expected to take. Nothing
of it is kept but the figures.
"""

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shardwise.compute.ceiling import tree_memory_bytes
from shardwise.core.candidate import Candidate
from shardwise.core.errors import DataError
from shardwise.core.grids import GridSpec
from shardwise.core.schema import copies
from shardwise.core.seeds import derive_seed
from shardwise.core.target import Target, Task
from shardwise.data.bins import Binner
from shardwise.data.dataset import Dataset
from shardwise.data.profile import Profile
from shardwise.data.rows import RowsWriter, keep_binner
from shardwise.data.source import Losses, scan
from shardwise.features.base import FOLD, TARGET
from shardwise.features.recipe import Recipe, RecipeConfig
from shardwise.models.neural.shape import Shape
from shardwise.plan.gangs import network_shapes
from shardwise.plan.probe import Coded, Fitted, probe
from shardwise.plan.sizes import Folding, Sizes, is_positive, largest_share, split_rows
from shardwise.plan.training import Held, candidates
from shardwise.split.base import TEST, Fold, Splitter
from shardwise.split.few import FEW_ROWS
from shardwise.split.plan import SplitPlan, choose_splitter
from shardwise.split.temporal import time_values
from shardwise.stats.quantiles import Quantiles

SLICE_ROWS = 300_000  # with fewer rows, all of them go through, unless they have more cells; more where there is time
SLICE_CELLS = 4_000_000
USUAL_S = 6.0  # in which a slice of that size is done
READ_SHARE = 0.4  # of the time, for reading
READ_PARTITIONS = 16
BATCH_ROWS = 16_384
WRITTEN_BYTES = 16_000_000  # by which the disk is measured


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be learned. `infer` tells the target from its column's profile; `exclude` columns are no features.

    `split` is how the run was asked to split its rows, if it was: so are those of the slice. `select` leaves out of a
    recipe what tells nothing on a sample of labelled rows, as the run does; None: all features stay.
    """

    target: str
    infer: Callable[[Any], Target]
    exclude: frozenset[str] = frozenset()
    kinds: tuple[tuple[str, str], ...] = ()
    folding: Folding = field(default_factory=Folding)
    grids: tuple[GridSpec, ...] = ()
    families: tuple[str, ...] = ()
    held: Held = field(default_factory=dict)
    split: SplitPlan | None = None
    select: Callable[[Recipe, pa.Table, Target, Splitter], Recipe] | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was measured. `passes_s` are seconds of the slice's `rows` rows by stage, `fits` those of the candidate
    `trees`; `shapes` are those of networks that may lie in parts."""

    sizes: Sizes
    rows: int
    passes_s: dict[str, float]
    trees: Candidate | None
    fits: tuple[Fitted, ...]
    write_bytes_s: float
    base_bytes: int
    seconds: float
    shapes: tuple[Shape, ...] = ()


def calibrate(dataset: Dataset, question: Question, folder: Path, limit_s: float) -> Calibration:
    """Measure; raises what a run on this data would raise: `TargetError`, `DataError`, `TypeConflict` ..."""
    started = time.perf_counter()
    base_bytes = tree_memory_bytes()
    found = _read(dataset, limit_s * READ_SHARE)
    if found.rows < FEW_ROWS:
        hint = f"It takes at least {FEW_ROWS}. Fewer need no plan: train takes seconds on them."
        raise DataError(f"{found.rows} rows are too few to measure by", hint=hint)
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".plan-", dir=folder))
    try:
        encoded = _encode(dataset, found.table, question, scratch)
        sizes = _sizes(dataset, found, encoded, question)
        left_s = limit_s - (time.perf_counter() - started)
        trees = [c for c in candidates(sizes, None, question.families, question.held) if c.family == "trees"]
        slice_ = Coded(scratch, encoded.recipe.features, encoded.target, evaluations(encoded.splitter))
        fits = probe(slice_, trees[0], left_s) if trees else ()
        write_bytes_s = disk_speed(scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    passes_s = {**encoded.seconds, "profile": encoded.seconds["profile"] + found.slice_s}
    return Calibration(
        sizes=sizes, rows=found.table.num_rows, passes_s=passes_s, trees=trees[0] if trees else None, fits=fits,
        write_bytes_s=write_bytes_s, base_bytes=base_bytes, seconds=time.perf_counter() - started,
        shapes=network_shapes(encoded.target, encoded.recipe.features, question.families, question.held),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Slice:
    """Rows from all over the data; `rows` in all, as told or estimated; `slice_s` for reading as many rows."""

    table: pa.Table
    rows: int
    slice_s: float


def _read(dataset: Dataset, limit_s: float) -> _Slice:
    """Every k-th row of partitions that are spread over the data, until the time is up."""
    total = dataset.rows
    count = len(dataset.partitions)
    chosen = [dataset.partitions[i * count // min(count, READ_PARTITIONS)] for i in range(min(count, READ_PARTITIONS))]
    most = slice_rows(len(dataset.schema), limit_s / READ_SHARE)
    step = -(-(total or 0) * len(chosen) // (count * most)) or 1
    started = time.perf_counter()
    pieces: list[pa.Table] = []
    rows = read_bytes = 0
    losses = Losses() if dataset.reader.options.skip_corrupt else None
    for partition in chosen:
        for _, batch in scan(replace(dataset, partitions=(partition,)), losses=losses):
            rows += batch.num_rows
            kept = batch if step == 1 else batch.take(pa.array(np.arange(0, batch.num_rows, step)))
            pieces.append(pa.Table.from_batches([kept], dataset.schema))
            if time.perf_counter() - started > limit_s:
                break
        read_bytes += partition.size_bytes
        if time.perf_counter() - started > limit_s or (total is None and rows >= 4 * most):
            break
    taken = time.perf_counter() - started
    table = pa.concat_tables(pieces) if pieces else dataset.schema.empty_table()
    if total is None:
        total = rows if read_bytes >= dataset.size_bytes else int(rows * dataset.size_bytes / max(1, read_bytes))
    return _Slice(table=table.slice(0, most), rows=total, slice_s=taken * min(most, table.num_rows) / max(1, rows))


def slice_rows(width: int, limit_s: float) -> int:
    """Rows of a slice that leaves most of the time to the fits.

    >>> slice_rows(10, 6.0), slice_rows(80, 6.0), slice_rows(80, 60.0)
    (300000, 50000, 500000)
    """
    return int(max(1.0, limit_s / USUAL_S) * min(SLICE_ROWS, max(2_000, SLICE_CELLS // max(1, width))))


@dataclass(frozen=True, kw_only=True)
class _Encoded:
    profile: Profile
    target: Target
    splitter: Splitter
    recipe: Recipe
    binned: int
    seconds: dict[str, float]


class _Clock:
    """Seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


def _encode(dataset: Dataset, table: pa.Table, question: Question, scratch: Path) -> _Encoded:
    """Profile, recipe and codes of the slice, which lie in `scratch` afterwards."""
    clock = _Clock()
    batches = table.to_batches(max_chunksize=BATCH_ROWS)
    profile = Profile(dataset.schema)
    for batch in batches:
        profile.update(batch)
    clock.lap("profile")
    target = question.infer(profile.columns[question.target])
    names = [name for name in dataset.schema.names if name != question.target and name not in question.exclude]
    splitter = _splitter(table, profile, names, question)
    starts = np.cumsum([0, *(batch.num_rows for batch in batches)]).tolist()
    folds = [splitter.assign(batch, start) for batch, start in zip(batches, starts, strict=False)]
    labels = [target.encode(batch.column(target.column)) for batch in batches]
    clock.lap("split")
    recipe = Recipe.plan(
        dataset.schema, profile, target=target, exclude={question.target, *question.exclude},
        config=RecipeConfig(kinds=dict(question.kinds), grids=question.grids),
        visible={fold: splitter.visible(fold) for fold in (*numbers(splitter), TEST)},
    )  # fmt: skip
    merged = recipe.summaries()
    for batch, fold, y in zip(batches, folds, labels, strict=True):
        whole = batch.append_column(TARGET, pa.array(y)).append_column(FOLD, pa.array(fold, pa.int8()))
        for summary in merged.values():
            summary.update(whole.filter(pa.array(~np.isnan(y))))
    recipe.fit(merged)
    clock.lap("recipe")
    if question.select is not None:
        recipe = question.select(recipe, profile.sample(), target, splitter)
        clock.lap("select")
    binned = _write(recipe, list(zip(batches, folds, labels, strict=True)), scratch)
    clock.lap("encode")
    return _Encoded(
        profile=profile, target=target, splitter=splitter, recipe=recipe, binned=binned, seconds=clock.seconds
    )


def _splitter(table: pa.Table, profile: Profile, names: Sequence[str], question: Question) -> Splitter:
    """Five folds without a test, or as the run was asked to split."""
    seed = derive_seed(question.seed, "plan")
    plan = question.split
    if plan is None:
        plan = SplitPlan(rows=table.num_rows, features=names, folds=5, test_share=0.0, seed=seed)
    times = None
    if plan.time_column is not None:
        values = time_values(table.column(plan.time_column))
        quantiles = Quantiles(plan.time_column)
        quantiles.add_sorted(np.sort(values[np.isfinite(values)]))
        times = quantiles.weighted()
    copies = profile.duplicate_rows / max(1, profile.rows)
    return choose_splitter(replace(plan, rows=table.num_rows, features=names, times=times, copies=copies))


def numbers(splitter: Splitter) -> list[int]:
    """All folds that train or validate."""
    return sorted({fold for each in splitter.folds() for fold in (*each.train, *each.valid)})


def evaluations(splitter: Splitter) -> tuple[Fold, ...]:
    """Those of a splitter, from the middle on: where pasts grow, the usual one comes first.

    >>> from shardwise.split.hashed import HashSplitter, Shares
    >>> [fold.valid for fold in evaluations(HashSplitter(["x"], shares=Shares(folds=3)))]
    [(1,), (2,), (0,)]
    """
    found = splitter.folds()
    middle = len(found) // 2
    return (*found[middle:], *found[:middle])


def _write(recipe: Recipe, parts: Sequence[tuple[pa.RecordBatch, np.ndarray, np.ndarray]], scratch: Path) -> int:
    """Codes of all parts; how many features have bins."""
    matrices = [recipe.transform(batch, folds=folds) for batch, folds, _ in parts]
    binner = Binner.fit(recipe.features, np.concatenate(matrices)[:50_000])
    keep_binner(scratch, binner)
    with RowsWriter(scratch, len(binner.columns), np.uint8).partition(0) as writer:
        for X, (_, folds, y) in zip(matrices, parts, strict=True):
            writer.write(binner.codes(X).T, y, None, folds)
    return len(binner.columns)


def _sizes(dataset: Dataset, found: _Slice, encoded: _Encoded, question: Question) -> Sizes:
    profile, target, recipe = encoded.profile, encoded.target, encoded.recipe
    column = profile.columns[target.column]
    labelled = 1.0 - column.nulls / max(1, column.count)
    kinds = Counter(feature.kind.value for feature in recipe.features)
    split = split_rows(found.rows, question.folding)
    labelled_rows = {name: round(split[name] * labelled) for name in ("train_rows", "valid_rows", "test_rows")}
    again = recipe.uses_target and split["folds"] > 1 and not question.folding.temporal
    return Sizes(
        rows=found.rows,
        columns=dict(sorted(Counter(each.group for each in profile.columns.values()).items())),
        size_bytes=dataset.size_bytes,
        memory_bytes=round(profile.size_bytes * found.rows / max(1, profile.rows)),
        partitions=len(dataset.partitions),
        largest=largest_share(dataset),
        features=len(recipe.features),
        binned=encoded.binned,
        copied=len(copies(recipe.features)),
        encoded=kinds["encoded"],
        texts=recipe.texts,
        outputs=target.outputs if target.task is Task.MULTICLASS else 1,
        task=target.task.value,
        positive=is_positive(column.minimum),
        encodings=1 + split["folds"] * again,
        folds=split["folds"],
        **labelled_rows,
    )


def disk_speed(folder: Path) -> float:
    """Bytes a second that a process writes in `folder`; the system carries them to the disk later."""
    path = folder / "written"
    content = np.random.default_rng(0).bytes(WRITTEN_BYTES)
    started = time.perf_counter()
    with path.open("wb") as file:
        file.write(content)
        file.flush()
    taken = time.perf_counter() - started
    path.unlink()
    return WRITTEN_BYTES / max(taken, 1e-6)


def slice_of(sizes: Sizes, rows: int) -> Sizes:
    """The sizes of the slice itself, to compare what was measured with what the laws say."""
    share = rows / max(1, sizes.rows)
    return replace(
        sizes, rows=rows, memory_bytes=round(sizes.memory_bytes * share),
        size_bytes=round(sizes.size_bytes * share), partitions=1, largest=1.0, encodings=1, test_rows=0, folds=1,
        train_rows=round(rows * 0.8), valid_rows=round(rows * 0.2),
    )  # fmt: skip
