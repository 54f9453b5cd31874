import math
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import lightgbm as lgb
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from shardwise.core.errors import ConfigError
from shardwise.core.target import Task
from shardwise.models import trees_scores
from shardwise.models.base import FitRun
from shardwise.models.families import build
from shardwise.models.forest import Forest, usual_share
from shardwise.models.losses import task_loss
from shardwise.models.trees_loss import OwnMetrics
from shardwise.stats.anomalies import Anomaly
from shardwise.testing.models import FEATURES, ModelConformance, Table, on_disk, tiny_table, tiny_target


class TestForest(ModelConformance):
    family = "forest"
    keeps_best = False
    params: ClassVar[dict[str, Any]] = {"n_estimators": 24, "num_leaves": 32}


class TestExtraTrees(ModelConformance):
    family = "forest"
    tasks = (Task.MULTICLASS, Task.REGRESSION)
    keeps_best = False
    params: ClassVar[dict[str, Any]] = {
        "n_estimators": 24, "num_leaves": 32, "extra_trees": True, "subsample": 1.0, "max_features": 1.0,
    }  # fmt: skip


def fit(folder: Path, task: Task, table: Table | None = None, **params: Any) -> Forest:
    model = Forest(tiny_target(task), FEATURES, **{"n_estimators": 20, "num_leaves": 128, **params})
    model.fit(*on_disk(folder, table or tiny_table(task), reads="bins"), FitRun(seed=1))
    return model


def leaves(model: Forest, X: np.ndarray) -> np.ndarray:
    """Number of the leaf of each row in each tree, `(rows, trees)`."""
    booster = model._trees._booster
    assert isinstance(booster, lgb.Booster)
    return np.asarray(booster.predict(X, pred_leaf=True)).reshape(len(X), -1).astype(int)


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS, Task.REGRESSION, Task.COUNT])
def test_a_tree_of_all_rows_answers_with_the_mean_of_a_leaf(tmp_path: Path, task: Task) -> None:
    table = tiny_table(task)
    model = fit(tmp_path, task, table, n_estimators=1, subsample=1.0, reg_lambda=0.0, num_leaves=8, max_features=1.0)
    train, wanted = table.folds == 0, table.y[:, None]
    if task.is_classification:
        wanted = wanted == (np.arange(3) if task is Task.MULTICLASS else np.array([1]))
    own = leaves(model, table.X)
    means = np.stack([
        np.array([wanted[train & (place == leaf), k].mean() for leaf in range(place.max() + 1)])[place]
        for k, place in enumerate(own.T)
    ], axis=1)  # fmt: skip
    found = model.predict(table.X)
    expected = means / means.sum(axis=1, keepdims=True) if task is Task.MULTICLASS else means
    found = found[:, None] if found.ndim == 1 else found[:, 1:] if task is Task.BINARY else found
    np.testing.assert_allclose(found[train], expected[train], rtol=1e-5, atol=1e-5)


def test_a_forest_is_the_mean_of_its_trees(tmp_path: Path) -> None:
    table = tiny_table(Task.REGRESSION)
    model = fit(tmp_path, Task.REGRESSION, table, early_stopping_rounds=20)
    booster = model._trees._booster
    assert booster is not None
    scale, sums = model._trees._scale, np.asarray(booster.predict(table.X))
    trees = np.stack([
        np.asarray(booster.predict(table.X, start_iteration=i, num_iteration=1)) for i in range(model.rounds)
    ])  # fmt: skip
    np.testing.assert_allclose(trees.sum(axis=0), sums, rtol=1e-9)
    np.testing.assert_allclose(model.predict(table.X), scale.invert(sums), rtol=1e-12)
    assert np.ptp(trees[1:], axis=1).max() < 8 * np.ptp(trees[1:], axis=1).min()  # none counts more than the others


def test_reg_lambda_draws_leaves_to_the_mean_of_all(tmp_path: Path) -> None:
    table = tiny_table(Task.BINARY)
    spread = [fit(tmp_path / str(i), Task.BINARY, table, reg_lambda=x).predict(table.X)[:, 1].std()
              for i, x in enumerate((0.0, 10.0, 1e6))]  # fmt: skip
    assert spread[0] > spread[1] > spread[2]
    assert spread[2] < 0.01


@pytest.mark.parametrize("task", [Task.BINARY, Task.REGRESSION])
def test_as_good_as_sklearn(tmp_path: Path, task: Task) -> None:
    table, fresh = tiny_table(task, 3000), tiny_table(task, 2000, seed=5)
    model = fit(tmp_path, task, table, n_estimators=80, max_features=0.6, min_child_samples=2, num_leaves=512)
    train = table.folds == 0
    X, X_new = (np.nan_to_num(each.X, nan=-9.0) for each in (table, fresh))
    kind = RandomForestClassifier if task.is_classification else RandomForestRegressor
    peer = kind(80, random_state=0, min_samples_leaf=2, max_features=0.6, n_jobs=1).fit(X[train], table.y[train])
    theirs = peer.predict_proba(X_new) if task.is_classification else peer.predict(X_new)
    losses = [task_loss(tiny_target(task), fresh.y, said) for said in (model.predict(fresh.X), theirs)]
    assert losses[0] <= 1.04 * losses[1]


def test_many_trees_come_in_blocks_of_the_same_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tiny_table(Task.MULTICLASS)
    model = fit(tmp_path, Task.MULTICLASS, table, num_leaves=16)
    whole = model.predict(table.X)
    monkeypatch.setattr(trees_scores, "BLOCK_LEAVES", 16 * 3 * 3)
    model.save(tmp_path / "model")
    blocks = Forest.load(tmp_path / "model")
    np.testing.assert_allclose(blocks.predict(table.X), whole, rtol=1e-12)
    alone = np.concatenate([blocks.predict(table.X[i : i + 1]) for i in range(20)])
    np.testing.assert_array_equal(alone, blocks.predict(table.X)[:20])


def test_quantiles_are_refused() -> None:
    with pytest.raises(ConfigError, match="forest models do not learn quantile"):
        build("forest", tiny_target(Task.QUANTILE), FEATURES, {})


def test_usual_columns() -> None:
    assert usual_share(Task.REGRESSION, FEATURES) == usual_share(Task.MULTICLASS, FEATURES) == 0.5
    assert usual_share(Task.BINARY, FEATURES) == 3 / 5
    assert usual_share(Task.BINARY, FEATURES[:1]) == 1.0


@pytest.mark.parametrize("task", [Task.COUNT, Task.MULTICLASS])
def test_few_trees_that_are_far_worse_than_a_constant_are_the_first_of_many(tmp_path: Path, task: Task) -> None:
    rng, table = np.random.default_rng(0), tiny_table(task, 1500)
    y = rng.poisson(0.03, 1500) if task is Task.COUNT else rng.integers(0, 30, 1500)
    losses: list[float] = []
    noticed: list[Anomaly] = []
    target = replace(tiny_target(task), classes=() if task is Task.COUNT else tuple(range(30)))
    model = Forest(target, FEATURES, n_estimators=30)
    run = FitRun(seed=1, report=lambda _step, loss: losses.append(loss) or True, notice=noticed.append)
    model.fit(*on_disk(tmp_path, replace(table, y=y.astype(float)), reads="bins"), run)
    assert not noticed
    assert model.rounds == len(losses) == 30
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(("last", "trees"), [(1e9, 12), (math.inf, 5)])
def test_only_a_loss_that_is_not_finite_ends_a_forest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: float, trees: int
) -> None:
    told: list[float] = []

    def losses(_self: OwnMetrics, _booster: lgb.Booster) -> tuple[float, float]:
        told.append(1.0 if len(told) < 4 else last)
        return told[-1], told[-1]

    monkeypatch.setattr(OwnMetrics, "__call__", losses)
    fit(tmp_path, Task.REGRESSION, n_estimators=12)
    assert len(told) == trees
