"""From scores to answers as nodes: links, means and stacks of members, calibration, the label that is decided on."""

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from shardwise.core.target import Target, Task
from shardwise.deploy.onnx_export.graph import Graph, refused
from shardwise.ensemble.combine import MeanCombiner
from shardwise.ensemble.score_trees import ScoreTrees
from shardwise.ensemble.stack import Stack
from shardwise.models.links import HIGHEST, LEAST, LOWEST
from shardwise.stats.calibrators import TINY, Calibrator, Isotonic, Temperature


def clipped(graph: Graph, value: str, low: float, high: float) -> str:
    return graph.op("Min", graph.op("Max", value, low), high)


def sigmoid(graph: Graph, scores: str) -> str:
    """`models.links.sigmoid`."""
    return graph.op("Mul", graph.op("Add", graph.op("Tanh", graph.op("Mul", scores, 0.5)), 1.0), 0.5)


def both(graph: Graph, positive: str) -> str:
    """Probabilities of two classes, `[..., 2]`, by that of the second, `[..., 1]`."""
    return graph.op("Concat", graph.op("Sub", 1.0, positive), positive, axis=-1)


def shares(graph: Graph, values: str) -> str:
    """Scaled to the sum 1."""
    return graph.op("Div", values, graph.op("ReduceSum", values, np.array([-1]), keepdims=1))


def link(graph: Graph, task: Task, scores: str) -> str:
    """`models.links.link`, `[..., outputs]` of `[..., scores]`."""
    if task is Task.BINARY:
        return both(graph, sigmoid(graph, scores))
    if task is Task.MULTICLASS:
        return graph.op("Softmax", scores, axis=-1)
    return graph.op("Exp", clipped(graph, scores, LOWEST, HIGHEST)) if task is Task.COUNT else scores


def unlink(graph: Graph, task: Task, prediction: str) -> str:
    """`models.links.unlink`."""
    if task is Task.BINARY:
        positive = clipped(graph, graph.op("Gather", prediction, np.array([1]), axis=1), LEAST, 1.0 - LEAST)
        return graph.op("Sub", graph.op("Log", positive), graph.op("Log", graph.op("Sub", 1.0, positive)))
    if task in (Task.MULTICLASS, Task.COUNT):
        return graph.op("Log", graph.op("Max", prediction, LEAST))
    return prediction


def mean_of_members(graph: Graph, task: Task, scores: str) -> str:
    """The mean answer, `[rows, outputs]`, of the members of a network with scores `[members, rows, scores]`."""
    return graph.op("ReduceMean", link(graph, task, scores), np.array([0]), keepdims=0)


def combined(graph: Graph, predictions: Sequence[str], combiner: MeanCombiner | Stack, task: Task) -> str:
    """One prediction of those of all members."""
    if isinstance(combiner, Stack):
        return _stacked(graph, predictions, combiner)
    return _mean(graph, predictions, combiner.weights, task)


def _mean(graph: Graph, predictions: Sequence[str], weights: Sequence[float], task: Task) -> str:
    total = ""
    for prediction, weight in zip(predictions, weights, strict=True):
        share = prediction if weight == 1.0 else graph.op("Mul", prediction, float(weight))
        total = graph.op("Add", total, share) if total else share
    return shares(graph, total) if task.is_classification and len(predictions) > 1 else total


def _stacked(graph: Graph, predictions: Sequence[str], stack: Stack) -> str:
    total: str | np.ndarray = np.array([stack.bias], np.float64)
    scores = []
    for group, slope in enumerate(stack.slopes):
        own = [each for each, number in zip(predictions, stack.groups, strict=True) if number == group]
        mean = _mean(graph, own, [1.0 / len(own)] * len(own), stack.task)
        scores.append(unlink(graph, stack.task, mean))
        total = graph.op("Add", total, graph.op("Mul", scores[-1], float(slope)))
    if stack.trees is not None and stack.trees.columns:
        side_by_side = graph.op("Concat", *scores, axis=1)
        total = graph.op("Add", total, _grown(graph, side_by_side, stack.trees, len(stack.bias)))
    assert isinstance(total, str)
    return link(graph, stack.task, total)


def _grown(graph: Graph, scores: str, trees: ScoreTrees, columns: int) -> str:
    """`ScoreTrees.added`: the places of all trees in one table of their answers, summed by column."""
    features, bounds, values = trees.arrays
    place: str | np.ndarray = np.zeros((1, len(values)), np.int64)
    for feature, bound in zip(features.T, bounds.T, strict=True):
        right = graph.op("Greater", graph.op("Gather", scores, feature, axis=1), bound[None])
        place = graph.op("Add", graph.op("Mul", place, np.int64(2)), graph.cast(right, TensorProto.INT64))
    own = graph.op("Add", place, np.arange(len(values), dtype=np.int64)[None] * values.shape[1])
    to = np.eye(columns)[np.array(trees.columns)]
    return graph.op("MatMul", graph.op("Gather", values.ravel(), own), to)


def calibrated(graph: Graph, probabilities: str, calibrator: Calibrator | None) -> str:
    """Raises `ConfigError` for a calibrator that is not expressed."""
    if calibrator is None:
        return probabilities
    if isinstance(calibrator, Temperature):
        logs = graph.op("Log", graph.op("Max", probabilities, TINY))
        return graph.op("Softmax", graph.op("Div", logs, calibrator.temperature), axis=-1)
    if not isinstance(calibrator, Isotonic):
        raise refused(f"the calibration {calibrator.kind!r}", "only temperature and isotonic are written")
    if len(calibrator.knots) == 1:
        positive = graph.op("Gather", probabilities, np.array([1]), axis=1)
        return both(graph, _interpolated(graph, positive, calibrator.knots[0], calibrator.heights[0]))
    raised = [
        _interpolated(graph, graph.op("Gather", probabilities, np.array([place]), axis=1), knots, heights)
        for place, (knots, heights) in enumerate(zip(calibrator.knots, calibrator.heights, strict=True))
    ]
    return shares(graph, graph.op("Concat", *raised, axis=1))


def _interpolated(graph: Graph, value: str, knots: np.ndarray, heights: np.ndarray) -> str:
    """`numpy.interp` of `[rows, 1]`."""
    value = clipped(graph, value, float(knots[0]), float(knots[-1]))
    if len(knots) == 1:
        return graph.op("Add", graph.op("Mul", value, 0.0), float(heights[0]))
    reached = graph.cast(graph.op("GreaterOrEqual", value, knots[None, 1:-1].astype(np.float64)), TensorProto.INT64)
    place = graph.op("ReduceSum", reached, np.array([1]), keepdims=1)
    widths = np.diff(knots)
    slopes = np.divide(np.diff(heights), widths, out=np.zeros(len(widths)), where=widths > 0)
    first, base, slope = (graph.op("Gather", table, place) for table in (knots[:-1], heights[:-1], slopes))
    return graph.op("Add", graph.op("Mul", graph.op("Sub", value, first), slope), base)


def decided(graph: Graph, target: Target, probabilities: str, to: str) -> None:
    """The label, `[rows, 1]` in its own type, under the name `to`: `Target.classes_of`."""
    weighted = graph.op("Mul", probabilities, np.array([target.decision])) if target.decision else probabilities
    place = graph.op("ArgMax", weighted, axis=1, keepdims=1)
    graph.op("Gather", labels_of(target), place, to=to)


def labels_of(target: Target) -> np.ndarray:
    """The classes as an array of their own type: bool, int64, double or text."""
    first = target.classes[0]
    kind = object if isinstance(first, str) else np.int64 if type(first) is int else None
    return np.array(list(target.classes), dtype=kind)
