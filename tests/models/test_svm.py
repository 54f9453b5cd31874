from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from sklearn.svm import SVC, LinearSVC, LinearSVR

from shardwise.core.errors import ConfigError, PackageError
from shardwise.core.target import Task
from shardwise.models import sgd
from shardwise.models.base import FitRun
from shardwise.models.losses import task_loss
from shardwise.models.svm import SVM
from shardwise.testing.models import FEATURES, ModelConformance, Table, on_disk, tiny_table, tiny_target


class TestLinearSVM(ModelConformance):
    family = "svm"
    params: ClassVar[dict[str, Any]] = {"epochs": 15, "patience": 15}


class TestKernelSVM(ModelConformance):
    family = "svm"
    params: ClassVar[dict[str, Any]] = {"epochs": 12, "patience": 12, "kernel": "rbf", "n_components": 64}


def fit(folder: Path, task: Task, table: Table | None = None, **params: Any) -> SVM:
    model = SVM(tiny_target(task), FEATURES, **{"epochs": 40, "patience": 40, **params})
    model.fit(*on_disk(folder, table or tiny_table(task)), FitRun(seed=1))
    return model


def columns(table: Table) -> np.ndarray:
    """Standardised numbers, and a column for each colour."""
    X = table.X.astype(np.float64)
    X[:, 1] = (np.where(np.isnan(X[:, 1]), 0.1, X[:, 1]) - 0.1) / 0.9
    return np.hstack([np.clip(X[:, :2], -4, 4), X[:, [2, 4]], *(X[:, [3]] == colour for colour in range(4))])


@pytest.mark.parametrize("loss", ["squared_hinge", "hinge"])
def test_linear_classes_as_good_as_sklearn(tmp_path: Path, loss: str) -> None:
    table = tiny_table(Task.BINARY, 2000)
    model = fit(tmp_path, Task.BINARY, table, loss=loss)
    X, train = columns(table), table.folds == 0
    peer = LinearSVC(loss=loss, C=0.05, max_iter=20_000, random_state=0).fit(X[train], table.y[train])
    right = [(said == table.y[~train]).mean() for said in (
        model.predict(table.X[~train])[:, 1] > 0.5, peer.predict(X[~train]))]  # fmt: skip
    assert right[0] >= right[1] - 0.005


@pytest.mark.parametrize("loss", ["squared_epsilon_insensitive", "epsilon_insensitive"])
def test_linear_numbers_as_good_as_sklearn(tmp_path: Path, loss: str) -> None:
    table = tiny_table(Task.REGRESSION, 2000)
    model = fit(tmp_path, Task.REGRESSION, table, loss=loss)
    X, train = columns(table), table.folds == 0
    peer = LinearSVR(loss=loss, epsilon=1.0, max_iter=20_000, random_state=0).fit(X[train], table.y[train])
    target, y = tiny_target(Task.REGRESSION), table.y[~train]
    ours, theirs = (task_loss(target, y, p) for p in (model.predict(table.X[~train]), peer.predict(X[~train])))
    assert ours <= 1.02 * theirs


def test_a_kernel_learns_what_no_plane_parts(tmp_path: Path) -> None:
    table = tiny_table(Task.BINARY, 2000)
    table = Table(table.X, (table.X[:, 0] ** 2 + table.X[:, 4] ** 2 > 1.4).astype(float), None, table.folds)
    X, train = columns(table), table.folds == 0
    peer = SVC(gamma=0.5 / 5).fit(X[train], table.y[train])
    models = [
        fit(tmp_path / kernel, Task.BINARY, table, kernel=kernel, n_components=256) for kernel in ("linear", "rbf")
    ]
    right = [((m.predict(table.X[~train])[:, 1] > 0.5) == table.y[~train]).mean() for m in models]
    assert right[0] < 0.7
    assert right[1] >= peer.score(X[~train], table.y[~train]) - 0.02


def test_probabilities_are_those_of_the_labels(tmp_path: Path) -> None:
    table, fresh = tiny_table(Task.BINARY, 3000), tiny_table(Task.BINARY, 4000, seed=5)
    said = fit(tmp_path, Task.BINARY, table).predict(fresh.X)[:, 1]
    for low, high in ((0.05, 0.3), (0.3, 0.7), (0.7, 0.95)):
        some = (said > low) & (said <= high)
        assert abs(said[some].mean() - fresh.y[some].mean()) < 0.07


def test_a_loss_of_another_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="epsilon_insensitive"):
        SVM(tiny_target(Task.BINARY), FEATURES, loss="epsilon_insensitive")


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    model = fit(tmp_path / "rows", Task.BINARY, epochs=3)
    model._weights = np.zeros((3, 1))
    model.save(tmp_path / "model")
    with pytest.raises(PackageError, match="shape"):
        SVM.load(tmp_path / "model")


class Killed(BaseException):
    """In the place of a signal."""


def test_a_killed_fit_goes_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sgd, "KEEP_S", 0.0)
    rows = on_disk(tmp_path / "rows", tiny_table(Task.BINARY, 1500))
    X = tiny_table(Task.BINARY, 100, seed=5).X

    def fit_until(last: int, folder: str) -> np.ndarray:
        def report(step: int, _loss: float) -> bool:
            if step == last:
                raise Killed
            return True

        model = SVM(tiny_target(Task.BINARY), FEATURES, epochs=6, kernel="rbf", n_components=64)
        model.fit(*rows, FitRun(seed=1, report=report, checkpoint=tmp_path / folder, memory_bytes=40_000))
        return model.predict(X)

    whole = fit_until(0, "a")
    with pytest.raises(Killed):
        fit_until(3, "b")
    assert (tmp_path / "b").exists()
    np.testing.assert_array_equal(fit_until(0, "b"), whole)
