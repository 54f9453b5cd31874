"""A graph of ONNX that is built node by node; what is no name of a value becomes a constant."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from shardwise.core.errors import ConfigError

OPSET, ML_OPSET, IR_VERSION = 21, 5, 10  # ai.onnx.ml 5 has `TreeEnsemble` in double precision: ONNX Runtime 1.20
ML = "ai.onnx.ml"
Operand = str | float | np.generic | np.ndarray


def refused(what: str, why: str, column: str | None = None) -> ConfigError:
    """What is raised for a part of a package that ONNX does not express."""
    hint = "Export it to mlflow, serve it with `shardwise serve`, or train without it."
    place = {} if column is None else {"column": column}
    return ConfigError(f"{what} cannot be exported to ONNX: {why}", hint=hint, **place)


class Graph:
    """Nodes in the order of their making. Values are known by name; numbers of Python are float64 or int64."""

    def __init__(self, reserved: Sequence[str]) -> None:
        """`reserved`: names of inputs and outputs, which no value in between gets."""
        self._reserved = frozenset(reserved)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._tensors: list[onnx.TensorProto] = []
        self._count = 0

    def op(self, kind: str, *operands: Operand, domain: str = "", to: str | None = None, **attributes: Any) -> str:
        """The value of an operator with one output; `to` names it."""
        output = to or self._name(kind.lower())
        inputs = [each if isinstance(each, str) else self.constant(each) for each in operands]
        self._nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output

    def cast(self, value: str, kind: int) -> str:
        """In a type of `TensorProto`."""
        output = self._name("cast")
        self._nodes.append(helper.make_node("Cast", [value], [output], to=kind))
        return output

    def constant(self, values: Operand | Sequence[str]) -> str:
        """A constant; equal ones are there once."""
        array = np.asarray(values)
        if array.dtype.kind in "OU":
            key = (str(array.tolist()), array.shape, b"text")
        else:
            key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = self._constants[key] = self._name("constant")
            self._tensors.append(tensor(name, array))
        return self._constants[key]

    def model(self, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
        """The whole, checked by `onnx` itself."""
        graph = helper.make_graph(self._nodes, "package", inputs, outputs, initializer=self._tensors)
        versions = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)]
        model = helper.make_model(graph, opset_imports=versions, ir_version=IR_VERSION, producer_name="shardwise")
        onnx.checker.check_model(model)
        return model

    def _name(self, kind: str) -> str:
        while True:
            self._count += 1
            name = f"{kind}_{self._count}"
            if name not in self._reserved:
                return name


def tensor(name: str, array: np.ndarray) -> onnx.TensorProto:
    """Numbers, truth values or texts of any shape."""
    if array.dtype.kind in "OU":
        return numpy_helper.from_array(array.astype(object), name)
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor(name, kind, array.shape, np.ascontiguousarray(array).tobytes(), raw=True)
