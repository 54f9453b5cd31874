"""A package as a model of MLflow: the same answers, through MLflow itself where it is installed."""

import importlib
import json

import joblib
import numpy as np
import pytest
import yaml
from tests.registry.parts import make_package, make_table

from shardwise.cli import run
from shardwise.core.target import Task
from shardwise.deploy.mlflow_model import write_mlflow
from shardwise.registry.package import load_package
from shardwise.serve.predictor import Predictor


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return make_package(tmp_path_factory.mktemp("exported"), Task.MULTICLASS)


@pytest.fixture(scope="module")
def rows():
    return make_table(50, Task.MULTICLASS, seed=3)


@pytest.fixture
def model(package, tmp_path):
    assert run(["export", str(package), "--format", "mlflow", "--out", str(tmp_path / "model")]) == 0
    return tmp_path / "model"


def test_what_the_file_names_gives_the_answers_of_the_package(package, model, rows):
    """As MLflow does it: import the loader, hand it the data."""
    told = yaml.safe_load((model / "MLmodel").read_text())
    flavour = told["flavors"]["python_function"]
    loaded = importlib.import_module(flavour["loader_module"])._load_pyfunc(str(model / flavour["data"]))
    expected = Predictor.load(package).answer(rows)
    for given in (rows.to_pandas(), rows.to_pydict()):
        found = loaded.predict(given)
        assert list(found.columns) == expected.schema.names
        for name in expected.schema.names:
            assert found[name].tolist() == expected.column(name).to_pylist()
    inputs = {column["name"]: column["type"] for column in json.loads(told["signature"]["inputs"])}
    assert inputs == {"x": "double", "z": "double", "town": "string", "day": "datetime"}
    assert told["metadata"]["package"] == load_package(package).hash
    assert (
        f"lightgbm=={load_package(package).manifest.libraries['lightgbm']}" in (model / "requirements.txt").read_text()
    )


def test_the_same_package_gives_the_same_bytes(package, model, tmp_path):
    write_mlflow(load_package(package), tmp_path / "again")
    contents = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (model, tmp_path / "again")
    ]
    assert contents[0] == contents[1]


@pytest.mark.filterwarnings("default")
def test_mlflow_loads_it_and_enforces_its_signature(package, model, rows):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    loaded = mlflow.pyfunc.load_model(str(model))
    frame = rows.to_pandas().astype({"day": "datetime64[ns]"})
    expected = Predictor.load(package).answer(rows)
    np.testing.assert_array_equal(loaded.predict(frame)["probability_mid"], expected.column("probability_mid"))
    with pytest.raises(mlflow.exceptions.MlflowException, match="missing"):
        loaded.predict(frame.drop(columns="x"))


def test_a_fitted_estimator(package, rows, tmp_path):
    assert run(["export", str(package), "--format", "sklearn", "--out", str(tmp_path / "m.joblib"), "--json"]) == 0
    estimator = joblib.load(tmp_path / "m.joblib")
    frame = rows.to_pandas()[list(estimator.feature_names_in_)]
    np.testing.assert_array_equal(estimator.predict_proba(frame), Predictor.load(package).predict(rows))


def test_what_cannot_be_written(package, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("")
    for words, message in (
        (["--format", "mlflow", "--out", str(tmp_path / "mine")], "something else than a model of MLflow"),
        (["--format", "onxn", "--out", "x"], "cannot be exported as 'onxn'"),
    ):
        assert run(["export", str(package), *words]) == 2
        assert message in capsys.readouterr().err
