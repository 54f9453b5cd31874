from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, PoissonRegressor, QuantileRegressor, Ridge
from sklearn.preprocessing import OneHotEncoder

from shardwise.core.errors import PackageError, TargetError
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.target import Task
from shardwise.data import rows as rows_module
from shardwise.models import sgd
from shardwise.models.base import FitRun
from shardwise.models.design import Design
from shardwise.models.linear import Linear
from shardwise.models.losses import task_loss
from shardwise.testing.models import FEATURES, ModelConformance, Table, on_disk, tiny_table, tiny_target


class TestLinear(ModelConformance):
    family = "linear"
    params: ClassVar[dict[str, Any]] = {"epochs": 25, "patience": 25}


class TestStreaming(ModelConformance):
    """Data that do not fit in memory come as shuffled batches."""

    family = "linear"
    tasks = (Task.MULTICLASS, Task.COUNT)
    params: ClassVar[dict[str, Any]] = {"epochs": 25, "patience": 25}

    @classmethod
    def run(cls, **settings: Any) -> FitRun:
        return super().run(**{"memory_bytes": 1, **settings})


def fit(folder: Path, task: Task, table: Table | None = None, **params: Any) -> Linear:
    model = Linear(tiny_target(task), FEATURES, **{"epochs": 80, "patience": 80, **params})
    model.fit(*on_disk(folder, table or tiny_table(task)), FitRun(seed=1))
    return model


def columns(table: Table) -> np.ndarray:
    """The design, written out."""
    X = table.X.astype(np.float64)
    X[:, 1] = (np.where(np.isnan(X[:, 1]), 0.1, X[:, 1]) - 0.1) / 0.9
    codes = OneHotEncoder(sparse_output=False).fit_transform(np.nan_to_num(X[:, [3]], nan=-1.0))
    return np.hstack([np.clip(X[:, :2], -4, 4), X[:, [2, 4]], codes])


@pytest.mark.parametrize("task", list(Task))
def test_as_good_as_sklearn(tmp_path: Path, task: Task) -> None:
    table = tiny_table(task, 3000)
    model = fit(tmp_path, task, table, l1=0.0, l2=0.0)
    X, train = columns(table), table.folds == 0
    reference: Any = {
        Task.BINARY: LogisticRegression(C=1e3, max_iter=500),
        Task.MULTICLASS: LogisticRegression(C=1e3, max_iter=500),
        Task.REGRESSION: Ridge(alpha=1e-3),
        Task.COUNT: PoissonRegressor(alpha=1e-6, max_iter=500),
        Task.QUANTILE: QuantileRegressor(quantile=0.8, alpha=0.0),
    }[task]
    reference.fit(X[train], table.y[train])
    theirs = reference.predict_proba(X[~train]) if task.is_classification else reference.predict(X[~train])
    target, y = tiny_target(task), table.y[~train]
    assert task_loss(target, y, model.predict(table.X[~train])) <= 1.01 * task_loss(target, y, theirs)


def test_l1_gives_exact_zeros_and_l2_shrinks(tmp_path: Path) -> None:
    loose = fit(tmp_path, Task.BINARY, l1=0.0, l2=0.0)._weights
    sparse = fit(tmp_path, Task.BINARY, l1=0.05, l2=0.0)._weights
    small = fit(tmp_path, Task.BINARY, l1=0.0, l2=1.0)._weights
    assert loose is not None
    assert sparse is not None
    assert small is not None
    assert (sparse == 0).sum() > (loose == 0).sum()
    assert np.abs(small[:-1]).sum() < 0.5 * np.abs(loose[:-1]).sum()


def test_many_values_are_left_out(tmp_path: Path) -> None:
    importance = fit(tmp_path, Task.BINARY, onehot_limit=3).importance()
    assert importance["colour"] == 0
    assert importance["size"] > 0


@pytest.mark.parametrize("slices", [1, 8])
def test_memory_does_not_change_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slices: int) -> None:
    monkeypatch.setattr(rows_module, "SHUFFLE_ROWS", 512)
    monkeypatch.setattr(sgd, "STREAM_ROWS", 300)
    train, valid = on_disk(tmp_path, tiny_table(Task.BINARY, 3000))
    answers = []
    for memory_bytes in (1, 2**40):
        model = Linear(tiny_target(Task.BINARY), FEATURES, epochs=3, batch_rows=64)
        model.fit(train, valid, FitRun(seed=1, memory_bytes=memory_bytes, slices=slices))
        answers.append(model.predict(tiny_table(Task.BINARY, seed=2).X))
    np.testing.assert_array_equal(*answers)


def test_a_shifted_and_scaled_target_shifts_and_scales_the_prediction(tmp_path: Path) -> None:
    table = tiny_table(Task.REGRESSION)
    plain = fit(tmp_path / "plain", Task.REGRESSION, table).predict(table.X)
    moved = Table(table.X, 1e6 * table.y + 1e9, None, table.folds)
    np.testing.assert_allclose(
        fit(tmp_path / "moved", Task.REGRESSION, moved).predict(table.X), 1e6 * plain + 1e9, rtol=1e-4
    )


def test_negative_counts_are_refused(tmp_path: Path) -> None:
    table = tiny_table(Task.REGRESSION)
    with pytest.raises(TargetError, match="negative"):
        fit(tmp_path, Task.COUNT, replace(table, y=-table.y))


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    model = fit(tmp_path / "rows", Task.BINARY)
    model._weights = np.zeros((3, 1))
    model.save(tmp_path / "model")
    with pytest.raises(PackageError, match="shape"):
        Linear.load(tmp_path / "model")


def test_scores_of_the_design_equal_the_written_out_product() -> None:
    table = tiny_table(Task.BINARY)
    design = Design(FEATURES, 100)
    weights = np.random.default_rng(0).normal(size=(design.width + 1, 2))
    written = columns(table)  # one-hot columns: missing first, then the codes
    order = [0, 1, 2, 3, 8, 4, 5, 6, 7]
    expected = written @ weights[:-1][order] + weights[-1]
    np.testing.assert_allclose(design.scores(table.X, weights), expected, rtol=1e-6, atol=1e-6)


def test_unbounded_and_degenerate_features() -> None:
    features = [Feature(name="a", source="a", kind=FeatureKind.NUMBER, scale=0.0)]
    scores = Design(features, 10).scores(np.array([[np.inf], [np.nan], [2.0]], np.float32), np.array([[1.0], [0.5]]))
    np.testing.assert_array_equal(scores[:, 0], [0.5, 0.5, 2.5])


class Killed(BaseException):
    """In the place of a signal."""


@pytest.mark.parametrize("slices", [1, 8])
@pytest.mark.parametrize("memory_bytes", [2**40, 40_000], ids=["in memory", "streamed"])
def test_a_killed_fit_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory_bytes: int, slices: int
) -> None:
    """The one that goes on has all rows in memory, whatever the one before had."""
    monkeypatch.setattr(sgd, "ROUND_ROWS", 500)  # in the middle of an epoch
    monkeypatch.setattr(sgd, "KEEP_S", 0.0)
    rows = on_disk(tmp_path / "rows", tiny_table(Task.BINARY, 3000))
    table = tiny_table(Task.BINARY, 100, seed=5)

    def fit_until(last: int, folder: str, memory_bytes: int) -> tuple[Linear, list[tuple[int, float]]]:
        curve: list[tuple[int, float]] = []

        def report(step: int, loss: float) -> bool:
            if step == last:
                raise Killed
            curve.append((step, loss))
            return True

        model = Linear(tiny_target(Task.BINARY), FEATURES, epochs=5, batch_rows=64)
        settings = {"report": report, "checkpoint": tmp_path / folder, "memory_bytes": memory_bytes, "slices": slices}
        model.fit(*rows, FitRun(seed=1, **settings))  # type: ignore[arg-type]
        return model, curve

    whole, curve = fit_until(0, "a", memory_bytes)
    for last in (4, 9):
        with pytest.raises(Killed):
            fit_until(last, "b", memory_bytes)
    again, curve_again = fit_until(0, "b", 2**40)
    assert curve_again == curve
    np.testing.assert_array_equal(again.predict(table.X), whole.predict(table.X))
    assert not (tmp_path / "b").exists()
