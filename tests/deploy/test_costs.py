"""Costs are measured in turns, and ratios judged by what is sure."""

import time

import numpy as np
import pytest
from tests.registry.parts import make_table

from shardwise.core.errors import TaskFailed
from shardwise.core.target import Task
from shardwise.deploy.costs import cost_checks, in_turns, median_interval, memory_check
from shardwise.deploy.settings import GateConfig
from shardwise.deploy.verdict import Status
from shardwise.serve.predictor import Predictor


def test_each_work_is_done_in_each_round_with_its_number():
    seen = {0: [], 1: []}
    seconds = in_turns([seen[0].append, seen[1].append], 20)
    assert seen[0] == seen[1] == [0, *range(20)]
    assert seconds.shape == (20, 2)
    assert (seconds >= 0).all()


def test_a_slow_challenger_is_seen(folders, changed):
    def slow(scores, _):
        time.sleep(0.03)
        return scores

    rows, fast = make_table(200).drop_columns(["row", "y"]), Predictor.load(folders[Task.BINARY])
    told = {check.name: check for check in cost_checks((fast, changed(slow)), rows, GateConfig(latency_ratio=1.1))}
    assert told["latency of 200 rows"].status is Status.FAIL
    assert told["latency of 200 rows"].evidence["low"] > 1.1
    assert told["size on disk"].evidence["ratio"] == 1.0
    assert told["memory"].evidence["challenger_bytes"] > 0


def test_the_interval_of_the_median_holds_it():
    held = []
    for seed in range(500):
        _, low, high = median_interval(np.random.default_rng(seed).lognormal(size=41), 0.95)
        held.append(low <= 1.0 <= high)
    assert np.mean(held) >= 0.93


def test_a_package_that_cannot_be_measured_is_said(folders, tmp_path, monkeypatch):
    predictor = Predictor.load(folders[Task.BINARY])
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(TaskFailed, match="process of its own"):
        memory_check((predictor, predictor), make_table(10), GateConfig())
