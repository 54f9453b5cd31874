"""shardwise export PACKAGE --format mlflow|onnx|sklearn --out FOLDER|FILE"""

import importlib
from pathlib import Path

import click
import joblib

from shardwise.cli import print_json
from shardwise.cli.options import json_option, registry_option
from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest
from shardwise.deploy.mlflow_model import write_mlflow
from shardwise.estimators import ShardwiseClassifier, ShardwiseRegressor
from shardwise.registry.package import Package
from shardwise.registry.references import open_package
from shardwise.store.files import staged_file


def _write_sklearn(package: Package, out: Path) -> None:
    """A fitted estimator, as joblib has it: a pickle, to be loaded by those who trust it."""
    kind = ShardwiseClassifier if package.target.task.is_classification else ShardwiseRegressor
    with staged_file(out) as temp:
        joblib.dump(kind.from_package(package.folder), temp)


def _write_onnx(package: Package, out: Path) -> None:
    try:
        module = importlib.import_module("shardwise.deploy.onnx_export.write")
    except ModuleNotFoundError as error:
        what = f"--format onnx needs a library that is not installed ({error})"
        raise ConfigError(what, hint="Run: pip install 'shardwise[onnx]'.") from error
    module.write_onnx(package, out)


FORMATS = {"mlflow": write_mlflow, "onnx": _write_onnx, "sklearn": _write_sklearn}


@click.command("export")
@click.argument("package")
@click.option("--format", "form", required=True, help=f"{', '.join(FORMATS)}.")
@click.option("--out", required=True, help="Folder (mlflow), or file (model.onnx, model.joblib).")
@registry_option
@json_option
def command(package: str, form: str, out: str, *, registry: str | None, as_json: bool) -> int:
    """Write PACKAGE (a folder, NAME@3 or NAME@champion) as what other tools load.

    \b
    mlflow    a folder for mlflow.pyfunc.load_model, `mlflow models serve` and MLflow's registry
    onnx      a graph from raw columns to the answer, for ONNX Runtime and what is built on it
    sklearn   a fitted scikit-learn estimator for joblib.load
    To load mlflow and sklearn, shardwise is installed, and the answers are the same bits. onnx needs nothing of it and
    differs in the last digits; it is checked on golden rows. What ONNX does not express is refused, and named. It knows
    no missing cells: an empty text and the integer -2**63 stand for them, which are values to the package.
    """
    if form not in FORMATS:
        raise ConfigError(f"packages cannot be exported as {form!r}", hint=nearest(form, FORMATS))
    FORMATS[form](open_package(package, registry), Path(out))
    if as_json:
        print_json({"format": form, "out": out})
    else:
        print(f"{form}  {out}")
    return 0
