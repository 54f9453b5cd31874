"""Write a package as ONNX, and check what was written on the golden rows by ONNX Runtime.

Inputs are the raw columns that the recipe reads (`columns`); outputs are `prediction` `[rows, 1]`, a label in its own
type or a double, and for classes `probabilities` `[rows, classes]`, double. Metadata of the model: `package` (hash),
`task`, `target`, `classes`, `inputs` (how each column is given, JSON), and as `doc_string` how a missing cell is given,
and which values are taken for one. Intervals and sets are not in it.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from shardwise.core.errors import ConfigError, PackageError
from shardwise.core.target import Target
from shardwise.deploy.onnx_export import answers
from shardwise.deploy.onnx_export.columns import CAVEATS, Columns, Input, feeds
from shardwise.deploy.onnx_export.graph import Graph
from shardwise.deploy.onnx_export.models import prediction
from shardwise.deploy.onnx_export.recipe import features
from shardwise.registry.golden import difference, read_golden
from shardwise.registry.package import Package, combiner_of
from shardwise.store.files import staged_file

PREDICTION, PROBABILITIES = "prediction", "probabilities"
TOLERANCE = 1e-9  # of the golden rows; what was measured is below 1e-13


def write_onnx(package: Package, out: Path) -> None:
    """Write the file `out`; raises `ConfigError` that names what ONNX does not express, `PackageError` when the golden
    rows are answered differently."""
    content = onnx_model(package).SerializeToString(deterministic=True)
    rows, expected = read_golden(package.folder)
    found = Session(content).scores(rows)
    off = difference(found.reshape(expected.shape), expected)
    if not off <= TOLERANCE:
        message = f"ONNX Runtime {onnxruntime.__version__} answers the golden rows differently, by {off:.2g}"
        raise PackageError(message, hint="Install another version of it; if that does not help, please report it.")
    with staged_file(out) as temp:
        temp.write_bytes(content)


def onnx_model(package: Package) -> ModelProto:
    """The graph of a package; the same package gives the same bytes."""
    target, outputs = package.target, [PREDICTION, PROBABILITIES]
    taken = [name for name in package.inputs.names if name in outputs]
    if taken:
        raise ConfigError(f"column {taken[0]!r} has the name of an output", hint="Rename it, and train again.")
    graph = Graph([*package.inputs.names, *outputs])
    columns = Columns(graph, package.inputs)
    X = features(package.recipe, columns)
    members = [prediction(graph, X, package.folder / entry.folder) for entry in package.manifest.members]
    combiner = combiner_of(package.members, package.manifest.stack)
    scores = answers.combined(graph, members, combiner, target.task)
    if target.task.is_classification:
        graph.op("Identity", answers.calibrated(graph, scores, package.calibrator), to=PROBABILITIES)
        answers.decided(graph, target, PROBABILITIES, PREDICTION)
    else:
        graph.op("Identity", scores, to=PREDICTION)
    model = graph.model(columns.declared(), _outputs(target))
    given = {name: columns.inputs[name].to_json() for name in package.inputs.names if name in columns.inputs}
    about = {"package": package.hash, "task": target.task.value, "target": target.column,
             "classes": json.dumps(list(target.classes)), "inputs": json.dumps(given)}  # fmt: skip
    helper.set_model_props(model, about)
    model.doc_string = CAVEATS
    return model


def _outputs(target: Target) -> list[ValueInfoProto]:
    if not target.task.is_classification:
        return [helper.make_tensor_value_info(PREDICTION, TensorProto.DOUBLE, ["rows", 1])]
    label = helper.np_dtype_to_tensor_dtype(answers.labels_of(target).dtype)
    return [
        helper.make_tensor_value_info(PREDICTION, label, ["rows", 1]),
        helper.make_tensor_value_info(PROBABILITIES, TensorProto.DOUBLE, ["rows", target.outputs]),
    ]


class Session:
    """A model that `write_onnx` wrote, in ONNX Runtime, asked with raw rows of Arrow."""

    def __init__(self, model: bytes | Path | str) -> None:
        """Of a file or its content; raises `ConfigError` for another model."""
        content = model if isinstance(model, bytes) else str(model)
        try:
            self._session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
            told = json.loads(self._session.get_modelmeta().custom_metadata_map["inputs"])
        except Exception as error:  # those of ONNX Runtime have no class in common but this
            hint = "Write one by `shardwise export --format onnx`."
            raise ConfigError(f"this is no model of ONNX that shardwise wrote: {error}", hint=hint) from error
        self.inputs = {name: Input.from_json(each) for name, each in told.items()}

    def answer(self, rows: pa.RecordBatch | pa.Table) -> list[np.ndarray]:
        """`[prediction]`, for classes `[prediction, probabilities]`."""
        return list(self._session.run(None, feeds(self.inputs, rows)))

    def scores(self, rows: pa.RecordBatch | pa.Table) -> np.ndarray:
        """Float64 `(rows, outputs)`, as `Predictor.predict` gives them."""
        return np.asarray(self.answer(rows)[-1])
