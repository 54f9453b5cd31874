"""Evaluation of a package equals scikit-learn on its predictions."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics as sk
from tests.registry.parts import make_table

from shardwise.core.errors import ConfigError, DataError, SchemaError, TargetError
from shardwise.core.target import Task
from shardwise.data.dataset import open_dataset
from shardwise.serve.evaluate import evaluate
from shardwise.serve.pieces import PredictOptions


@pytest.fixture
def save(tmp_path):
    def written(table):
        pq.write_table(table, tmp_path / "data.parquet", row_group_size=100)
        return open_dataset([str(tmp_path / "data.parquet")], target_bytes=5_000)

    return written


def values(result):
    return {name: metric["value"] for name, metric in result["metrics"].items()}


def test_binary_metrics_are_those_of_scikit_learn(predictor, save):
    table = make_table(500, seed=2)
    result = evaluate(predictor, save(table), bootstrap=50)
    y, scores = table["y"].to_numpy(), predictor.predict(table)[:, 1]
    found = values(result)
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(y, scores))
    assert found["log_loss"] == pytest.approx(sk.log_loss(y, scores))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(y, scores > 0.5))
    assert (result["rows"], result["skipped_rows"], result["unknown_rows"], result["slices"]) == (500, 0, 0, [])
    for metric in result["metrics"].values():
        assert metric["low"] <= metric["value"] <= metric["high"]


@pytest.mark.parametrize(
    ("task", "name", "plain"),
    [
        (Task.MULTICLASS, "accuracy", lambda y, p: np.mean(np.array(["high", "low", "mid"])[p.argmax(axis=1)] == y)),
        (Task.REGRESSION, "rmse", lambda y, p: np.sqrt(np.mean((y - p) ** 2))),
        (Task.COUNT, "mean_poisson_deviance", sk.mean_poisson_deviance),
        (Task.QUANTILE, "mean_pinball_loss", lambda y, p: sk.mean_pinball_loss(y, p, alpha=0.5)),
    ],
)
def test_other_tasks(task, name, plain, predictors, save):
    table = make_table(300, task, seed=2)
    result = evaluate(predictors[task], save(table), bootstrap=10)
    expected = plain(table["y"].to_numpy(zero_copy_only=False), predictors[task].predict(table))
    assert values(result)[name] == pytest.approx(expected)


def test_weights_count(predictor, save):
    weight = np.random.default_rng(0).integers(0, 4, 300).astype(float)
    table = make_table(300, seed=2).append_column("w", pa.array(weight))
    result = evaluate(predictor, save(table), weight="w", bootstrap=10)
    expected = sk.roc_auc_score(table["y"].to_numpy(), predictor.predict(table)[:, 1], sample_weight=weight)
    assert values(result)["roc_auc"] == pytest.approx(expected)
    assert result["skipped_rows"] == (weight == 0).sum()


def test_rows_without_a_label_and_with_an_unknown_one_are_counted_and_left_out(predictors, save):
    predictor, table = predictors[Task.MULTICLASS], make_table(300, Task.MULTICLASS, seed=2)
    labels = table["y"].to_pylist()
    labels[:10], labels[10:13] = [None] * 10, ["strange"] * 3
    result = evaluate(predictor, save(table.set_column(5, "y", pa.array(labels))), bootstrap=10)
    assert (result["rows"], result["skipped_rows"], result["unknown_rows"]) == (287, 10, 3)
    assert values(result) == pytest.approx(values(evaluate(predictor, save(table.slice(13)), bootstrap=10)))


def test_labels_in_another_type_are_the_same_labels(predictor, save):
    table = make_table(200, seed=2)
    texts = table.set_column(5, "y", pa.array([str(value).lower() for value in table["y"].to_pylist()]))
    assert evaluate(predictor, save(texts)) == evaluate(predictor, save(table))


def test_the_result_depends_on_neither_threads_nor_batches(predictor, save):
    dataset = save(make_table(500, seed=2))
    results = [
        evaluate(predictor, dataset, slices=["town"], options=PredictOptions(threads=threads, batch_rows=rows))
        for threads, rows in ((1, 500), (3, 41))
    ]
    assert results[0] == results[1]
    assert evaluate(predictor, dataset, seed=1)["metrics"] != results[0]["metrics"]


def test_slices_are_the_metric_of_their_rows(predictor, save):
    table = make_table(1000, seed=2)
    result = evaluate(predictor, save(table), slices=["town"], metrics=["accuracy"], bootstrap=10)
    assert list(result["metrics"]) == ["accuracy"]
    ulm = table.filter(pa.compute.equal(table["town"], "Ulm"))
    part = next(part for part in result["slices"] if part["value"] == "Ulm")
    assert (part["column"], part["rows"]) == ("town", len(ulm))
    y, scores = ulm["y"].to_numpy(zero_copy_only=False), predictor.predict(ulm)
    assert part["score"] == pytest.approx(sk.accuracy_score(y, scores.argmax(axis=1)))


@pytest.mark.parametrize(
    ("change", "options", "kind", "message"),
    [
        (lambda t: t.rename_columns(["row", "x", "z", "town", "day", "Y"]), {}, TargetError, "no column 'y'"),
        (lambda t: t.drop_columns(["x"]), {}, SchemaError, "lacks 1 column"),
        (lambda t: t, {"weight": "wieght"}, SchemaError, "no column 'wieght'"),
        (lambda t: t, {"slices": ["twon"]}, SchemaError, "Did you mean 'town'"),
        (lambda t: t, {"metrics": ["rmse"]}, ConfigError, "does not fit"),
        (lambda t: t.set_column(5, "y", pa.array([None] * len(t), pa.bool_())), {}, TargetError, "none of the 50 rows"),
        (lambda t: t.set_column(5, "y", pa.array(["a", "b"] * 25)), {}, TargetError, "'a', 'b'.*False, True"),
        (lambda t: t.append_column("w", pa.array([-1.0] * len(t))), {"weight": "w"}, DataError, "from 0 up"),
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated_is_said(*, change, options, kind, message, predictor, save):
    with pytest.raises(kind, match=message):
        evaluate(predictor, save(change(make_table(50))), **options)


def test_a_target_of_numbers_must_be_numbers(predictors, save):
    table = make_table(50, Task.REGRESSION)
    with pytest.raises(TargetError, match="no numbers"):
        evaluate(predictors[Task.REGRESSION], save(table.set_column(5, "y", pa.array(["many"] * 50))))
