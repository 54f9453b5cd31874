"""Of many features trees look at those that tell most by themselves."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.target import Task
from shardwise.data.rows import BinnedRows
from shardwise.models.base import FitRun
from shardwise.models.screening import left_out
from shardwise.models.trees import Trees
from shardwise.testing.models import TRAIN, VALID, Table, on_disk, tiny_target

COLUMNS, TELLING = 60, (3, 17, 41)
CODE = 58


def rows_of(folder: Path, task: Task, seed: int = 0) -> tuple[BinnedRows, BinnedRows, Table]:
    """Three of 60 columns tell: a line, a bend, and which cells are missing; one is a category."""
    rng = np.random.default_rng(seed)
    X = np.asfortranarray(rng.normal(size=(900, COLUMNS)).astype(np.float32))
    X[:, CODE] = rng.integers(0, 5, len(X))
    missing = rng.random(len(X)) < 0.3
    X[missing, 41] = np.nan
    score = X[:, 3] + 1.5 * np.abs(X[:, 17]) + 2.0 * missing
    y = score if task is Task.REGRESSION else np.digitize(score, [1.0] if task is Task.BINARY else [0.8, 2.0])
    folds = np.where(np.arange(len(X)) % 3 == 0, VALID, TRAIN).astype(np.int8)
    table = Table(X=X, y=y.astype(np.float64), weight=None, folds=folds)
    features = [Feature(name=f"x{i}", source=f"x{i}", kind=FeatureKind.NUMBER) for i in range(COLUMNS)]
    features[CODE] = replace(features[CODE], kind=FeatureKind.CODE, cardinality=5)
    train, valid = on_disk(folder, table, features, "bins")
    return train, valid, table


@pytest.mark.parametrize("task", [Task.REGRESSION, Task.BINARY, Task.MULTICLASS])
def test_the_strongest_features_stay_and_so_do_categories(tmp_path: Path, task: Task) -> None:
    train, _, _ = rows_of(tmp_path, task)
    out = left_out(train, tiny_target(task), 5)
    assert out == sorted(out)
    assert len(out) == COLUMNS - 1 - 5
    assert not set(out) & {*TELLING, CODE}
    assert left_out(train, tiny_target(task), 0) == []
    assert left_out(train, tiny_target(task), COLUMNS) == []


def test_trees_split_on_no_feature_that_is_left_out_and_learn_as_well(tmp_path: Path) -> None:
    train, valid, table = rows_of(tmp_path, Task.REGRESSION)
    out = left_out(train, tiny_target(Task.REGRESSION), 5)
    losses = {}
    for most in (0, 5):
        model = Trees(tiny_target(Task.REGRESSION), train.features, num_leaves=8, screen=most)
        model.fit(train, valid, FitRun(seed=1))
        used = {name for name, gain in model.importance().items() if gain > 0}
        assert bool(used & {f"x{i}" for i in out}) == (most == 0)
        held = table.folds == VALID
        answers = model.predict(table.X[held])
        losses[most] = float(np.sqrt(np.mean((answers - table.y[held]) ** 2)))
    assert losses[5] < losses[0]
