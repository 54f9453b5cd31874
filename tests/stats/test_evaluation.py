"""Evaluations in pieces: batches, merging, limits, state, slices."""

import json

import numpy as np
import pyarrow as pa
import pytest

from shardwise.core.errors import ConfigError, DataError
from shardwise.core.state import dump_state, load_state
from shardwise.core.target import Target, Task
from shardwise.stats.evaluation import Evaluation
from shardwise.stats.metrics import METRICS, Pairs, metrics_for
from shardwise.stats.slices import SliceConfig, evaluate_slices, slice_values

TARGETS = {
    Task.BINARY: Target(column="y", task=Task.BINARY, classes=("a", "b")),
    Task.MULTICLASS: Target(column="y", task=Task.MULTICLASS, classes=("a", "b", "c")),
    Task.REGRESSION: Target(column="y", task=Task.REGRESSION),
    Task.COUNT: Target(column="y", task=Task.COUNT),
    Task.QUANTILE: Target(column="y", task=Task.QUANTILE, quantile=0.8),
}


def rows_of(task: Task, rows: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, pa.Array]]:
    rng = np.random.default_rng(11)
    weight = rng.random(rows) + 0.5
    slices = {"town": pa.array(rng.choice(["x", "y", None], rows)), "age": pa.array(rng.normal(size=rows))}
    if not TARGETS[task].task.is_classification:
        mean = rng.gamma(2, 2, rows)
        return rng.poisson(mean).astype(float), mean, weight, slices
    count = len(TARGETS[task].classes)
    y = rng.integers(0, count, rows).astype(float)
    logits = rng.normal(size=(rows, count))
    logits[np.arange(rows), y.astype(int)] += 1
    return y, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), weight, slices


def gather(task: Task, start: int, stop: int, step: int = 333, limit_bytes: int = 1 << 26) -> Evaluation:
    y, prediction, weight, slices = rows_of(task)
    evaluation = Evaluation(TARGETS[task], limit_bytes=limit_bytes, first_row=start)
    for at in range(start, stop, step):
        part = slice(at, min(at + step, stop))
        evaluation.update(y[part], prediction[part], weight[part], {k: v[part] for k, v in slices.items()})
    return evaluation


@pytest.mark.parametrize("task", TARGETS)
def test_pieces_merged_are_the_whole(task: Task) -> None:
    whole, parts = gather(task, 0, 4000, step=4000), gather(task, 0, 1500)
    parts.merge(gather(task, 1500, 1500))
    parts.merge(gather(task, 1500, 4000, step=77))
    assert parts.result(bootstrap=50) == whole.result(bootstrap=50)
    assert [each.to_json() for each in parts.slices()] == [each.to_json() for each in whole.slices()]
    y, prediction, weight, _ = rows_of(task)
    for name, score in whole.result()["metrics"].items():
        expected = METRICS[name].compute(y, prediction, weight, quantile=TARGETS[task].quantile)
        assert score["value"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("task", TARGETS)
def test_above_the_limit_values_stay_close_and_intervals_hold_them(task: Task) -> None:
    exact, small = gather(task, 0, 4000), gather(task, 0, 2500, limit_bytes=1)
    small.merge(gather(task, 2500, 4000, limit_bytes=1))
    assert exact.is_exact
    assert not small.is_exact
    assert len(small.sample()) <= small.limit_rows * 1.25
    expected, found = exact.result(), small.result()
    assert found["rows"] == expected["rows"] == 4000
    for name, score in found["metrics"].items():
        close = {"abs": 2e-3} if "auc" in name or name == "average_precision" else {"rel": 1e-9}
        assert score["value"] == pytest.approx(expected["metrics"][name]["value"], **close)
        width = expected["metrics"][name]["high"] - expected["metrics"][name]["low"]
        assert score["high"] - score["low"] == pytest.approx(width, rel=0.4)
    assert sum(each.rows for each in small.slices() if each.column == "town") == pytest.approx(4000, abs=5)


@pytest.mark.parametrize("limit_bytes", [1, 1 << 26])
@pytest.mark.parametrize("task", [Task.BINARY, Task.REGRESSION])
def test_state_round_trip_goes_on(task: Task, limit_bytes: int) -> None:
    first = gather(task, 0, 2000, limit_bytes=limit_bytes)
    again = Evaluation.from_state(load_state(dump_state(first.state())))
    assert again.result(bootstrap=20) == first.result(bootstrap=20)
    rest = gather(task, 2000, 4000, limit_bytes=limit_bytes)
    first.merge(rest)
    again.merge(rest)
    assert again.result(bootstrap=20) == first.result(bootstrap=20)
    assert [each.to_json() for each in again.slices()] == [each.to_json() for each in first.slices()]


def test_the_sample_does_not_depend_on_batches_or_merging() -> None:
    y, prediction, weight, _ = rows_of(Task.BINARY)
    one, two, three = (Evaluation(TARGETS[Task.BINARY], limit_bytes=1, first_row=row) for row in (0, 0, 1700))
    one.update(y, prediction, weight)
    two.update(y[:1700], prediction[:1700], weight[:1700])
    three.update(y[1700:], prediction[1700:], weight[1700:])
    three.merge(two)
    np.testing.assert_array_equal(one.sample().prediction, three.sample().prediction)


def test_memory_stays_bounded() -> None:
    evaluation = Evaluation(TARGETS[Task.REGRESSION], limit_bytes=100_000)
    for seed in range(40):
        y = np.random.default_rng(seed).normal(size=5000)
        evaluation.update(y, y)
    assert evaluation.rows == 200_000
    assert len(dump_state(evaluation.state())) < 150_000


def test_nothing_gathered_is_nothing_known() -> None:
    result = Evaluation(TARGETS[Task.BINARY]).result()
    assert result["rows"] == 0
    assert {score["value"] for score in result["metrics"].values()} == {None}
    assert Evaluation(TARGETS[Task.BINARY]).slices() == []
    json.dumps(result, allow_nan=False)


def test_unlabelled_rows_do_not_count() -> None:
    evaluation = Evaluation(TARGETS[Task.REGRESSION])
    evaluation.update(np.array([1.0, np.nan, 3.0]), np.zeros(3), np.array([1.0, 1.0, 0.0]))
    assert evaluation.rows == 1


def test_a_metric_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="rmse"):
        gather(Task.REGRESSION, 0, 100).result(["roc_auc"])


def test_slices_cover_all_rows_and_merge_small_ones() -> None:
    rng = np.random.default_rng(0)
    rows = 3000
    pairs = Pairs.labelled(rng.normal(size=rows), rng.normal(size=rows))
    town = pa.array(["big"] * 2000 + ["mid"] * 800 + [f"t{i}" for i in range(190)] + [None] * 10)
    columns = {"town": slice_values(town), "age": slice_values(pa.array(rng.normal(size=rows)))}
    found = evaluate_slices(METRICS["rmse"], pairs, columns)
    towns = {each.value: each.rows for each in found if each.column == "town"}
    assert towns == {"big": 2000, "mid": 800, "(other)": 200}
    ages = [each for each in found if each.column == "age"]
    assert [each.rows for each in ages] == [600] * 5
    assert all(each.score.low < each.score.value < each.score.high for each in found)
    big = METRICS["rmse"].of(pairs.take(slice(0, 2000)))
    assert found[0].score.value == big


def test_slices_of_few_numbers_dates_flags_and_missing_values() -> None:
    pairs = Pairs.labelled(np.zeros(400), np.ones(400))
    columns = {
        "stars": slice_values(pa.array([1, 2, None, 2] * 100)),
        "day": slice_values(pa.array(np.array(["2013-07-01", "2013-08-31"] * 200, dtype="datetime64[D]"))),
        "flag": slice_values(pa.array([True, False, False, None] * 100)),
    }
    found = evaluate_slices(METRICS["mae"], pairs, columns, config=SliceConfig(min_rows=10))
    labels = {column: {e.value: e.rows for e in found if e.column == column} for column in columns}
    assert labels == {
        "stars": {"2": 200, "1": 100, "(missing)": 100},
        "day": {"2013-07": 200, "2013-08": 200},
        "flag": {"false": 200, "true": 100, "(missing)": 100},
    }
    with pytest.raises(DataError, match="list"):
        slice_values(pa.array([[1]]))


def test_groups_behind_a_result_are_told() -> None:
    assert gather(Task.BINARY, 0, 500).result()["groups"] is None
    evaluation = Evaluation(TARGETS[Task.BINARY])
    y, prediction, _, _ = rows_of(Task.BINARY, 400)
    towns = pa.array(["x"] * 360 + [f"t{i}" for i in range(40)])
    evaluation.update(y, prediction, slices={"town": towns})
    result = evaluation.result(["roc_auc"], group="town")
    assert result["groups"] == {"count": 41, "worth": pytest.approx(400**2 / (360**2 + 40)), "largest_share": 0.9}
    area = result["metrics"]["roc_auc"]
    assert (area["low"], area["high"]) == (0.0, 1.0)  # nothing is known, and no 24 digits of it
    loss = evaluation.result(["log_loss"], group="town")["metrics"]["log_loss"]
    assert (loss["low"], loss["high"]) == (None, None)  # and no end of 2.9e13


def test_names_and_shape_of_a_result() -> None:
    result = gather(Task.BINARY, 0, 500).result()
    assert list(result["metrics"]) == metrics_for(Task.BINARY)
    assert all(score["low"] <= score["value"] <= score["high"] for score in result["metrics"].values())
