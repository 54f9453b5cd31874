"""Models as nodes, from what a package has saved of them: double `[rows, outputs]` of X float32 `[rows, features]`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto

from shardwise.core.schema import Feature
from shardwise.core.state import load_state
from shardwise.core.target import Target, Task
from shardwise.deploy.onnx_export import answers
from shardwise.deploy.onnx_export.graph import Graph, refused
from shardwise.deploy.onnx_export.network import predictions
from shardwise.deploy.onnx_export.trees import ensemble
from shardwise.models import adaboost, forest, hinge, linear, svm
from shardwise.models.design import Design
from shardwise.models.neural import model as neural
from shardwise.models.neural.tensors import read_tensors
from shardwise.models.saved import Header
from shardwise.models.scaling import TargetScale
from shardwise.models.trees_text import ModelText, PackedText

_LARGEST = 700.0  # exp of more is not finite: `models.scaling`


def prediction(graph: Graph, X: str, folder: Path) -> str:
    """Of the model in a folder; raises `ConfigError` for a family that is not expressed."""
    header = Header.read(folder)
    if header.family not in _FAMILIES:
        raise refused(f"a model of the family {header.family!r}", f"only {', '.join(_FAMILIES)} are written")
    return _FAMILIES[header.family](graph, X, header, folder)


def _constant(graph: Graph, X: str, values: Sequence[float]) -> str:
    shape = graph.op("Concat", graph.op("Shape", X, start=0, end=1), np.array([len(values)]), axis=0)
    return graph.op("Expand", np.array([values], np.float64), shape)


def _baseline(graph: Graph, X: str, header: Header, folder: Path) -> str:  # noqa: ARG001 - as the others
    return _constant(graph, X, header.extra["constant"])


def _trees(graph: Graph, X: str, header: Header, folder: Path) -> str:
    if header.extra["constant"] is not None:
        return _constant(graph, X, header.extra["constant"])
    target = header.target
    outputs = target.outputs if target.task is Task.MULTICLASS else 1
    text = ModelText.parse(PackedText.read(folder, header.extra["sha256"]).text())
    scores = ensemble(graph, X, text.trees, outputs)
    answer = _ANSWERS.get(header.family, answers.link)
    return _unscaled(graph, answer(graph, target.task, scores), header.extra["scale"], target)


def _of_forest(graph: Graph, task: Task, scores: str) -> str:
    """`models.forest.Means.answer`."""
    if task is Task.BINARY:
        return answers.both(graph, answers.clipped(graph, scores, 0.0, 1.0))
    if task is Task.MULTICLASS:
        return answers.shares(graph, answers.clipped(graph, scores, forest.LEAST, 1.0))
    return graph.op("Max", scores, forest.LEAST) if task is Task.COUNT else scores


def _of_adaboost(graph: Graph, task: Task, scores: str) -> str:
    """`models.adaboost.Exponential.answer`."""
    if task is Task.BINARY:
        return answers.link(graph, task, scores)
    return answers.shares(graph, graph.op("Max", answers.sigmoid(graph, scores), adaboost.TINY**2))


_ANSWERS: Mapping[str, Callable[[Graph, Task, str], str]] = {"forest": _of_forest, "adaboost": _of_adaboost}


def _linear(graph: Graph, X: str, header: Header, folder: Path) -> str:
    design = Design(header.features, header.params["onehot_limit"])
    weights = load_state((folder / linear.WEIGHTS).read_bytes())["weights"]
    scores = answers.link(graph, header.target.task, _linear_scores(graph, X, (design, header.features), weights))
    return _unscaled(graph, scores, header.extra["scale"], header.target)


def _svm(graph: Graph, X: str, header: Header, folder: Path) -> str:
    state, target = load_state((folder / svm.WEIGHTS).read_bytes()), header.target
    if state["directions"] is not None:
        raise refused("a model of the family 'svm' with a kernel", "only that with kernel='linear' is written")
    design = Design(header.features, header.params["onehot_limit"])
    scores = _linear_scores(graph, X, (design, header.features), state["weights"])
    if not target.task.is_classification:
        return _unscaled(graph, scores, header.extra["scale"], target)
    scores = graph.op("Add", graph.op("Mul", scores, float(header.extra["slope"])), float(header.extra["shift"]))
    if target.task is Task.BINARY:
        return answers.link(graph, target.task, scores)
    return answers.shares(graph, graph.op("Max", answers.sigmoid(graph, scores), hinge.LEAST))


def _linear_scores(graph: Graph, X: str, read: tuple[Design, Sequence[Feature]], weights: np.ndarray) -> str:
    """`Design.scores`."""
    design, features = read
    weights = weights.astype(np.float64)
    scores: str | np.ndarray = weights[-1:]
    if design.numbers:
        values = standardised(graph, X, design, features)
        scores = graph.op("Add", graph.op("MatMul", values, weights[: design.numbers]), scores)
    for slots in slot_columns(graph, X, design):
        rows = graph.op("Gather", weights, graph.op("Squeeze", slots, np.array([1])))
        scores = graph.op("Add", rows, scores)
    return scores if isinstance(scores, str) else _constant(graph, X, weights[-1].tolist())


def _network(graph: Graph, X: str, header: Header, folder: Path) -> str:
    target, params = header.target, {**neural.FORMER, **header.params}
    apart = neural.left_out(header.features, use_copies=params["use_copies"])
    design = Design(header.features, params["embedding_limit"], apart)
    tensors, _ = read_tensors(folder / neural.WEIGHTS)
    numbers = standardised(graph, X, design, header.features) if design.numbers else None
    if numbers is not None:  # as the network is fed: `Design.prepare`
        numbers = graph.cast(graph.cast(numbers, TensorProto.FLOAT), TensorProto.DOUBLE)
    slots = [graph.op("Sub", each, np.int64(design.numbers)) for each in slot_columns(graph, X, design)]
    scores = predictions(graph, tensors, numbers, slots, params["activation"])
    return _unscaled(graph, answers.mean_of_members(graph, target.task, scores), header.extra["scale"], target)


_FAMILIES: Mapping[str, Callable[[Graph, str, Header, Path], str]] = {
    "baseline": _baseline, "linear": _linear, "trees": _trees, "forest": _trees, "adaboost": _trees, "svm": _svm,
    "neural": _network,
}  # fmt: skip


def _unscaled(graph: Graph, scores: str, scale: Mapping[str, Any], target: Target) -> str:
    """`TargetScale.invert`."""
    own = TargetScale.from_json(scale)
    if target.task.is_classification or own == TargetScale():
        return scores
    shifted = graph.op("Add", graph.op("Mul", scores, float(own.scale)), float(own.center))
    if own.transform is None:
        return shifted
    return graph.op("Sub", graph.op("Exp", graph.op("Min", shifted, _LARGEST)), 1.0)


def standardised(graph: Graph, X: str, design: Design, features: Sequence[Feature]) -> str:
    """The numbers of X as a design reads them, double `[rows, numbers]`."""
    places = design.number_columns(range(design.numbers))
    chosen = [features[place] for place in places]
    low, high, fill, center = (
        np.array([[getattr(feature, name) for feature in chosen]], np.float64)
        for name in ("low", "high", "fill", "center")
    )
    scale = np.array([[feature.scale if feature.scale > 0 else 1.0 for feature in chosen]])
    values = graph.cast(graph.op("Gather", X, np.array(places, np.int64), axis=1), TensorProto.DOUBLE)
    values = graph.op("Where", graph.op("IsNaN", values), fill, values)
    values = graph.op("Min", graph.op("Max", values, low), high)
    values = graph.op("Where", graph.op("IsInf", values), fill, values)
    return graph.op("Div", graph.op("Sub", values, center), scale)


def slot_columns(graph: Graph, X: str, design: Design) -> list[str]:
    """The row of the table of each category, int64 `[rows, 1]` each."""
    found = []
    for column, (start, stop) in zip(design.code_columns, design.slot_ranges, strict=True):
        code = graph.op("Gather", X, np.array([column]), axis=1)
        place = graph.op("Where", graph.op("IsNaN", code), np.float32(stop - 1 - start), code)
        found.append(graph.op("Add", graph.cast(place, TensorProto.INT64), np.int64(start)))
    return found
