"""A few rows with enormous targets do not decide which candidate is the best, nor when training stops."""

from pathlib import Path

import numpy as np
import pytest

from shardwise.core.candidate import Candidate
from shardwise.core.target import Target, Task
from shardwise.data.rows import DiskRows
from shardwise.split.base import Fold
from shardwise.testing.models import FEATURES, TRAIN, VALID, Table, on_disk, tiny_table, tiny_target
from shardwise.train.passes import BINS, FLOATS
from shardwise.train.result import FoldResult
from shardwise.train.trainer import FitTask, FitUnit
from shardwise.train.validation import limit_findings, validation_rows

ROWS = 4000
TARGET = tiny_target(Task.REGRESSION)


@pytest.fixture(scope="module")
def table() -> Table:
    """One validation row is a million times as far away as the others."""
    table = tiny_table(Task.REGRESSION, ROWS)
    y = table.y.copy()
    y[np.flatnonzero(table.folds == VALID)[7]] += 1e6 * y.std()
    return Table(table.X, y, table.weight, table.folds)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, table: Table) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    for reads in (BINS, FLOATS):
        on_disk(folder / reads, table, reads=reads)
    return folder


def fitted(rows: Path, models: Path, family: str, metric: str = "rmse") -> FoldResult:
    task = FitTask(
        models=models, features=FEATURES, target=TARGET, metric=metric, seed=1, threads=1, memory_bytes=2**32
    )
    params = {"n_estimators": 60, "num_leaves": 7} if family == "trees" else {}
    unit = FitUnit(
        trial=2, candidate=Candidate(family=family, params=params), number=0, key=f"{family}-{metric}",
        fold=Fold(train=(TRAIN,), valid=(VALID,)), rows=rows,
    )  # fmt: skip
    return FoldResult.from_json(dict(task(unit)))


def test_losses_of_candidates_are_those_of_nearly_all_rows(rows: Path, table: Table, tmp_path: Path) -> None:
    """The better candidate is ahead; early stopping has seen the same losses."""
    trees, baseline = (fitted(rows, tmp_path, family) for family in ("trees", "baseline"))
    usual = np.sort(np.abs(table.y - np.median(table.y)))[:-1].std()
    assert trees.loss < 0.9 * baseline.loss < 3 * usual
    assert min(loss for _, loss in trees.curve) == pytest.approx(trees.loss, rel=1e-6)


def test_a_metric_without_squares_has_no_limit(rows: Path) -> None:
    limited = validation_rows(rows, FEATURES, (VALID,), TARGET, "rmse")
    plain = validation_rows(rows, FEATURES, (VALID,), TARGET, "mae")
    assert limited.limit is not None
    assert limited.weight() is not None
    assert plain.limit is None
    assert plain.weight() is None
    counts = Target(column="y", task=Task.COUNT)
    assert validation_rows(rows, FEATURES, (VALID,), counts, "rmse").limit is None


def test_it_is_told_with_numbers(rows: Path) -> None:
    valid = validation_rows(rows, FEATURES, (VALID,), TARGET, "rmse")
    (finding,) = limit_findings(TARGET, [valid])
    assert finding.severity == "warning"
    assert finding.evidence["rows"] == 1
    assert f"1 of {valid.n_rows:,} validation rows would carry up to 100%" in finding.text
    assert limit_findings(TARGET, [DiskRows(rows / FLOATS, FEATURES, (VALID,))]) == []
