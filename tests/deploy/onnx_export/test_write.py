"""A whole package as ONNX: the gap to the Predictor, what other tools read of it, and what is refused."""

import json

import numpy as np
import pyarrow as pa
import pytest

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

from tests.registry.parts import make_answers, make_package, make_table  # noqa: E402

from shardwise.cli import run  # noqa: E402
from shardwise.core.errors import ConfigError, PackageError  # noqa: E402
from shardwise.core.target import Task  # noqa: E402
from shardwise.deploy.onnx_export import write  # noqa: E402
from shardwise.deploy.onnx_export.write import Session, onnx_model, write_onnx  # noqa: E402
from shardwise.registry.package import load_package  # noqa: E402
from shardwise.serve.predictor import Predictor  # noqa: E402

TASKS = (Task.BINARY, Task.MULTICLASS, Task.REGRESSION)
GAP = 1e-13  # of the greatest answer: the order in which trees and weights are added


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Calibrated blends of trees and linear models, of three tasks."""
    made = {}
    for task in TASKS:
        folder = tmp_path_factory.mktemp(f"onnx-{task}")
        made[task] = make_package(folder, task, ("trees", "linear"), **make_answers(task))
    return made


@pytest.mark.parametrize("task", TASKS)
def test_thousands_of_rows_have_the_answers_of_the_predictor(folders, task, tmp_path):
    package = load_package(folders[task])
    write_onnx(package, tmp_path / "model.onnx")
    rows, predictor = make_table(5000, task, seed=7), Predictor(package)
    expected = predictor.predict(rows)
    found = Session(tmp_path / "model.onnx").answer(rows)
    assert np.abs(found[-1].reshape(expected.shape) - expected).max() <= GAP * np.abs(expected).max()
    if task.is_classification:
        assert found[0][:, 0].tolist() == predictor.answer(rows).column("prediction").to_pylist()


def test_what_a_client_without_shardwise_does(folders, tmp_path):
    """By names, types and metadata alone, as the documentation has it."""
    out = tmp_path / "model.onnx"
    assert run(["export", str(folders[Task.MULTICLASS]), "--format", "onnx", "--out", str(out)]) == 0
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    assert {each.name: (each.type, each.shape) for each in session.get_inputs()} == {
        "x": ("tensor(double)", ["rows", 1]), "z": ("tensor(float)", ["rows", 1]),
        "town": ("tensor(string)", ["rows", 1]), "day": ("tensor(int64)", ["rows", 1]),
    }  # fmt: skip
    rows = [
        {"x": 0.25, "z": 0.5, "town": "Köln", "day": "2024-05-01"},
        {"x": None, "z": 0.1, "town": None, "day": None},
    ]
    days = np.array([[row["day"] or "NaT"] for row in rows], "datetime64[us]")
    label, probabilities = session.run(None, {
        "x": np.array([[0.25], [np.nan]]), "z": np.array([[0.5], [0.1]], np.float32),
        "town": np.array([["Köln"], [""]]), "day": days.astype(np.int64),
    })  # fmt: skip
    about = session.get_modelmeta().custom_metadata_map
    classes = json.loads(about["classes"])
    predictor = Predictor.load(folders[Task.MULTICLASS])
    assert about["package"] == predictor.package.hash
    for number, row in enumerate(rows):
        answer = predictor.predict_one(row)
        assert label[number, 0] == answer["prediction"]
        np.testing.assert_allclose(
            probabilities[number], [answer[f"probability_{each}"] for each in classes], rtol=1e-12
        )


def test_what_is_taken_for_a_missing_cell_is_said_in_the_graph(folders, tmp_path):
    out, package = tmp_path / "model.onnx", load_package(folders[Task.BINARY])
    write_onnx(package, out)
    about = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"]).get_modelmeta().description
    assert "an empty text and the integer -2**63 are missing here" in about
    fields = package.inputs
    empty, missing = (
        pa.table([pa.array([{"x": 0.25, "z": 0.5, "town": town}.get(field.name)], field.type) for field in fields],
                 schema=fields) for town in ("", None)
    )  # fmt: skip
    assert np.array_equal(Session(out).scores(empty), Session(out).scores(missing))
    np.testing.assert_allclose(Session(out).scores(missing), Predictor(package).predict(missing), rtol=1e-12)


def test_the_same_package_gives_the_same_bytes(folders):
    package = load_package(folders[Task.BINARY])
    first, second = (onnx_model(package).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_golden_rows_that_are_answered_differently_are_an_error(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(write.answers, "calibrated", lambda graph, scores, _calibrator: scores)
    with pytest.raises(PackageError, match="golden rows differently"):
        write_onnx(load_package(folders[Task.BINARY]), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_files_that_are_no_model_of_ours(tmp_path):
    (tmp_path / "other.onnx").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="no model of ONNX that shardwise wrote"):
        Session(tmp_path / "other.onnx")
