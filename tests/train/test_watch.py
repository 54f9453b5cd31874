"""When training ends: the time is up, or would be after one more step. What is noticed besides."""

import pytest

from shardwise.core.events import WorkerView
from shardwise.stats.anomalies import DIVERGED, MEMORY_CREEP, PLATEAU, SLOW_DOWN, Anomaly
from shardwise.train import watch as watching
from shardwise.train.watch import LONG_STEP_S, Watch, Workers


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on when it is told to: `clock["s"]`."""
    now = {"s": 1000.0, "worked_s": 0.0}
    monkeypatch.setattr(watching.time, "monotonic", lambda: now["s"])
    monkeypatch.setattr(watching.time, "process_time", lambda: now["worked_s"])
    return now


def test_a_step_that_would_end_late_is_not_begun(clock):
    watch = Watch(deadline=1002.5, stop=None)
    assert watch.report(1, 0.5)
    clock["s"] += 1.0
    assert watch.report(2, 0.4)  # at 1001: the next one ends at 1002
    clock["s"] += 1.0
    assert not watch.report(3, 0.3)  # at 1002: the next one would end at 1003
    assert watch.cut
    assert watch.best_step == 3


def test_what_is_left_is_less_what_comes_after_the_steps(clock):
    watch = Watch(deadline=1010.0, stop=None, step_s=0.5)
    assert watch.left_s() == 10.0
    clock["s"] += 2.0
    clock["worked_s"] += 2.0
    watch.report(4, 0.5)
    assert watch.left_s() == 6.0
    watch.hurry()
    assert watch.hurried
    assert watch.go_on()  # it ends by itself


def test_short_steps_use_the_time_to_its_end(clock):
    watch = Watch(deadline=1001.0, stop=None)
    steps = 0
    while watch.report(steps + 1, 0.5):
        steps += 1
        clock["s"] += 0.01
    assert 98 <= steps <= 100


def test_of_a_long_step_some_seconds_count(clock):
    watch = Watch(deadline=1100.0, stop=None)
    watch.report(1, 0.5)
    clock["s"] += 90.0
    assert watch.report(2, 0.4)  # 10 s are left: the step is looked into on the way
    assert watch.go_on()
    clock["s"] += 10.0 - LONG_STEP_S / 2
    assert watch.go_on()
    assert not watch.report(3, 0.3)


def test_on_a_rung_training_rests_and_is_not_cut(clock):
    watch = Watch(deadline=2000.0, stop=None, rounds=3)
    assert watch.report(1, 0.5)
    assert watch.report(2, 0.4)
    assert not watch.report(3, 0.3)
    assert watch.rests
    assert not watch.cut


@pytest.mark.parametrize(("share", "expected"), [(1.0, 500), (2.0, 500), (0.25, 200)])
def test_what_comes_after_the_fit_takes_longer_where_others_work_too(clock, share, expected):
    watch = Watch(deadline=1100.0, stop=None, step_s=0.1)  # a step takes 0.1 s, and as much afterwards
    steps = 0
    while watch.report(steps + 1, 0.5):
        steps += 1
        clock["s"] += 0.1
        clock["worked_s"] += 0.1 * share
    assert abs(steps - expected) <= 2


def test_pace_and_memory_are_told_at_the_end_and_change_nothing(clock, monkeypatch):
    used = iter(range(10**9, 10**11, 10**8))
    monkeypatch.setattr(watching, "tree_memory_bytes", used.__next__)
    watch = Watch(deadline=10**9, stop=None)
    watch.noticed.append(Anomaly(kind=DIVERGED, step=1, text="It diverged."))
    for step in range(1, 61):
        took_s = 0.0 if step <= 20 else 5.0 if step <= 45 else 45.0  # twenty steps out of a checkpoint
        clock["s"] += took_s
        clock["worked_s"] += min(took_s, 5.0)
        assert watch.report(step, 1.0 / step)
    found = {anomaly.kind: anomaly for anomaly in watch.anomalies(2.0, 1000, 2**62)}
    assert list(found) == [DIVERGED, SLOW_DOWN, MEMORY_CREEP]
    assert found[SLOW_DOWN].evidence["rows_s_before"] == pytest.approx(200)
    assert "waits for others on the machine" in found[SLOW_DOWN].text


def test_a_fit_that_learns_nothing_is_told(clock):
    watch = Watch(deadline=10**9, stop=None)
    for step in range(1, 10):
        watch.report(step, 0.7)
    assert [anomaly.kind for anomaly in watch.anomalies(0.69, 10, 2**62)] == [PLATEAU]


def test_a_worker_is_named_once_in_a_fit():
    named = []
    workers = Workers(named.append)

    def look(second, rows):
        fast = WorkerView(rank=0, place="a:1", rows=rows, work_s=0.2 * second, wait_s=0.8 * second)
        workers([fast, WorkerView(rank=1, place="b:2", rows=rows, work_s=float(second))], second)

    for second in range(12):
        look(second, 100 * second)
    assert [(anomaly.evidence["worker"], anomaly.step) for anomaly in named] == [(1.0, 5)]
    assert "Worker 1 (b:2)" in named[0].text
    for second in range(12):  # the gang began again
        look(second, 10 * second)
    assert len(named) == 1
