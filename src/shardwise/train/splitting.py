"""What a run asks of its split, and whether the rows that were counted ask for another one."""

from collections.abc import Mapping

import numpy as np

from shardwise.core.config import RunConfig
from shardwise.core.seeds import derive_seed
from shardwise.core.state import load_state
from shardwise.data.dataset import Dataset
from shardwise.data.source import first_batch
from shardwise.split.base import TEST, Splitter
from shardwise.split.few import FEW_ROWS
from shardwise.split.plan import SplitPlan
from shardwise.split.temporal import time_values
from shardwise.stats.quantiles import Quantiles
from shardwise.train.passes import TIME_CAPACITY, TimePass
from shardwise.train.run import Run
from shardwise.train.units import run_pass

MANY_ROWS = 200  # below, folds are uneven by chance


def split_plan(run: Run, dataset: Dataset, rows: int) -> SplitPlan:
    """By the config, for so many rows as are known or estimated; raises `DataError` for a time column without times."""
    config = run.config
    taken = {config.target, config.weight, *config.drop}
    is_guess = dataset.rows is None and len(dataset.partitions) > 1
    return SplitPlan(
        rows=max(rows, FEW_ROWS) if is_guess else rows,  # that they are too few is told when they are counted
        features=[name for name in dataset.schema.names if name not in taken],
        key=config.key,
        group=config.group,
        time_column=config.time_column,
        fold_column=config.fold_column,
        times=None if config.time_column is None else _times(run, dataset, config.time_column),
        folds=config.folds,
        test_share=config.test_share,
        valid_share=config.valid_share,
        seed=derive_seed(config.seed, "split"),
    )  # fmt: skip


def goes_by_content(config: RunConfig) -> bool:
    """Whether nothing was said of what decides the fold of a row."""
    return not (config.time_column or config.group or config.fold_column or config.key)


def is_uneven(fold_rows: Mapping[int, int], splitter: Splitter, *, tests: bool) -> bool:
    """Whether a fold (with `tests`: the test too) is empty, or the folds are of very different sizes."""
    total = sum(fold_rows.values())
    numbers = {f for each in splitter.folds() for f in each.train + each.valid} | ({TEST} if tests else set())
    sizes = [fold_rows.get(fold, 0) for fold in sorted(numbers)]
    far = fold_rows.get(TEST, 0) > 0.45 * total or _spread(fold_rows) > 2.0
    return min(sizes) == 0 or (far and total >= MANY_ROWS)


def _spread(fold_rows: Mapping[int, int]) -> float:
    sizes = [rows for fold, rows in fold_rows.items() if fold > 0]
    return max(sizes) / max(1, min(sizes)) if sizes else 1.0


def _times(run: Run, dataset: Dataset, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Times of the rows and how many rows each stands for, in one pass."""
    target = run.config.target
    work = TimePass(dataset=dataset, column=column, target=target, blobs=run.blobs)
    merged = Quantiles(column, capacity=TIME_CAPACITY)
    with run.stage("time", len(dataset.partitions)):
        for _, record in run_pass(run, work, dataset, "time", column, target):
            state = load_state(run.ledger.blobs.read(record["blob"]))
            merged.merge(Quantiles.from_state(state["summary"]))
        if not merged.count and (first := first_batch(dataset)) is not None:
            time_values(first.column(column))  # quotes the text that is no time
    return merged.weighted()
