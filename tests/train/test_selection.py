"""Features that tell nothing are dropped, and those that do are kept, also where one alone tells nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import shardwise
from shardwise.core.config import RunConfig
from shardwise.core.errors import ConfigError
from shardwise.core.target import Target, Task
from shardwise.train.selection import LEAST_ROUNDS, MOST_TREES, importances, labelled_rows, measure, quick_model
from shardwise.workflow import train


def noisy(rows: int = 3000, seed: int = 0) -> pa.Table:
    """`a` and `b` tell only together, `c` alone; `copy` orders the rows like `c`, the rest is noise."""
    rng = np.random.default_rng(seed)
    a, b, c = rng.normal(size=(3, rows))
    y = (a * b > 0) ^ (rng.random(rows) < 0.05) ^ (c > 2)
    noise = {f"noise_{number}": rng.normal(size=rows) for number in range(20)}
    return pa.table({"a": a, "b": b, "c": c, "copy": np.exp(c), **noise, "y": y.astype(int)})


def asked(folder: Path, table: pa.Table, **more: Any) -> RunConfig:
    path = folder / "noisy.parquet"
    pq.write_table(table, path)
    given = {"data": str(path), "target": "y", "trials": 2, "folds": 2, "runs_folder": str(folder / "runs")}
    return RunConfig.from_mapping({**given, "report": False, **more})


def test_an_interaction_is_kept_and_noise_is_dropped_and_told(tmp_path: Path) -> None:
    result = train(asked(tmp_path, noisy(5000)))
    package = shardwise.load(result.package).package
    assert {"a", "b"} <= set(package.recipe.inputs)
    assert "copy" not in package.recipe.inputs
    assert sum(name.startswith("noise") for name in package.recipe.inputs) <= 4
    (told,) = [finding for finding in result.findings if finding["code"] == "selected"]
    assert "copy" in told["evidence"]["reasons"]
    assert package.recipe.rejected["copy"] == "it orders the rows like 'c'"


def test_copies_go_where_little_else_would(tmp_path: Path) -> None:
    table = noisy().select(["a", "b", "c", "copy", "noise_0", "y"])
    result = train(asked(tmp_path, table))
    assert set(shardwise.load(result.package).package.recipe.rejected) & {"a", "b", "c", "copy"} == {"copy"}


def test_a_column_with_a_constraint_stays(tmp_path: Path) -> None:
    table = noisy(1500).select(["a", "b", "c", "copy", "noise_0", "y"])
    result = train(asked(tmp_path, table, monotone={"copy": 1}))
    assert "copy" in shardwise.load(result.package).package.recipe.inputs


def test_cells_of_a_grid_are_kept_whatever_they_tell(tmp_path: Path) -> None:
    result = train(asked(tmp_path, noisy(1500), sequence="noise_*:20", families="linear"))
    inputs = shardwise.load(result.package).package.recipe.inputs
    assert sum(name.startswith("noise") for name in inputs) == 20
    assert "copy" not in inputs


def test_none_keeps_all_and_unknown_modes_are_refused(tmp_path: Path) -> None:
    result = train(asked(tmp_path, noisy(1500), select="none"))
    assert len(shardwise.load(result.package).columns) == 24
    with pytest.raises(ConfigError, match="Did you mean 'auto'"):
        asked(tmp_path, noisy(100), select="aut")


def test_a_small_sample_drops_nothing(tmp_path: Path) -> None:
    result = train(asked(tmp_path, noisy(600)))
    assert "selected" not in [finding["code"] for finding in result.findings]


def test_nothing_is_dropped_where_the_sample_tells_too_little(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(4000, 12))
    rare = rng.random(4000) < 0.03 * np.exp(0.15 * X.sum(axis=1))  # each feature tells a little of rare events
    table = pa.table({**{f"x{i}": column for i, column in enumerate(X.T)}, "y": rare.astype(int)})
    result = train(asked(tmp_path, table))
    assert len(shardwise.load(result.package).columns) == 12


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS, Task.REGRESSION, Task.COUNT])
def test_importance_stands_out_for_every_task(task: Task) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2500, 6))
    classes = {Task.BINARY: (0, 1), Task.MULTICLASS: (0, 1, 2)}.get(task, ())
    y = {
        Task.BINARY: X[:, 0] > 0, Task.MULTICLASS: np.digitize(X[:, 0], [-0.5, 0.5]), Task.REGRESSION: X[:, 0],
        Task.COUNT: rng.poisson(np.exp(X[:, 0])),
    }[task].astype(np.float64)  # fmt: skip
    target = Target(column="y", task=task, classes=classes)
    importance, shadow = importances(X, y, target, seed=1)
    assert importance[0] > shadow
    assert (importance[1:] < importance[0] / 5).all()
    evidence = measure(X, y, target, seed=1)
    assert not evidence.useless("auto")[0]
    assert evidence.useless("auto")[1:].mean() >= 0.6


@pytest.mark.parametrize(("classes", "trees"), [(3, 3 * 40), (26, 26 * 15), (200, 200 * LEAST_ROUNDS)])
def test_of_many_classes_a_quick_model_has_few_rounds(classes: int, trees: int) -> None:
    rng = np.random.default_rng(0)
    target = Target(column="y", task=Task.MULTICLASS, classes=tuple(range(classes)))
    model = quick_model(rng.normal(size=(4_000, 2)), np.arange(4_000) % classes, target)
    assert model.num_trees() == trees <= max(MOST_TREES, LEAST_ROUNDS * classes)


@pytest.mark.parametrize("task", [Task.REGRESSION, Task.QUANTILE])
def test_the_unit_of_a_target_says_nothing(task: Task) -> None:
    y = np.random.default_rng(0).normal(3.0, 2.0, 500)
    target = Target(column="y", task=task)
    told = [labelled_rows(pa.table({"y": y * unit}), target, 400) for unit in (1.0, 1e-9, 1e9)]
    for rows, values in told:
        assert len(rows) == 400
        np.testing.assert_allclose(values, told[0][1], rtol=1e-9)
    assert abs(told[0][1].mean()) < 1e-9
