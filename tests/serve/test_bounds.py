"""Calibration, decisions, intervals and sets: the same in a batch, in a row, in files and over HTTP."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.registry.parts import make_answers, make_package, make_table

from shardwise.core.errors import ConfigError
from shardwise.core.target import Task
from shardwise.data.dataset import open_dataset
from shardwise.registry.package import load_package
from shardwise.serve.batch import predict_files
from shardwise.serve.forms import AnswerForm
from shardwise.serve.online.live import Served
from shardwise.serve.online.rows import answer_json
from shardwise.serve.pieces import PredictOptions
from shardwise.serve.predictor import Predictor

LEVEL = 0.9


@pytest.mark.parametrize("task", list(Task))
def test_batch_row_file_and_server_answer_the_same(task, promising, tmp_path):
    predictor, table = promising[task], make_table(40, task, seed=3)
    answer = predictor.answer(table, confidence_level=LEVEL)
    rows = table.drop_columns(["y", "row"]).to_pylist()
    assert [predictor.predict_one(row, confidence_level=LEVEL) for row in rows] == answer.to_pylist()
    pq.write_table(table, tmp_path / "rows.parquet")
    how = {"form": AnswerForm(confidence_level=LEVEL), "options": PredictOptions(batch_rows=7)}
    predict_files(predictor, open_dataset([str(tmp_path / "rows.parquet")]), tmp_path / "out.csv", **how)
    predict_files(predictor, open_dataset([str(tmp_path / "rows.parquet")]), tmp_path / "out.parquet", **how)
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == answer.to_pylist()
    served = Served("m", "1", "x", predictor)
    told = json.loads(answer_json(served, predictor.scores_of_rows(rows), single=False, level=LEVEL))["predictions"]
    if task.is_classification:
        names = [name for name in answer.schema.names if name.startswith("in_set_")]
        held = np.column_stack([answer.column(name).to_numpy(zero_copy_only=False) for name in names])
        np.testing.assert_array_equal(predictor.predict_set(table, confidence_level=LEVEL), held)
        labels = predictor.labels
        assert [each["set"] for each in told] == [[labels[k] for k in np.flatnonzero(row)] for row in held]
        assert [each["prediction"] for each in told] == answer.column("prediction").to_pylist()
    else:
        ends = predictor.predict_interval(table, confidence_level=LEVEL)
        assert [each["interval"] for each in told] == ends.tolist()
        assert (ends[:, 0] < ends[:, 1]).all()


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS])
def test_the_label_is_the_decided_one_and_the_probabilities_are_calibrated(task, promising, tmp_path):
    predictor, table = promising[task], make_table(200, task, seed=3)
    plain = Predictor.load(make_package(tmp_path, task))
    scores = predictor.predict(table)
    np.testing.assert_array_equal(scores, make_answers(task)["calibrator"].apply(plain.predict(table)))
    decided = (scores * predictor.target.decision).argmax(axis=1)
    assert (decided != scores.argmax(axis=1)).any()
    assert predictor.answer(table).column("prediction").to_pylist() == [predictor.labels[k] for k in decided]


def test_a_package_loads_with_the_same_bytes_of_its_scores(promising, tmp_path):
    first = promising[Task.BINARY].package
    second = load_package(make_package(tmp_path, Task.BINARY, **make_answers(Task.BINARY)))
    assert first.hash == second.hash
    assert first.golden_difference == 0.0
    assert {"answers.json", "answers.arrays"} <= set(first.manifest.files)


def test_what_cannot_be_promised_is_refused(promising, predictors, tmp_path):
    table = make_table(5)
    with pytest.raises(ConfigError, match="no scores of which"):
        predictors[Task.BINARY].answer(table, confidence_level=LEVEL)
    with pytest.raises(ConfigError, match=r"0\.9999 takes more"):
        promising[Task.BINARY].answer(table, confidence_level=0.9999)
    with pytest.raises(ConfigError, match="predict_set"):
        promising[Task.BINARY].predict_interval(table, confidence_level=LEVEL)
    with pytest.raises(ConfigError, match="predict_interval"):
        promising[Task.REGRESSION].predict_set(make_table(5, Task.REGRESSION), confidence_level=LEVEL)
