"""Calibrators and decisions are taken where they help rows that they were not learned from, and only there."""

import numpy as np
import pytest
from sklearn import metrics as sk
from tests.stats.test_calibrators import drawn

from shardwise.core.target import Target, Task
from shardwise.stats.metrics import METRICS, Pairs, decided
from shardwise.stats.parts import group_parts
from shardwise.stats.recalibration import best_decision, choose_calibrator, choose_decision

BINARY = Target(column="y", task=Task.BINARY, classes=("no", "yes"))
THREE = Target(column="y", task=Task.MULTICLASS, classes=("a", "b", "c"))


def rare(rows: int = 4000, seed: int = 0) -> Pairs:
    """Two classes, one of a tenth of the rows, and true probabilities."""
    rng = np.random.default_rng(seed)
    positive = 1 / (1 + np.exp(-(rng.normal(0, 1.5, rows) - 3)))
    y = (rng.random(rows) < positive).astype(np.float64)
    return Pairs(y, np.column_stack([1 - positive, positive]), np.ones(rows))


def parts(pairs: Pairs) -> np.ndarray:
    return np.arange(len(pairs)) % 5


@pytest.mark.parametrize("classes", [2, 4])
def test_what_is_too_sure_is_calibrated_and_the_log_loss_falls(classes):
    pairs = drawn(4000, classes=classes, hot=2.0)
    calibrator, crossed, told = choose_calibrator(pairs, parts(pairs))
    assert calibrator is not None
    assert told["chosen"] == calibrator.kind
    after = METRICS["log_loss"].of(Pairs(pairs.y, crossed, pairs.weight))
    assert after == pytest.approx(told[calibrator.kind])
    assert after < told["before"] - 0.02
    fresh = drawn(4000, classes=classes, hot=2.0, seed=1)
    applied = Pairs(fresh.y, calibrator.apply(fresh.prediction), fresh.weight)
    assert METRICS["log_loss"].of(applied) < METRICS["log_loss"].of(fresh) - 0.02


def test_right_probabilities_are_left_as_they_are():
    chosen = [choose_calibrator(pairs, parts(pairs))[0] for pairs in (drawn(2000, hot=1.0, seed=s) for s in range(20))]
    assert sum(each is not None for each in chosen) <= 1


def test_too_few_rows_are_not_calibrated():
    pairs = drawn(150)
    calibrator, crossed, _ = choose_calibrator(pairs, parts(pairs))
    assert calibrator is None
    np.testing.assert_array_equal(crossed, pairs.prediction)


@pytest.mark.parametrize("groups", [1, 3, 40])
def test_few_groups_say_nothing_of_a_calibration_or_a_decision(groups):
    pairs = drawn(4000, hot=2.0)
    units = np.arange(4000) * groups // 4000
    assert (choose_calibrator(pairs, group_parts(units, 5), units)[0] is None) is (groups < 5)
    decision, _, found = choose_decision(METRICS["f1"], BINARY, rare(), group_parts(units, 5), units)
    assert (found is None) is (groups < 5)
    assert len(decision) == (0 if groups < 5 else 2)
    one = np.zeros(4000, np.int64)
    assert choose_calibrator(pairs, one)[0] is None


@pytest.mark.parametrize("name", ["f1", "balanced_accuracy", "accuracy"])
def test_the_threshold_is_the_best_of_all(name):
    pairs = rare(300)
    threshold = best_decision(METRICS[name], pairs)[0]
    score = {"f1": sk.f1_score, "balanced_accuracy": sk.balanced_accuracy_score, "accuracy": sk.accuracy_score}[name]
    every = [score(pairs.y, pairs.score > t) for t in np.unique(pairs.score)[:-1]]
    assert score(pairs.y, pairs.score > threshold) == pytest.approx(max(every))


@pytest.mark.parametrize("name", ["f1", "balanced_accuracy"])
def test_a_decision_raises_the_metric_of_rows_that_it_was_not_chosen_on(name):
    pairs = rare()
    metric = METRICS[name]
    weights, weighted, found = choose_decision(metric, BINARY, pairs, parts(pairs))
    assert found is not None
    assert found.challenger == pytest.approx(metric.of(Pairs(pairs.y, weighted, pairs.weight)))
    assert found.challenger > found.champion + 0.05
    target = Target(column="y", task=Task.BINARY, classes=("no", "yes"), decision=weights)
    fresh = rare(seed=1)
    assert metric.of(decided(metric, fresh, target)) > metric.of(fresh) + 0.05
    np.testing.assert_array_equal(target.classes_of(fresh.prediction), fresh.score > weights[0])


def test_of_several_classes_the_rare_ones_weigh_more():
    rng = np.random.default_rng(0)
    logits = rng.normal([2.0, 0.0, -1.0], 1.0, (6000, 3))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = (true.cumsum(axis=1) < rng.random((6000, 1))).sum(axis=1).astype(np.float64)
    pairs = Pairs(y, true, np.ones(6000))
    for name, least in (("balanced_accuracy", 0.1), ("f1_macro", 0.02)):
        weights, _, found = choose_decision(METRICS[name], THREE, pairs, parts(pairs))
        assert found.challenger > found.champion + least
        assert weights[2] > weights[1] > weights[0]
        assert sum(weights) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["roc_auc", "log_loss"])
def test_a_metric_of_probabilities_needs_no_decision(name):
    pairs = rare()
    assert choose_decision(METRICS[name], BINARY, pairs, parts(pairs)) == ((), pairs.prediction, None)


def test_the_usual_threshold_stays_where_no_other_is_better():
    chosen = [
        choose_decision(METRICS["accuracy"], BINARY, p, parts(p))[0]
        for p in (drawn(1500, hot=1.0, seed=s) for s in range(20))
    ]
    assert sum(bool(each) for each in chosen) <= 2
