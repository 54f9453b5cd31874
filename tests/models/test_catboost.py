"""CatBoost: the kit, and what is special: memory, damage, what it needs to be installed."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip("catboost", reason="the extra catboost is not installed")

from shardwise.core.errors import ConfigError, PackageError, TargetError
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.target import Task
from shardwise.models import catboost
from shardwise.models.base import FitRun
from shardwise.models.catboost import CatBoost
from shardwise.models.families import load_model, save_model
from shardwise.models.losses import task_loss
from shardwise.stats.anomalies import Anomaly
from shardwise.testing.models import FEATURES, TRAIN, VALID, ModelConformance, on_disk, tiny_table, tiny_target

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
    model = fitted(tmp_path, Task.BINARY, memory_bytes=2 * 300 * (16 * 5 + 2 * 200), note=notes.append)
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


@pytest.mark.parametrize("mean", [0.02, 1.0, 1000.0, math.exp(20)])
def test_counts_of_any_size_are_learned(tmp_path: Path, mean: float) -> None:
    rng, table = np.random.default_rng(0), tiny_table(Task.COUNT, 3000)
    rate = np.exp(np.clip(2.0 * table.X[:, 0], -6.0, 3.0))
    rate *= mean / rate.mean()
    table = replace(table, y=rng.poisson(rate).astype(float))
    losses: list[float] = []
    noticed: list[Anomaly] = []
    model = CatBoost(tiny_target(Task.COUNT), FEATURES, **{**QUICK, "n_estimators": 100})
    report = lambda _step, loss: losses.append(loss) or True  # noqa: E731
    model.fit(*on_disk(tmp_path / "rows", table), FitRun(seed=1, report=report, notice=noticed.append))
    assert not noticed
    valid, target = table.folds == VALID, tiny_target(Task.COUNT)
    y, said = table.y[valid], model.predict(table.X[valid])
    constant = task_loss(target, y, np.full(len(y), table.y[~valid].mean()))
    assert task_loss(target, y, said) == pytest.approx(min(losses), rel=1e-4)
    assert min(losses) < 0.85 * constant
    save_model("catboost", model, tmp_path / "model")
    np.testing.assert_array_equal(load_model(tmp_path / "model").predict(table.X[valid]), said)


@pytest.mark.parametrize("source", ["shop", "colour"])
def test_what_is_encoded_is_read_where_there_is_no_category_of_it(tmp_path: Path, source: str) -> None:
    features = [replace(feature, source=source) if feature.name == "shop" else feature for feature in FEATURES]
    model = CatBoost(tiny_target(Task.BINARY), features, **{**QUICK, "use_encoded": False})
    model.fit(*on_disk(tmp_path / "rows", tiny_table(Task.BINARY)), FitRun(seed=1))
    assert (model.importance()["shop"] > 0) == (source == "shop")
    save_model("catboost", model, tmp_path / "model")
    X = tiny_table(Task.BINARY, 50).X
    np.testing.assert_array_equal(load_model(tmp_path / "model").predict(X), model.predict(X))


def test_older_packages_with_categories_read_nothing_that_was_encoded(tmp_path: Path) -> None:
    features = [replace(feature, source="colour") if feature.name == "shop" else feature for feature in FEATURES]
    model = CatBoost(tiny_target(Task.BINARY), features, **{**QUICK, "use_encoded": False})
    model.fit(*on_disk(tmp_path / "rows", tiny_table(Task.BINARY)), FitRun(seed=1))
    model.features = FEATURES  # of another column, which was left out as well
    save_model("catboost", model, tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    content = json.loads(path.read_text())
    assert content.get("extra", content).pop("numbers") == [0, 1, 2]
    path.write_text(json.dumps(content))
    X = tiny_table(Task.BINARY, 50).X
    np.testing.assert_array_equal(load_model(tmp_path / "model").predict(X), model.predict(X))


def test_counts_of_older_packages_begin_with_one(tmp_path: Path) -> None:
    model = fitted(tmp_path / "rows", Task.COUNT)
    save_model("catboost", model, tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    content = json.loads(path.read_text())
    start = content["extra"].pop("start") if "extra" in content else content.pop("start")
    path.write_text(json.dumps(content))
    X = tiny_table(Task.COUNT, 50).X
    np.testing.assert_allclose(load_model(tmp_path / "model").predict(X) * math.exp(start), model.predict(X))


@pytest.mark.parametrize("task", [Task.BINARY, Task.REGRESSION, Task.COUNT, Task.QUANTILE])
def test_training_rows_of_one_label_give_the_constant(tmp_path: Path, task: Task) -> None:
    table = tiny_table(task)
    table = replace(table, y=np.where(table.folds == TRAIN, 1.0, table.y))
    model = CatBoost(tiny_target(task), FEATURES, **QUICK)
    model.fit(*on_disk(tmp_path, table), FitRun(seed=1))
    expected = [0.0, 1.0] if task is Task.BINARY else 1.0
    assert (model.predict(table.X) == expected).all()


def test_categories_of_few_numbers_may_be_left_out() -> None:
    size = Feature(name="size", source="size", kind=FeatureKind.NUMBER)
    twice = Feature(name="size:category", source="size", kind=FeatureKind.CODE, cardinality=4)
    for use_copies, columns in ((True, 2), (False, 1)):
        model = CatBoost(tiny_target(Task.REGRESSION), (size, twice), use_copies=use_copies)
        assert len(model._numbers) + len(model._codes) == columns


@pytest.mark.parametrize(("task", "columns"), [(Task.MULTICLASS, 1), (Task.BINARY, 2), (Task.REGRESSION, 2)])
def test_several_classes_do_without_categories_of_few_numbers(task: Task, columns: int) -> None:
    def read(model: CatBoost) -> int:
        return len(model._numbers) + len(model._codes)

    size = Feature(name="size", source="size", kind=FeatureKind.NUMBER)
    twice = Feature(name="size:category", source="size", kind=FeatureKind.CODE, cardinality=4)
    assert read(CatBoost(tiny_target(task), (size, twice))) == columns
    assert read(CatBoost(tiny_target(task), (size, twice), use_copies=True)) == 2


def test_a_package_from_before_reads_what_it_has_learned(tmp_path: Path) -> None:
    save_model("catboost", fitted(tmp_path / "rows", Task.MULTICLASS), tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    content = json.loads(path.read_text())
    del content["params"]["use_copies"]
    path.write_text(json.dumps(content))
    loaded = load_model(tmp_path / "model")
    assert isinstance(loaded, CatBoost)
    assert loaded.params.use_copies is True
