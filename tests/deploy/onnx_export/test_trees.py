"""Trees in a graph take the branches of LightGBM, on rows that lie on the thresholds."""

import lightgbm as lgb
import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

from tests.deploy.onnx_export.graphs import run

from shardwise.core.errors import ConfigError
from shardwise.deploy.onnx_export.graph import Graph
from shardwise.deploy.onnx_export.trees import ensemble
from shardwise.models.trees_parsed import parse_trees
from shardwise.models.trees_text import ModelText


def scores(booster: lgb.Booster, X: np.ndarray, outputs: int = 1) -> np.ndarray:
    graph = Graph(["X"])
    return run(graph, {"X": X}, ensemble(graph, "X", ModelText.of(booster).trees, outputs))


def trained(missing: bool, rounds: int = 20, **params) -> tuple[lgb.Booster, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(800, 4)).astype(np.float32)
    X[:, 3] = rng.integers(0, 90, 800)
    if missing:
        X[rng.random(X.shape) < 0.1] = np.nan
    y = (np.nan_to_num(X[:, 0]) + (np.nan_to_num(X[:, 3]) % 7 > 3) > 0.3) + (X[:, 1] > 0.5)
    data = lgb.Dataset(X, y, categorical_feature=[3], params={"verbosity": -1})
    settings = {"verbosity": -1, "num_leaves": 15, "min_data_in_leaf": 5, "cat_smooth": 1, "num_threads": 1, **params}
    return lgb.train(settings, data, rounds), X


def on_the_edges(booster: lgb.Booster, X: np.ndarray) -> np.ndarray:
    """Rows whose numbers are thresholds of the trees, the float32 numbers beside them, NaN, and codes never seen."""
    bounds = [[] for _ in range(X.shape[1])]
    for tree in parse_trees(ModelText.of(booster).trees):
        for place, bound, decision in zip(tree.feature, tree.threshold, tree.decision, strict=True):
            if not decision & 1:
                single = np.float32(bound)
                bounds[place] += [single, np.nextafter(single, np.float32(9e9)), np.nextafter(single, np.float32(-9e9))]
    rng = np.random.default_rng(2)
    rows = np.stack([rng.choice([*each, np.nan, 0.0, 1e38], 3000) for each in bounds], axis=1).astype(np.float32)
    rows[:, 3] = rng.integers(0, 200, len(rows))
    rows[::9, 3] = np.nan
    return rows


@pytest.mark.parametrize("missing", [True, False])
@pytest.mark.parametrize("outputs", [1, 3])
def test_every_row_takes_its_branches(missing, outputs):
    booster, X = trained(missing, objective="multiclass" if outputs > 1 else "regression", num_class=outputs)
    rows = on_the_edges(booster, X)
    expected = booster.predict(rows, raw_score=True).reshape(len(rows), outputs)
    found = scores(booster, rows, outputs)
    assert len(np.unique(expected)) > 100
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)  # another branch would differ by far more


def test_trees_of_one_leaf():
    booster, X = trained(True, rounds=2, min_data_in_leaf=1000)
    np.testing.assert_allclose(scores(booster, X)[:, 0], booster.predict(X), rtol=0, atol=1e-13)


def test_zeros_that_are_missing_are_refused():
    booster, X = trained(False, zero_as_missing=True)
    assert any(((tree.decision >> 2) & 3 == 1).any() for tree in parse_trees(ModelText.of(booster).trees))
    with pytest.raises(ConfigError, match="counts zeros as missing"):
        scores(booster, X)
