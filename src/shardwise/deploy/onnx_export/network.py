"""The network as nodes: the steps of `models.neural.forward` in double precision, with the same rounding of factors."""

from collections.abc import Mapping, Sequence

import numpy as np

from shardwise.deploy.onnx_export.graph import Graph
from shardwise.models.neural.exact import ACTIVATION, exact
from shardwise.models.neural.shape import LIMIT


def predictions(
    graph: Graph, tensors: Mapping[str, np.ndarray], numbers: str | None, slots: Sequence[str], activation: str
) -> str:
    """Raw scores of the members, double `[members, rows, scores]`.

    `numbers` double `[rows, numbers]`, None where there are none; `slots` int64 `[rows, 1]`, rows of the table of
    categories.
    """
    weights = exact(dict(tensors))
    parts = [] if numbers is None else [_embedded(graph, weights, numbers)]
    if slots:
        width = len(slots) * weights["categories"].shape[1]
        rows = graph.op("Gather", weights["categories"].astype(np.float64), graph.op("Concat", *slots, axis=1))
        parts.append(graph.op("Reshape", rows, np.array([-1, width])))
    hidden = graph.op("Unsqueeze", graph.op("Concat", *parts, axis=1), np.array([1]))
    layers = sum(name.startswith("w") for name in weights)
    for layer in range(layers):
        scaled = _settled(graph, graph.op("Mul", hidden, weights[f"r{layer}"]))
        product = graph.op("MatMul", scaled, weights[f"w{layer}"])
        hidden = graph.op("Add", graph.op("Mul", product, weights[f"s{layer}"]), weights[f"b{layer}"])
        hidden = _activated(graph, hidden, activation)
    members = graph.op("Transpose", _settled(graph, hidden), perm=[1, 0, 2])
    return graph.op("Add", graph.op("MatMul", members, weights["head"]), weights["bias"][:, None, :])


def _activated(graph: Graph, hidden: str, activation: str) -> str:
    if activation == "relu":
        return graph.op("Max", hidden, 0.0)
    half = graph.op("Mul", graph.op("Tanh", graph.op("Mul", hidden, 0.5)), 0.5)  # no exponential that overflows
    return graph.op("Mul", hidden, graph.op("Add", half, 0.5))


def _embedded(graph: Graph, weights: Mapping[str, np.ndarray], numbers: str) -> str:
    column = graph.op("Unsqueeze", graph.op("Transpose", numbers, perm=[1, 0]), np.array([2]))
    column = graph.op("Min", graph.op("Max", column, -LIMIT), LIMIT)
    places = graph.op("Mul", graph.op("Sub", column, weights["knots"][:, None]), weights["slopes"][:, None])
    places = _settled(graph, graph.op("Min", graph.op("Max", places, 0.0), 1.0))
    values = graph.op("Add", graph.op("MatMul", places, weights["pieces"]),
                      graph.op("Mul", column, weights["linear"][:, None]))  # fmt: skip
    values = graph.op("Add", values, weights["shift"][:, None])
    width = weights["pieces"].shape[0] * weights["pieces"].shape[2]
    return graph.op("Reshape", graph.op("Transpose", values, perm=[1, 0, 2]), np.array([-1, width]))


def _settled(graph: Graph, values: str) -> str:
    """To the nearest multiple, so that the products are exact."""
    return graph.op("Mul", graph.op("Round", graph.op("Mul", values, ACTIVATION)), 1 / ACTIVATION)
