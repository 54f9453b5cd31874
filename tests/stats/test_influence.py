"""Influences are what the jackknife finds row by row."""

import numpy as np
import pytest

from shardwise.core.target import Task
from shardwise.stats.influence import influence
from shardwise.stats.metrics import METRICS, Pairs, metrics_for


def pairs_of(task: Task, rows: int = 400) -> Pairs:
    rng = np.random.default_rng(0)
    weight = rng.uniform(0.5, 2.0, rows)
    if task.is_classification:
        classes = 2 if task is Task.BINARY else 3
        y = rng.integers(0, classes, rows).astype(float)
        raw = rng.gamma(2.0, size=(rows, classes)) + 2.0 * np.eye(classes)[y.astype(int)]
        prediction = np.round(raw / raw.sum(axis=1, keepdims=True), 2)  # with ties
        return Pairs(y, prediction / prediction.sum(axis=1, keepdims=True), weight)
    y = rng.poisson(3.0, rows).astype(float)
    return Pairs(y, np.maximum(y + rng.normal(size=rows), 0.1), weight)


CASES = [(task, name) for task in Task for name in metrics_for(task)]


@pytest.mark.parametrize(("task", "name"), CASES)
def test_the_influence_is_the_change_of_the_metric_with_a_weight(task, name):
    pairs, metric = pairs_of(task), METRICS[name]
    found = influence(metric, pairs, 0.5)
    assert found.sum() == pytest.approx(0.0, abs=1e-9)
    step = 1e-4
    for row in range(0, len(pairs), 37):
        ends = []
        for sign in (1, -1):
            weight = pairs.weight.copy()
            weight[row] *= 1 + sign * step
            ends.append(metric.of(Pairs(pairs.y, pairs.prediction, weight), 0.5))
        assert found[row] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-3, abs=1e-8)
