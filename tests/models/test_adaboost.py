from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from sklearn.ensemble import AdaBoostClassifier

from shardwise.core.errors import ConfigError
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.target import Task
from shardwise.models.adaboost import AdaBoost
from shardwise.models.base import FitRun
from shardwise.models.families import build
from shardwise.models.losses import task_loss
from shardwise.testing.models import FEATURES, ModelConformance, Table, on_disk, tiny_table, tiny_target


class TestAdaBoost(ModelConformance):
    family = "adaboost"
    params: ClassVar[dict[str, Any]] = {"n_estimators": 60, "min_child_samples": 5}


SIDES = (Feature(name="side", source="side", kind=FeatureKind.NUMBER),)


@pytest.mark.parametrize("weighted", [False, True])
def test_stages_are_those_of_gentle_adaboost(tmp_path: Path, weighted: bool) -> None:
    rng = np.random.default_rng(0)
    side = rng.integers(0, 2, 400)
    y = (rng.random(400) < np.where(side, 0.8, 0.3)).astype(float)
    weight = rng.integers(1, 4, 400).astype(np.float32) if weighted else None
    table = Table(side[:, None].astype(np.float32), y, weight, np.zeros(400, np.int8))
    model = AdaBoost(tiny_target(Task.BINARY), SIDES, num_leaves=2, n_estimators=6, learning_rate=0.5)
    train, valid = on_disk(tmp_path, table, SIDES, reads="bins")
    model.fit(train, valid, FitRun(seed=1))

    w0, signs = np.ones(400) if weight is None else weight.astype(float), 2 * y - 1
    share = np.average(y, weights=w0)
    F = np.full(400, 0.5 * np.log(share / (1 - share)))
    for _ in range(6):
        w = w0 * np.exp(-signs * F)
        F = F + 0.5 * np.array([np.average(signs[side == s], weights=w[side == s]) for s in (0, 1)])[side]
    np.testing.assert_allclose(model.predict(table.X)[:, 1], 1 / (1 + np.exp(-2 * F)), rtol=1e-5)


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS])
def test_as_good_as_sklearn(tmp_path: Path, task: Task) -> None:
    table, fresh = tiny_table(task, 3000), tiny_table(task, 2000, seed=5)
    model = AdaBoost(tiny_target(task), FEATURES)
    model.fit(*on_disk(tmp_path, table, reads="bins"), FitRun(seed=1))
    train = table.folds == 0
    X, X_new = (np.nan_to_num(each.X, nan=-9.0) for each in (table, fresh))
    peer = AdaBoostClassifier(n_estimators=100, random_state=0).fit(X[train], table.y[train])
    losses = [
        task_loss(tiny_target(task), fresh.y, said) for said in (model.predict(fresh.X), peer.predict_proba(X_new))
    ]
    assert losses[0] <= losses[1]


def test_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match="adaboost models do not learn regression"):
        build("adaboost", tiny_target(Task.REGRESSION), FEATURES, {})
