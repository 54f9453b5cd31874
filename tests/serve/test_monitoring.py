"""New data against a package: what is like training is silent, what is not is named with its partition."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tests.registry.parts import make_package, make_table
from tests.serve.profiled import make_profiled

from shardwise.core.errors import ConfigError, PackageError, SchemaError
from shardwise.core.target import Task
from shardwise.data.dataset import open_dataset
from shardwise.serve.monitoring import MonitorConfig, monitor
from shardwise.serve.pieces import PredictOptions
from shardwise.serve.predictor import Predictor

METRICS = {"test": {"roc_auc": {"value": 0.95, "low": 0.94, "high": 0.96}}}
QUIET = MonitorConfig(window_rows=500, detector=None)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    return Predictor.load(make_profiled(tmp_path_factory.mktemp("watched"), metrics=METRICS))


@pytest.fixture
def save(tmp_path):
    def written(**tables):
        for name, table in tables.items():
            pq.write_table(table, tmp_path / f"{name}.parquet")
        return open_dataset([str(tmp_path / f"{name}.parquet") for name in tables])

    return written


def moved(table, by=3.0):
    return table.set_column(1, "x", pc.add(table["x"], by))


def test_rows_like_those_of_training_are_silent(watched, save):
    result = monitor(watched, save(a=make_table(2600, seed=9)), QUIET)
    assert (result["rows"], len(result["windows"])) == (2600, 6)
    assert result["findings"] == []
    assert result["suggestion"] == ""
    assert [column["column"] for column in result["columns"]] == list(watched.columns)


def test_the_partition_that_moved_is_what_to_retrain_on(watched, save):
    data = save(april=make_table(1000, seed=9), may=moved(make_table(1000, seed=10)))
    result = monitor(watched, data, QUIET)
    assert {tuple(finding["columns"]) for finding in result["findings"]} >= {("x",)}
    assert "may.parquet" in result["suggestion"]
    assert "april.parquet" not in result["suggestion"]
    assert [bool(window["findings"]) for window in result["windows"]][:3] == [False, False, True]


def test_new_towns_and_missing_cells_are_told(watched, save):
    table = make_table(1000, seed=9)
    towns = pa.array(["Trier"] * 50 + table["town"].to_pylist()[50:])
    result = monitor(watched, save(a=table.set_column(3, "town", towns)), QUIET)
    assert "Trier" in next(f["text"] for f in result["findings"] if f["code"] == "drift_new")
    holes = pa.array([None] * 500 + table["z"].to_pylist()[500:], pa.float32())
    result = monitor(watched, save(a=table.set_column(2, "z", holes)), QUIET)
    assert "drift_missing" in {finding["code"] for finding in result["findings"]}


def test_quality_is_compared_with_the_sealed_test(watched, save):
    table = make_table(2000, seed=9)
    good = monitor(watched, save(a=table), QUIET)["quality"]
    assert (good["metric"], good["rows"], good["test"]["value"]) == ("roc_auc", 2000, 0.95)
    wrong = table.set_column(5, "y", pc.invert(table["y"]))
    bad = monitor(watched, save(a=wrong), QUIET)
    assert bad["quality"]["now"]["value"] == pytest.approx(1 - good["now"]["value"])
    assert "quality" in {finding["code"] for finding in bad["findings"]}


def test_a_relation_that_turns_is_concept_drift(watched, save):
    pytest.importorskip("river", reason="the extra `monitor` is not installed")
    table = make_table(4000, seed=9)
    labels = table["y"].to_pylist()
    turned = pa.array([*labels[:2000], *(not label for label in labels[2000:])])
    result = monitor(watched, save(a=table.set_column(5, "y", turned)), MonitorConfig(window_rows=1000))
    found = [finding for finding in result["findings"] if finding["code"] == "concept_drift"]
    assert 2000 < found[0]["evidence"]["rows"] < 2600


def test_the_result_depends_on_neither_threads_nor_batches(watched, save):
    data = save(a=make_table(1200, seed=9), b=moved(make_table(700, seed=10), 0.4))
    results = [
        monitor(watched, data, QUIET, options=PredictOptions(threads=t, batch_rows=r)) for t, r in ((1, 500), (3, 77))
    ]
    windows = [[{**w, "findings": [f["code"] for f in w["findings"]]} for w in result["windows"]] for result in results]
    assert windows[0] == windows[1]


def test_rows_without_labels_have_no_quality(watched, save):
    assert monitor(watched, save(a=make_table(600).drop_columns(["y"])), QUIET)["quality"] == {}


def test_labels_that_the_model_does_not_know_are_a_finding(tmp_path_factory, save):
    model = Predictor.load(make_profiled(tmp_path_factory.mktemp("classes"), Task.MULTICLASS))
    table = make_table(1000, Task.MULTICLASS, seed=9)
    labels = pa.array(["huge"] * 30 + [None] * 20 + table["y"].to_pylist()[50:])
    [found] = monitor(model, save(a=table.set_column(5, "y", labels)), QUIET)["findings"]
    assert (found["code"], found["columns"], found["evidence"]["rows"]) == ("unknown_labels", ["y"], [30, 980])
    assert "'huge'" in found["text"]


def test_rows_that_are_too_few_to_be_judged_are_counted(watched, save):
    assert monitor(watched, save(a=make_table(640, seed=9)), QUIET)["unjudged_rows"] == 0
    assert monitor(watched, save(a=make_table(540, seed=9)), QUIET)["unjudged_rows"] == 40


def test_what_cannot_be_watched_is_said(watched, save, tmp_path):
    with pytest.raises(PackageError, match="no profile"):
        monitor(Predictor.load(make_package(tmp_path)), save(a=make_table(50)))
    with pytest.raises(SchemaError, match="lacks 1 column"):
        monitor(watched, save(a=make_table(50).drop_columns(["x"])))
    with pytest.raises(ConfigError, match="window of 3 rows"):
        MonitorConfig(window_rows=3)
