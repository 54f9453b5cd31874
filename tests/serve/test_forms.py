"""Forms of answers against plain NumPy."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.registry.parts import make_table

from shardwise.core.errors import ConfigError
from shardwise.core.target import Task
from shardwise.data.dataset import open_dataset
from shardwise.serve.batch import predict_files
from shardwise.serve.forms import DTYPES, MANY, AnswerForm, Shaper, top_classes
from shardwise.serve.pieces import PredictOptions

ROWS = 500


@pytest.fixture(scope="module")
def table():
    return make_table(ROWS, Task.MULTICLASS, seed=7)


@pytest.fixture
def source(table, tmp_path):
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=100)
    return open_dataset([str(tmp_path / "rows.parquet")], target_bytes=3000)


def written(predictor, source, out, **form):
    options = PredictOptions(batch_rows=64)
    predict_files(predictor, source, out, keep=["row"], form=AnswerForm(**form), options=options)
    return pq.read_table(out)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_likeliest_classes_come_first(dtype, predictors, table, source, tmp_path):
    predictor = predictors[Task.MULTICLASS]
    found = written(predictor, source, tmp_path / "s.parquet", top_k=2, dtype=dtype)
    names = ["row", "prediction", "top_1_label", "top_1_probability", "top_2_label", "top_2_probability"]
    assert found.schema.names == names
    assert found["row"].to_pylist() == table["row"].to_pylist()
    scores = predictor.predict(table)
    order = np.argsort(-scores, axis=1, kind="stable")
    for place in range(2):
        labels = [predictor.labels[code] for code in order[:, place]]
        assert found[f"top_{place + 1}_label"].to_pylist() == labels
        exact = scores[np.arange(ROWS), order[:, place]]
        assert_holds(found, f"top_{place + 1}_probability", exact, dtype)


def assert_holds(found, name, exact, dtype):
    """As near as its type can be, read as its metadata say."""
    values = found[name].to_numpy()
    metadata = {key.decode(): value.decode() for key, value in (found.schema.field(name).metadata or {}).items()}
    if dtype == "uint8":
        assert values.dtype == np.uint8
        values = float(metadata["scale"]) * (values.astype(float) - int(metadata["zero_point"]))
        np.testing.assert_allclose(values, exact, rtol=0, atol=0.5 / 255 + 1e-12)
    else:
        assert metadata == {}
        np.testing.assert_array_equal(values, exact.astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_classes_that_reach_the_threshold_have_a_row_each(dtype, predictors, table, source, tmp_path):
    predictor = predictors[Task.MULTICLASS]
    scores = predictor.predict(table)
    found = written(predictor, source, tmp_path / "s.parquet", min_probability=0.3, dtype=dtype)
    expected = [
        (table["row"][row].as_py(), predictor.labels[code], scores[row, code])
        for row in range(ROWS)
        for code in np.argsort(-scores[row], kind="stable")
        if scores[row, code] >= 0.3
    ]
    assert 0 < len(expected) != ROWS
    assert found.schema.names == ["row", "label", "probability"]
    assert found["row"].to_pylist() == [row for row, _, _ in expected]
    assert found["label"].to_pylist() == [label for _, label, _ in expected]
    assert_holds(found, "probability", np.array([probability for *_, probability in expected]), dtype)
    first = written(predictor, source, tmp_path / "t.parquet", min_probability=0.3, top_k=1)
    assert first["row"].to_pylist() == list(dict.fromkeys(row for row, _, _ in expected))


def test_of_two_classes_the_rows_of_the_second_are_written(predictor, source, tmp_path):
    table = pq.read_table(source.partitions[0].path)
    found = written(predictor, source, tmp_path / "s.parquet", min_probability=0.8)
    likely = predictor.predict(table)[:, 1] >= 0.8
    assert 0 < likely.sum() < ROWS
    assert found["row"].to_pylist() == table["row"].filter(pa.array(likely)).to_pylist()
    assert set(found["label"].to_pylist()) == {True}


def test_a_folder_in_which_no_row_is_likely_has_the_columns(predictor, source, tmp_path):
    form = AnswerForm(min_probability=1.0)
    assert predict_files(predictor, source, tmp_path / "s", keep=["row"], form=form) == 0
    parts = sorted((tmp_path / "s").glob("part-*"))
    assert len(parts) == len(source.partitions) > 1
    assert {tuple(pq.read_schema(part).names) for part in parts} == {("row", "label", "probability")}


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_classes_in_fewer_bytes(dtype, predictors, table, source, tmp_path):
    predictor = predictors[Task.MULTICLASS]
    found = written(predictor, source, tmp_path / "s.parquet", dtype=dtype)
    assert found["prediction"].to_pylist() == predictor.answer(table).column("prediction").to_pylist()
    scores = predictor.predict(table)
    for code, name in enumerate(predictor.class_names):
        assert_holds(found, f"probability_{name}", scores[:, code], dtype)


@pytest.mark.parametrize("task", [Task.REGRESSION, Task.COUNT])
def test_numbers_as_float32(task, predictors, source, tmp_path):
    table = pq.read_table(source.partitions[0].path)
    found = written(predictors[task], source, tmp_path / "s.parquet", dtype="float32")
    np.testing.assert_array_equal(found["prediction"], predictors[task].predict(table).astype(np.float32))


@pytest.mark.parametrize(
    ("task", "form", "message"),
    [
        (Task.REGRESSION, {"top_k": 1}, "--top-k is for classes, and the package predicts a number, 'y'"),
        (Task.REGRESSION, {"min_probability": 0.5}, "--min-probability is for classes"),
        (Task.COUNT, {"dtype": "uint8"}, r"uint8 is for probabilities.*float32"),
        (Task.REGRESSION, {"dtype": "float16"}, "float16 is for probabilities"),
        (Task.MULTICLASS, {"top_k": 4}, r"--top-k 4 is more than the 3 classes there are.*at most 3"),
        (Task.BINARY, {"top_k": 1, "min_probability": 0.5}, r"two classes.*Leave out --top-k"),
    ],
)
def test_forms_that_do_not_fit_the_task(*, task, form, message, predictors):
    with pytest.raises(ConfigError, match=message):
        Shaper(predictors[task], AnswerForm(**form))


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"top_k": 0}, "at least 1"),
        ({"min_probability": 0.0}, "above 0"),
        ({"min_probability": 1.5}, "at most 1"),
        ({"dtype": "flaot32"}, "Did you mean 'float32'"),
        ({"top_k": 2, "confidence_level": 0.9}, "a column for each class"),
    ],
)
def test_forms_that_cannot_be_meant(form, message):
    with pytest.raises(ConfigError, match=message):
        AnswerForm(**form)


def test_sparse_rows_need_an_id(predictor, source, tmp_path):
    with pytest.raises(ConfigError, match=r"nothing tells which they are.*--keep"):
        predict_files(predictor, source, tmp_path / "s.parquet", form=AnswerForm(min_probability=0.5))


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_text_cannot_hold_small_numbers(dtype, predictor, source, tmp_path):
    with pytest.raises(ConfigError, match=rf"\.csv files cannot hold {dtype}.*Parquet"):
        predict_files(predictor, source, tmp_path / "s.csv", form=AnswerForm(dtype=dtype))


@pytest.mark.parametrize("classes", [2, 5, 80, 300])
def test_top_classes_are_those_of_a_stable_sort(classes):
    rng = np.random.default_rng(0)
    scores = np.round(rng.random((200, classes)), 1)  # many ties
    for count in {1, 2, min(classes, MANY), min(classes, MANY + 1), classes}:
        expected = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        np.testing.assert_array_equal(top_classes(scores, count), expected)
