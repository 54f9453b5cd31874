"""Links, blends, calibration and decisions as graphs, against their NumPy."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

from tests.deploy.onnx_export.graphs import run

from shardwise.core.target import Target, Task
from shardwise.deploy.onnx_export import answers
from shardwise.deploy.onnx_export.graph import Graph
from shardwise.ensemble.combine import MeanCombiner
from shardwise.ensemble.score_trees import ScoreTrees
from shardwise.ensemble.stack import Stack
from shardwise.models.links import link
from shardwise.stats.calibrators import Isotonic, Temperature

OUTPUTS = {Task.BINARY: 2, Task.MULTICLASS: 4}


def predictions(task: Task, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if task.is_classification:
        found = rng.dirichlet(np.full(OUTPUTS[task], 0.3), 500)
        found[0] = np.eye(OUTPUTS[task])[0]
        return found
    return rng.gamma(2.0, size=(500, 1)) * (rng.random((500, 1)) > 0.02)


def trees(columns: int) -> ScoreTrees:
    """Thirty on the scores of two groups, one of them without its last split."""
    rng = np.random.default_rng(7)
    bounds = rng.normal(size=(30, 3))
    bounds[4, 2] = np.inf
    return ScoreTrees(
        columns=tuple(number % columns for number in range(30)),
        features=tuple(map(tuple, rng.integers(0, 2 * columns, (30, 3)).tolist())),
        bounds=tuple(map(tuple, bounds.tolist())), values=tuple(map(tuple, rng.normal(size=(30, 8)).tolist())),
    )  # fmt: skip


@pytest.mark.parametrize("task", Task)
def test_a_mean_and_a_stack(task):
    members = [predictions(task, seed) for seed in range(3)]
    bias = tuple(0.1 * k for k in range(4 if task is Task.MULTICLASS else 1))
    stack = Stack(task, slopes=(0.7, 0.5), bias=bias, groups=(0, 0, 1))
    shaped = members if task.is_classification else [each[:, 0] for each in members]
    for combiner in (MeanCombiner([3, 1, 2]), stack, replace(stack, trees=trees(len(bias)))):
        graph = Graph(["a", "b", "c"])
        output = answers.combined(graph, ["a", "b", "c"], combiner, task)
        expected = combiner.combine(shaped)
        found = run(graph, dict(zip("abc", members, strict=True)), output).reshape(expected.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("task", Task)
def test_links(task):
    scores = np.random.default_rng(0).normal(size=(300, 4 if task is Task.MULTICLASS else 1)) * 20
    graph = Graph(["s"])
    expected = link(task, scores)
    found = run(graph, {"s": scores}, answers.link(graph, task, "s")).reshape(expected.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


KNOTS = np.array([0.0, 0.2, 0.2, 0.7, 0.9])
HEIGHTS = np.array([0.05, 0.1, 0.3, 0.3, 0.95])


@pytest.mark.parametrize(
    ("task", "calibrator"),
    [
        (Task.BINARY, Temperature(1.7)), (Task.MULTICLASS, Temperature(0.6)),
        (Task.BINARY, Isotonic([KNOTS], [HEIGHTS])),
        (Task.MULTICLASS, Isotonic([KNOTS, KNOTS[:2], KNOTS[:1], KNOTS[2:]],
                                   [HEIGHTS, HEIGHTS[:2], HEIGHTS[:1], HEIGHTS[2:]])),
    ],
)  # fmt: skip
def test_calibration(task, calibrator):
    given = predictions(task, 4)
    given[1, :2] = [1 - 0.2, 0.2]  # on a knot
    graph = Graph(["p"])
    found = run(graph, {"p": given}, answers.calibrated(graph, "p", calibrator))
    np.testing.assert_allclose(found, calibrator.apply(given), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("classes", [("no", "yes"), (False, True), (3, 7), (0.5, 1.0)])
@pytest.mark.parametrize("decision", [(), (0.2, 0.8)])
def test_labels(classes, decision):
    target = Target(column="y", task=Task.BINARY, classes=classes, decision=decision)
    given = predictions(Task.BINARY, 5)
    given[3] = [0.5, 0.5]
    given[4] = [0.8, 0.2]
    graph = Graph(["p", "label"])
    answers.decided(graph, target, "p", "label")
    found = run(graph, {"p": given}, "label", answers.labels_of(target).dtype)
    assert found.shape == (500, 1)
    assert found[:, 0].tolist() == target.decode(target.classes_of(given)).to_pylist()
