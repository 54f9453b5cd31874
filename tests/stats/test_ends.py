"""Intervals of means over classes, and of rows that depend on each other."""

import numpy as np
import pyarrow as pa
import pytest

from shardwise.core.target import Target, Task
from shardwise.stats.evaluation import Evaluation
from shardwise.stats.intervals import interval, interval_around, share_ends
from shardwise.stats.metrics import METRICS, Pairs
from shardwise.stats.recalibration import choose_calibrator, choose_decision

BINARY = Target(column="y", task=Task.BINARY, classes=("a", "b"))


def of_two(y: np.ndarray, score: np.ndarray) -> Pairs:
    return Pairs.labelled(y, np.column_stack([1 - score, score]))


def rare(rng: np.random.Generator, rows: int = 1000, share: float = 0.01) -> Pairs:
    y = (rng.random(rows) < share).astype(float)
    return of_two(y, 1 / (1 + np.exp(-(1.5 * y + rng.normal(size=rows) - 0.5))))


@pytest.mark.parametrize("name", ["balanced_accuracy", "f1"])
def test_few_rows_of_a_class_make_the_interval_wide(name: str) -> None:
    truth = METRICS[name].of(rare(np.random.default_rng(0), 1_000_000))
    held = []
    for seed in range(200):
        found = interval(METRICS[name], rare(np.random.default_rng(seed)))
        held.append(found.low <= truth <= found.high)
    assert np.mean(held) >= 0.9  # .62 for the balanced accuracy where all rows count alike


@pytest.mark.parametrize("name", ["balanced_accuracy", "f1", "f1_macro", "roc_auc_ovr"])
def test_a_few_rows_that_are_all_right_do_not_prove_much(name: str) -> None:
    y = np.r_[np.ones(5), np.zeros(995)]
    pairs = of_two(y, y)
    if name in ("f1_macro", "roc_auc_ovr"):
        y = np.r_[np.full(5, 2.0), np.ones(495), np.zeros(500)]
        pairs = Pairs.labelled(y, np.eye(3)[y.astype(int)])
    found = interval(METRICS[name], pairs)
    assert found.value == found.high == 1.0
    assert found.low < 0.95


def test_of_a_class_that_is_never_caught_little_is_known() -> None:
    found = interval(METRICS["f1"], of_two(np.r_[np.ones(5), np.zeros(995)], np.full(1000, 0.1)))
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high > 0.3


def grouped(rng: np.random.Generator, groups: int = 30, each: int = 40) -> tuple[Pairs, np.ndarray]:
    """Rows of a group share a part of their error."""
    units = np.repeat(np.arange(groups), each)
    y = (rng.random(len(units)) < 0.4).astype(float)
    score = 1 / (1 + np.exp(-(y - 0.5 + 1.5 * rng.normal(size=groups)[units] + 0.5 * rng.normal(size=len(units)))))
    return of_two(y, score), units


@pytest.mark.parametrize("name", ["log_loss", "brier_score", "accuracy", "roc_auc", "balanced_accuracy", "f1"])
def test_intervals_of_groups_hold_what_those_of_rows_do_not(name: str) -> None:
    truth = METRICS[name].of(grouped(np.random.default_rng(1), 20_000)[0])
    held = {"rows": [], "groups": []}
    for seed in range(150):
        pairs, units = grouped(np.random.default_rng(seed))
        value = METRICS[name].of(pairs)
        for kind, own in (("rows", None), ("groups", units)):
            found = interval_around(METRICS[name], value, pairs, units=own)
            held[kind].append(found.low <= truth <= found.high)
    assert np.mean(held["groups"]) >= 0.9
    assert np.mean(held["rows"]) < 0.85


def test_a_group_for_each_row_is_as_no_groups() -> None:
    pairs = grouped(np.random.default_rng(0))[0]
    metric = METRICS["log_loss"]
    alone = interval_around(metric, metric.of(pairs), pairs, units=np.arange(len(pairs)))
    assert alone.low == pytest.approx(interval(metric, pairs).low)


def test_the_coverage_of_groups_is_known_less_well() -> None:
    units = np.repeat(np.arange(20), 50)
    holds = (np.random.default_rng(0).random(20)[units] < 0.9).astype(float)
    low, high = share_ends(holds)
    wide = share_ends(holds, units)
    assert wide[1] - wide[0] > 3 * (high - low)
    assert share_ends(np.ones(10), np.zeros(10, np.int64)) == (0.0, 1.0)


def test_one_group_says_nothing() -> None:
    pairs = grouped(np.random.default_rng(0), 1)[0]
    for name in ("log_loss", "accuracy"):
        found = interval_around(METRICS[name], METRICS[name].of(pairs), pairs, units=np.zeros(len(pairs), np.int64))
        assert np.isnan([found.low, found.high]).all()


def test_what_groups_have_by_chance_is_not_learned_as_calibration_or_threshold() -> None:
    by_rows, by_groups = np.zeros(2), np.zeros(2)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        units = np.repeat(np.arange(60), 40)
        true = 1 / (1 + np.exp(-rng.normal(size=60)[units]))  # as far as a model knows it
        y = (rng.random(len(units)) < rng.beta(4 * true[::40], 4 - 4 * true[::40])[units]).astype(float)
        pairs = of_two(y, true)
        for found, parts, own in ((by_rows, np.arange(len(y)) % 5, None), (by_groups, units % 5, units)):
            found += [
                choose_calibrator(pairs, parts, own)[0] is not None,
                bool(choose_decision(METRICS["accuracy"], BINARY, pairs, parts, own)[0]),
            ]
    assert (by_groups <= 3).all()
    assert by_rows[0] > by_groups[0]


def test_slices_are_widened_by_looks_and_groups() -> None:
    pairs, units = grouped(np.random.default_rng(0))
    town = pa.array(np.where(units % 2, "x", "y"))
    evaluation = Evaluation(BINARY)
    evaluation.update(pairs.y, pairs.prediction, None, {"town": town, "group": pa.array(units)})
    plain, looked, dependent = (
        evaluation.slices("accuracy", columns=["town"], **how) for how in ({}, {"looks": 20}, {"group": "group"})
    )
    for narrow, wide in ((plain, looked), (plain, dependent)):
        assert [part.column for part in wide] == ["town", "town"]
        for first, second in zip(narrow, wide, strict=True):
            assert second.score.high - second.score.low > first.score.high - first.score.low


@pytest.mark.parametrize("parts", [1, 3])
def test_r2_of_labels_far_from_zero_is_exact_above_the_limit(parts: int) -> None:
    rng = np.random.default_rng(0)
    y = 1.7e9 + 100 * rng.normal(size=6000)
    prediction = y + 50 * rng.normal(size=6000)
    small = Evaluation(Target(column="y", task=Task.REGRESSION), limit_bytes=1)
    for rows in np.array_split(np.arange(6000), parts):
        piece = Evaluation(small.target, limit_bytes=1, first_row=int(rows[0]))
        piece.update(y[rows], prediction[rows])
        small.merge(piece)
    assert not small.is_exact
    assert small.value(METRICS["r2"]) == pytest.approx(METRICS["r2"].compute(y, prediction), rel=1e-6)


def test_a_prediction_that_is_none_leaves_no_metric_above_the_limit() -> None:
    pairs = rare(np.random.default_rng(0), 4000)
    pairs.prediction[7] = np.nan
    for limit in (1, 1 << 26):
        evaluation = Evaluation(BINARY, limit_bytes=limit)
        evaluation.update(pairs.y, pairs.prediction)
        assert {score["value"] for score in evaluation.result()["metrics"].values()} == {None}
