"""CatBoost: the kit, and what is special: memory, damage, what it needs to be installed."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip("catboost", reason="the extra catboost is not installed")

from shardwise.core.errors import ConfigError, PackageError, TargetError
from shardwise.core.target import Task
from shardwise.models import catboost
from shardwise.models.base import FitRun
from shardwise.models.catboost import CatBoost
from shardwise.models.families import load_model, save_model
from shardwise.testing.models import FEATURES, ModelConformance, on_disk, tiny_table, tiny_target

QUICK: dict[str, Any] = {"n_estimators": 40, "learning_rate": 0.2, "max_depth": 4, "use_encoded": True}


class TestConformance(ModelConformance):
    family: ClassVar[str] = "catboost"
    params: ClassVar[dict[str, Any]] = QUICK
    weight_tolerance = 0.1


def fitted(folder: Path, task: Task, **run: Any) -> CatBoost:
    model = CatBoost(tiny_target(task), FEATURES, **QUICK)
    model.fit(*on_disk(folder, tiny_table(task)), FitRun(**{"seed": 1, **run}))
    return model


def test_rows_that_do_not_fit_are_thinned_and_told(tmp_path: Path) -> None:
    notes: list[str] = []
    model = fitted(tmp_path, Task.BINARY, memory_bytes=2 * 200 * (16 * 5 + 2 * 200), note=notes.append)
    assert "every 2th of 400" in notes[0]
    assert np.isfinite(model.predict(tiny_table(Task.BINARY, 10).X)).all()


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    model = fitted(tmp_path / "rows", Task.BINARY)
    save_model("catboost", model, tmp_path / "model")
    path = tmp_path / "model" / "model.cbm"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(PackageError, match="damaged"):
        load_model(tmp_path / "model")


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted(tmp_path / "rows", Task.BINARY)
    save_model("catboost", model, tmp_path / "model")
    monkeypatch.setattr(catboost, "has_catboost", lambda: False)
    loaded = load_model(tmp_path / "model")
    with pytest.raises(ConfigError, match="not installed") as caught:
        loaded.predict(tiny_table(Task.BINARY, 10).X)
    assert "shardwise[catboost]" in caught.value.hint


def test_negative_counts_are_refused(tmp_path: Path) -> None:
    table = tiny_table(Task.COUNT)
    model = CatBoost(tiny_target(Task.COUNT), FEATURES, **QUICK)
    with pytest.raises(TargetError, match="cannot be negative"):
        model.fit(*on_disk(tmp_path, replace(table, y=table.y - 1)), FitRun(seed=1))


def test_categories_are_learned_as_they_are(tmp_path: Path) -> None:
    table = tiny_table(Task.REGRESSION, 900)
    hidden = np.random.default_rng(0).permutation(4)[np.nan_to_num(table.X[:, 3]).astype(int)]
    rows = on_disk(tmp_path, replace(table, y=hidden.astype(float)))
    model = CatBoost(tiny_target(Task.REGRESSION), FEATURES, **{**QUICK, "n_estimators": 100})
    model.fit(*rows, FitRun(seed=1))
    assert model.importance()["colour"] > 0.9
    fresh = np.zeros((5, 5), np.float32)
    fresh[:, 3] = [0, 99, np.nan, -3, 1]
    answers = model.predict(fresh)
    assert answers[0] == answers[1] == answers[3]  # codes that nobody knows
