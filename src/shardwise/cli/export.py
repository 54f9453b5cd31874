"""shardwise export PACKAGE --format mlflow --out FOLDER"""

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


FORMATS = {"mlflow": write_mlflow, "sklearn": _write_sklearn}


@click.command("export")
@click.argument("package")
@click.option("--format", "form", required=True, help=f"{' or '.join(FORMATS)}.")
@click.option("--out", required=True, help="Folder of the model (mlflow), or file (sklearn, such as model.joblib).")
@registry_option
@json_option
def command(package: str, form: str, out: str, *, registry: str | None, as_json: bool) -> int:
    """Write PACKAGE (a folder, NAME@3 or NAME@champion) as what other tools load; its answers stay the same bits.

    \b
    mlflow    a folder for mlflow.pyfunc.load_model, `mlflow models serve` and MLflow's registry
    sklearn   a fitted scikit-learn estimator for joblib.load
    Where it is loaded, shardwise is installed.
    """
    if form not in FORMATS:
        raise ConfigError(f"packages cannot be exported as {form!r}", hint=nearest(form, FORMATS))
    FORMATS[form](open_package(package, registry), Path(out))
    if as_json:
        print_json({"format": form, "out": out})
    else:
        print(f"{form}  {out}")
    return 0
