"""Graphs that are run at once, for tests."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ValueInfoProto, helper
from onnxruntime import InferenceSession

from shardwise.deploy.onnx_export.columns import Columns, feeds
from shardwise.deploy.onnx_export.graph import Graph


def told(name: str, kind: Any, columns: int | None) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), ["rows", columns])


def run(graph: Graph, inputs: Mapping[str, np.ndarray], output: str, kind: Any = np.float64) -> np.ndarray:
    """What a graph makes of arrays of numbers, `(rows, columns)`; `kind`: the type of its output."""
    declared = [told(name, array.dtype, array.shape[1]) for name, array in inputs.items()]
    return _run(graph, declared, inputs, told(output, kind, None))


def run_columns(columns: Columns, rows: Any, output: str) -> np.ndarray:
    """What it makes of raw rows, float32."""
    return _run(columns.graph, columns.declared(), feeds(columns.inputs, rows), told(output, np.float32, None))


def _run(
    graph: Graph, declared: Sequence[ValueInfoProto], inputs: Mapping[str, np.ndarray], shown: ValueInfoProto
) -> np.ndarray:
    content = graph.model(declared, [shown]).SerializeToString()
    session = InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, dict(inputs))[0])
