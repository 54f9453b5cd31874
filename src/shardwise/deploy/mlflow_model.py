"""A package as a model of MLflow: a folder that `mlflow.pyfunc.load_model`, its server and its registry take.

    MLmodel             flavour python_function: `loader_module` is this module, `data` the package; signature
    package/            the package, as it was sealed: loading checks its hashes and golden rows as anywhere
    requirements.txt, python_env.yaml    what the package was made with

MLflow is not needed to write it, and this module does not import it: the format is that of
https://mlflow.org/docs/latest/ml/model/ . Integers are told as doubles: data frames have them as soon as a cell is
missing, and MLflow refuses those where an integer is expected.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from shardwise.core.errors import ConfigError, PackageError
from shardwise.data.convert import conform
from shardwise.data.dataset import ReadOptions
from shardwise.data.schemas import schema_of, typed_layout
from shardwise.data.tables import as_reader
from shardwise.registry.package import Package
from shardwise.serve.predictor import Predictor
from shardwise.store.files import staged_folder

DATA = "package"
MODEL = "MLmodel"
_PINNED = ("shardwise", "lightgbm", "catboost", "numpy", "pyarrow", "scikit-learn")


class PyfuncModel:
    """What MLflow holds: `predict` of a data frame."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> Any:  # noqa: ARG002 - MLflow's interface
        """The columns of `Predictor.answer` as a pandas data frame, with the rows of `data` (pandas, or a dict of
        lists); raises `SchemaError` for columns that are missing."""
        reader = as_reader(data)
        layout = typed_layout(reader.schema, "data", ReadOptions())
        table = pa.Table.from_batches([conform(batch, layout, {}) for batch in reader], schema_of(layout))
        return pa.Table.from_batches([self.predictor.answer(table)]).to_pandas()


def _load_pyfunc(path: str) -> PyfuncModel:
    """MLflow's entry point; `path` is the package. Raises `PackageError` where `MLmodel` beside it names another."""
    predictor = Predictor.load(path)
    told = yaml.safe_load((Path(path).parent / MODEL).read_text(encoding="utf8"))["metadata"]["package"]
    if told != predictor.package.hash:
        raise PackageError("the package is not the one that the model was made of", hint="Export it again.", path=path)
    return PyfuncModel(predictor)


def write_mlflow(package: Package, out: Path) -> None:
    """Write the model into a folder that is not there yet, or holds such a model; raises `ConfigError` otherwise."""
    if out.exists() and not (out / MODEL).is_file() and (out.is_file() or any(out.iterdir())):
        raise ConfigError("something else than a model of MLflow stands there", hint="Choose another --out.",
                          path=str(out))  # fmt: skip
    libraries = package.manifest.libraries
    requirements = [f"{name}=={libraries[name]}" for name in _PINNED if name in libraries]
    environment = {"python": libraries["python"], "dependencies": ["-r requirements.txt"]}
    with staged_folder(out) as folder:
        shutil.copytree(package.folder, folder / DATA)
        (folder / MODEL).write_text(yaml.safe_dump(_model(package), sort_keys=False), encoding="utf8")
        (folder / "requirements.txt").write_text("\n".join([*requirements, "pandas"]) + "\n", encoding="utf8")
        (folder / "python_env.yaml").write_text(yaml.safe_dump(environment, sort_keys=False), encoding="utf8")


def _model(package: Package) -> dict[str, Any]:
    """The content of `MLmodel`; nothing in it tells the time."""
    answer = Predictor(package).answer_schema()
    signature = {"inputs": package.inputs, "outputs": answer}
    return {
        "flavors": {
            "python_function": {
                "loader_module": __name__, "data": DATA, "env": {"virtualenv": "python_env.yaml"},
                "python_version": package.manifest.libraries["python"],
            },
        },
        "metadata": {"package": package.hash, "task": package.target.task.value, "target": package.target.column},
        "model_uuid": package.hash[:32],
        "signature": {name: json.dumps([_column(field) for field in schema]) for name, schema in signature.items()},
    }  # fmt: skip


def _column(field: pa.Field) -> dict[str, Any]:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    types = pa.types
    if types.is_boolean(kind):
        name = "boolean"
    elif types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        name = "double"
    else:
        name = "datetime" if types.is_timestamp(kind) or types.is_date(kind) else "string"
    return {"type": name, "name": field.name, "required": True}
