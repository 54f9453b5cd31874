"""Small fitted parts of a package, made as a run makes them: profile, recipe, encoded rows, models."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from shardwise.core.target import Target, Task
from shardwise.data.profile import Profile
from shardwise.features.base import FOLD, TARGET
from shardwise.features.recipe import Recipe, RecipeConfig
from shardwise.models.base import FitRun
from shardwise.models.families import build
from shardwise.registry.package import Member, write_package
from shardwise.stats.calibrators import Temperature
from shardwise.stats.conformal import Conformal
from shardwise.stats.metrics import Pairs
from shardwise.stats.recalibration import fit_isotonic
from shardwise.testing.models import TRAIN, VALID, Table, on_disk

CLASSES = {Task.BINARY: (False, True), Task.MULTICLASS: ("low", "mid", "high")}
PARAMS = {"trees": {"n_estimators": 15, "num_leaves": 7}, "linear": {}, "baseline": {}}


def make_table(rows: int = 400, task: Task = Task.BINARY, seed: int = 0) -> pa.Table:
    """Numbers with nulls, a category, a date, an id that is no input, and a target `y` that depends on them."""
    rng = np.random.default_rng(seed)
    x, z, town = rng.normal(size=rows), rng.random(rows), rng.integers(0, 4, rows)
    signal = x + town - 1.5 + 0.3 * rng.normal(size=rows)
    labels = {
        Task.BINARY: signal > 0,
        Task.MULTICLASS: np.array(["low", "mid", "high"])[np.digitize(signal, [-1, 1])],
        Task.REGRESSION: signal * 10,
        Task.COUNT: np.round(np.exp(signal / 3)),
        Task.QUANTILE: signal,
    }
    days = (np.datetime64("2024-01-01") + rng.integers(0, 365, rows)).astype("datetime64[D]")
    return pa.table(
        {
            "row": pa.array([f"r{number:05d}" for number in range(rows)]),
            "x": pa.array(x, mask=rng.random(rows) < 0.1),
            "z": pa.array(z.astype(np.float32)),
            "town": pa.array(np.array(["Ulm", "Köln", "Bonn", 'Bad "X"'])[town], mask=rng.random(rows) < 0.05),
            "day": pa.array(days),
            "y": pa.array(labels[task]),
        }
    )


def make_target(task: Task = Task.BINARY) -> Target:
    return Target(column="y", task=task, classes=tuple(sorted(CLASSES.get(task, ()))))


def make_recipe(table: pa.Table, target: Target, config: RecipeConfig | None = None) -> Recipe:
    profile = Profile(table.schema)
    profile.update(table.combine_chunks().to_batches()[0])
    visible = {0: (1,), 1: (0,), -1: (0, 1)}
    recipe = Recipe.plan(table.schema, profile, target=target, exclude={"row"}, config=config, visible=visible)
    gathered = recipe.summaries()
    full = table.append_column(TARGET, pa.array(target.encode(table.column("y").combine_chunks())))
    full = full.append_column(FOLD, pa.array((np.arange(len(table)) % 2).astype(np.int8)))
    for summary in gathered.values():
        summary.update(full.combine_chunks().to_batches()[0])
    recipe.fit(gathered)
    return recipe


def make_members(folder: Path, table: pa.Table, recipe: Recipe, target: Target, families=("trees",)) -> list[Member]:
    """A model per family and fold, on one half of the rows each."""
    batch = table.combine_chunks().to_batches()[0]
    folds = (np.arange(len(table)) % 2).astype(np.int8)
    y = target.encode(batch.column("y"))
    X = recipe.transform(batch, folds=folds)
    members = []
    for family in families:
        for fold in (0, 1):
            model = build(family, target, recipe.features, PARAMS[family])
            parts = Table(X, y, None, np.where(folds == fold, TRAIN, VALID).astype(np.int8))
            place = folder / f"{family}-{fold}"
            model.fit(*on_disk(place, parts, recipe.features, model.traits.reads), FitRun(seed=fold))
            members.append(Member(family, model, 0.5 / len(families)))
    return members


def make_parts(folder: Path, task: Task = Task.BINARY, families=("trees",), rows: int = 400) -> dict:
    """Keywords of `write_package`."""
    table, target = make_table(rows, task), make_target(task)
    recipe = make_recipe(table, target)
    return {
        "recipe": recipe,
        "models": make_members(folder, table, recipe, target, families),
        "target": target,
        "schema": table.schema,
        "metrics": {"roc_auc": {"value": np.float64(0.9), "low": 0.8, "high": float("nan")}},
        "lineage": {"data": "abc", "rows": np.int64(rows)},
        "profile_state": {"rows": rows, "histogram": np.arange(5.0)},
        "golden": table.slice(0, 20),
    }


def make_answers(task: Task, rows: int = 300) -> dict:
    """A calibrator and conformal scores, and a target with a decision, as keywords of `write_package`."""
    rng = np.random.default_rng(0)
    target = make_target(task)
    if not task.is_classification:
        return {"conformal": Conformal.fit(target, rng.normal(size=rows), np.zeros(rows), np.arange(rows) % 3)}
    scores = rng.dirichlet(np.ones(target.outputs), rows)
    y = rng.integers(0, target.outputs, rows).astype(np.float64)
    calibrator = Temperature(1.7) if task is Task.BINARY else fit_isotonic(Pairs(y, scores, np.ones(rows)))
    weights = np.arange(1.0, target.outputs + 1)
    return {
        "calibrator": calibrator,
        "conformal": Conformal.fit(target, y, scores, np.arange(rows) % 3),
        "target": replace(target, decision=tuple((weights / weights.sum()).tolist())),
    }


def make_package(folder: Path, task: Task = Task.BINARY, families=("trees",), rows: int = 400, **changes) -> Path:
    write_package(folder / "package", **{**make_parts(folder / "rows", task, families, rows), **changes})
    return folder / "package"
