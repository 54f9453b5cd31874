"""The Open Inference Protocol, version 2: what the server and its models are, and `infer`."""

from collections.abc import Mapping
from importlib.metadata import version
from itertools import islice
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from shardwise.core.names import nearest, nearest_column
from shardwise.serve.online.call import whole_header
from shardwise.serve.online.http import JSON, OCTETS, Response
from shardwise.serve.online.live import Served
from shardwise.serve.online.problems import Problem
from shardwise.serve.online.rows import MOST_COMPARED, no_time, read_json, unknown_column
from shardwise.serve.online.settings import ServeConfig
from shardwise.serve.online.tensors import MISSING, Tensor, datatype_of, masked, read_tensors, to_bytes
from shardwise.serve.predictor import PREDICTION

LENGTH_HEADER = b"inference-header-content-length"
PROBABILITIES = "probabilities"


def server_metadata(*, binary: bool = True) -> dict[str, Any]:
    """`binary`: whether tensors may follow the JSON as bytes."""
    extensions = ["binary_tensor_data"] if binary else []
    return {"name": "shardwise", "version": version("shardwise"), "extensions": extensions}


def model_metadata(served: Served, versions: list[str]) -> dict[str, Any]:
    """Inputs and outputs of a model; a column is a tensor of the shape [rows]."""
    predictor = served.predictor
    inputs = [
        {"name": field.name, "datatype": datatype_of(field.type), "shape": [-1],
         "parameters": {"type": str(field.type)}}
        for field in predictor.package.inputs
    ]  # fmt: skip
    outputs: list[dict[str, Any]] = [{"name": PREDICTION, "datatype": _label_type(served), "shape": [-1]}]
    if predictor.labels:
        names = predictor.class_names
        outputs.append({"name": PROBABILITIES, "datatype": "FP64", "shape": [-1, len(names)],
                        "parameters": {"classes": names}})  # fmt: skip
    return {"name": served.name, "versions": versions, "platform": "shardwise", "inputs": inputs, "outputs": outputs,
            "parameters": {"version": served.version, "package": predictor.package.hash}}  # fmt: skip


class Infer:
    """An `infer` request that was read: its columns, and what is to be answered."""

    def __init__(self, content: Any, tail: bytes, config: ServeConfig, served: Served) -> None:
        """`content` as JSON has it; `tail` holds the bytes of its binary tensors; `served` is to answer.

        Raises `Problem` for what cannot be answered.
        """
        if not isinstance(content, dict):
            raise Problem(422, "not_rows", "the body is no object", hint='Send {"inputs": [...]}.')
        self.id = content.get("id")
        self._extra = config.extra
        self._outputs, self._binary = _wanted(content)
        self._check_count(content.get("inputs"), served)
        self.tensors = read_tensors(content.get("inputs"), tail)
        for tensor in self.tensors:
            _check_texts(tensor, config.max_text_bytes)
        self._check(served)

    @classmethod
    def read(cls, body: bytes, head_bytes: int | None, config: ServeConfig, served: Served) -> "Infer":
        """A body of HTTP, whose JSON has `head_bytes`; None where all is JSON."""
        if head_bytes is None:
            return cls(read_json(body), b"", config, served)
        return cls(read_json(body[:head_bytes]), body[head_bytes:], config, served)

    def _check_count(self, inputs: Any, served: Served) -> None:
        """Raise `Problem` for more inputs than there can be, before any is read: each column, and where it is missing.

        Where columns that the model does not read are ignored there may be any number of them.
        """
        columns = served.predictor.columns
        if self._extra != "refuse" or not isinstance(inputs, list) or len(inputs) <= 2 * len(columns):
            return
        names = (each.get("name") for each in inputs if isinstance(each, dict))
        known = served.predictor.known
        texts = (name for name in names if isinstance(name, str))
        other = next((name for name in texts if name.removesuffix(MISSING) not in known), None)
        if other is not None:
            raise unknown_column(other, columns, {})
        message = f"there are {len(inputs):,} inputs, and the model reads {len(columns):,} columns"
        raise Problem(422, "too_many_inputs", message, hint="Send each column once.")

    @property
    def rows(self) -> int:
        return len(self.tensors[0].values)

    def _check(self, served: Served) -> None:
        """Raise `Problem` for columns that are missing or not known, and outputs that there are not."""
        self.tensors = masked(self.tensors, served.predictor.known)
        columns, given = served.predictor.columns, {tensor.name: None for tensor in self.tensors}
        missing = next((name for name in columns if name not in given), None)
        if missing is not None:
            raise Problem(422, "missing_column", f"there is no input {missing!r}",
                          hint=nearest_column(missing, list(islice(given, MOST_COMPARED))), column=missing)  # fmt: skip
        if len(given) > len(columns) and self._extra == "refuse":
            raise unknown_column(next(name for name in given if name not in served.predictor.known), columns, {})
        for tensor in self.tensors:
            if tensor.name in served.times and tensor.datatype != "BYTES":
                raise no_time(tensor.name, tensor.datatype, {})
        known = [PREDICTION, PROBABILITIES] if served.predictor.labels else [PREDICTION]
        unknown = next((name for name in self._outputs or () if name not in known), None)
        if unknown is not None:
            raise Problem(400, "unknown_output", f"there is no output {unknown!r}", hint=nearest(unknown, known))

    def as_rows(self) -> list[dict[str, Any]]:
        names = [tensor.name for tensor in self.tensors]
        columns = [tensor.values for tensor in self.tensors]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def as_batch(self) -> pa.RecordBatch:
        arrays = [tensor.to_arrow() for tensor in self.tensors]
        return pa.RecordBatch.from_arrays(arrays, names=[tensor.name for tensor in self.tensors])

    def outputs(self, served: Served, scores: np.ndarray) -> list[tuple[Tensor, list[int]]]:
        """The tensors that are wanted, in the order of the metadata, with their shapes."""
        found = _tensors_of(served, scores)
        return [each for each in found if self._outputs is None or each[0].name in self._outputs]

    def answer(self, served: Served, scores: np.ndarray) -> Response:
        """The response: JSON, followed by the bytes of the outputs that are wanted so."""
        outputs, tails = [], []
        for tensor, shape in self.outputs(served, scores):
            told: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": shape}
            if self._binary if self._outputs is None else self._outputs[tensor.name]:
                tails.append(to_bytes(tensor))
                told["parameters"] = {"binary_data_size": len(tails[-1])}
            else:
                told["data"] = tensor.values
            outputs.append(told)
        content = {"model_name": served.name, "model_version": served.version, "outputs": outputs}
        head = orjson.dumps(content | ({} if self.id is None else {"id": self.id}))
        if not tails:
            return Response(head, JSON)
        return Response(b"".join([head, *tails]), OCTETS, headers={LENGTH_HEADER.decode(): str(len(head))})


def head_length(headers: Mapping[bytes, bytes]) -> int | None:
    """Bytes of the JSON before binary tensors; None where all is JSON."""
    return whole_header(headers, LENGTH_HEADER, "Give the bytes of the JSON, a whole number.")


def _wanted(content: Mapping[str, Any]) -> tuple[dict[str, bool] | None, bool]:
    """Names of the outputs, and whether each is wanted as bytes; None for all of them. And what holds for all."""
    binary = _binary(content, "binary_data_output")
    outputs = content.get("outputs")
    if not outputs:
        return None, binary
    if not isinstance(outputs, list) or not all(isinstance(each, dict) and "name" in each for each in outputs):
        raise Problem(400, "unknown_output", "`outputs` is no list of outputs with names", hint="Leave it out for all.")
    return {str(each["name"]): _binary(each, "binary_data", binary) for each in outputs}, binary


def _binary(content: Mapping[str, Any], name: str, otherwise: bool = False) -> bool:
    parameters = content.get("parameters")
    return bool(parameters.get(name, otherwise)) if isinstance(parameters, dict) else otherwise


def _check_texts(tensor: Tensor, most: int) -> None:
    if tensor.datatype != "BYTES":
        return
    longest = max((len(value) for value in tensor.values if value is not None), default=0)
    if longest > most:
        raise Problem(413, "text_too_long", f"input {tensor.name!r} holds a text of {longest:,} characters",
                      hint=f"At most {most:,} are read.", column=tensor.name)  # fmt: skip


def _label_type(served: Served) -> str:
    labels = served.predictor.labels
    return datatype_of(pa.array(labels).type) if labels else "FP64"


def _tensors_of(served: Served, scores: np.ndarray) -> list[tuple[Tensor, list[int]]]:
    labels, rows = served.predictor.labels, len(scores)
    if not labels:
        return [(Tensor(PREDICTION, "FP64", scores.reshape(-1).tolist()), [rows])]
    chosen = [labels[best] for best in served.predictor.target.classes_of(scores).tolist()]
    return [
        (Tensor(PREDICTION, _label_type(served), chosen), [rows]),
        (Tensor(PROBABILITIES, "FP64", scores.reshape(-1).tolist()), list(scores.shape)),
    ]
