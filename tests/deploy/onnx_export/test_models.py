"""Every family that is written, for every task that it learns, against its own `predict`."""

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

from tests.deploy.onnx_export.graphs import run

from shardwise.core.errors import ConfigError
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.target import Task
from shardwise.deploy.onnx_export.graph import Graph
from shardwise.deploy.onnx_export.models import prediction
from shardwise.models.base import FitRun
from shardwise.models.families import FAMILIES, build, save_model
from shardwise.models.neural.shape import first_weights
from shardwise.testing.models import FEATURES, on_disk, tiny_table, tiny_target

CLOSE = 1e-13  # of the greatest answer
SMALL = {
    "trees": {"n_estimators": 12, "num_leaves": 15, "min_child_samples": 5}, "forest": {"n_estimators": 8},
    "adaboost": {"n_estimators": 8}, "linear": {"epochs": 2}, "svm": {"kernel": "linear", "epochs": 2},
    "neural": {"width": 8, "members": 2, "depth": 2, "knots": 4}, "baseline": {},
}  # fmt: skip
CASES = [(family, task) for family in SMALL for task in Task if task in FAMILIES[family].traits.tasks]


def matrix(rows: int) -> np.ndarray:
    """Features of rows that no model has seen: missing numbers and categories, extremes."""
    X = tiny_table(Task.BINARY, rows, seed=9).X.copy()
    X[::7, 0], X[::11, 3], X[5, 1], X[6, 1] = np.nan, np.nan, 1e30, -1e30
    return X


def fitted(family: str, task: Task, folder):
    target = tiny_target(task)
    model = build(family, target, FEATURES, SMALL[family])
    if family == "neural":
        model._weights = drawn(model.shape)
    else:
        model.fit(*on_disk(folder / "rows", tiny_table(task, 300), FEATURES, model.traits.reads), FitRun(seed=1))
    save_model(family, model, folder / "model")
    return model


def drawn(shape):
    """Weights of a network that has learned something: PyTorch is not needed for what is saved."""
    rng = np.random.default_rng(3)
    knots = np.sort(rng.normal(size=(shape.numbers, shape.knots + 1)), axis=1)
    weights = first_weights(shape, knots, np.full(shape.scores, 0.3), seed=1)
    fixed = ("knots", "slopes")
    return {name: array if name in fixed else array + rng.normal(0, 0.3, array.shape).astype(np.float32)
            for name, array in weights.items()}  # fmt: skip


def answers(folder, X: np.ndarray) -> np.ndarray:
    graph = Graph(["X"])
    return run(graph, {"X": np.ascontiguousarray(X)}, prediction(graph, "X", folder / "model"))


@pytest.mark.parametrize(("family", "task"), CASES)
def test_the_same_answers(family, task, tmp_path):
    model, X = fitted(family, task, tmp_path), matrix(2000)
    expected = model.predict(X)
    found = answers(tmp_path, X).reshape(expected.shape)
    assert np.abs(found - expected).max() <= CLOSE * np.abs(expected).max()


@pytest.mark.parametrize("use_copies", [False, True])
def test_a_network_without_the_categories_of_few_numbers(use_copies, tmp_path):
    features = (*FEATURES[:3], Feature(name="size:category", source="size", kind=FeatureKind.CODE, cardinality=4),
                FEATURES[4])  # fmt: skip
    model = build("neural", tiny_target(Task.BINARY), features, {**SMALL["neural"], "use_copies": use_copies})
    model._weights, X = drawn(model.shape), matrix(200)
    save_model("neural", model, tmp_path / "model")
    expected = model.predict(X)
    assert np.abs(answers(tmp_path, X).reshape(expected.shape) - expected).max() <= CLOSE


def test_models_that_are_not_written_are_named(tmp_path):
    from shardwise.models import svm

    model = build("svm", tiny_target(Task.BINARY), FEATURES, {"kernel": "rbf", "n_components": 8, "epochs": 1})
    model.fit(*on_disk(tmp_path / "rows", tiny_table(Task.BINARY, 200), FEATURES, svm.SVM.traits.reads), FitRun(seed=0))
    save_model("svm", model, tmp_path / "model")
    with pytest.raises(ConfigError, match="'svm' with a kernel"):
        answers(tmp_path, matrix(20))
    header = tmp_path / "model" / "model.json"
    header.write_text(header.read_text().replace('"family": "svm"', '"family": "catboost"'))
    with pytest.raises(ConfigError, match="family 'catboost' cannot be exported"):
        answers(tmp_path, matrix(20))
