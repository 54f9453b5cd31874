"""When training ends: the time is up, or would be after one more step."""

import pytest

from shardwise.train import trainer
from shardwise.train.trainer import LONG_STEP_S, _Watch


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on when it is told to: `clock["s"]`."""
    now = {"s": 1000.0, "worked_s": 0.0}
    monkeypatch.setattr(trainer.time, "monotonic", lambda: now["s"])
    monkeypatch.setattr(trainer.time, "process_time", lambda: now["worked_s"])
    return now


def test_a_step_that_would_end_late_is_not_begun(clock):
    watch = _Watch(deadline=1002.5, stop=None)
    assert watch.report(1, 0.5)
    clock["s"] += 1.0
    assert watch.report(2, 0.4)  # at 1001: the next one ends at 1002
    clock["s"] += 1.0
    assert not watch.report(3, 0.3)  # at 1002: the next one would end at 1003
    assert watch.cut
    assert watch.best_step == 3


def test_short_steps_use_the_time_to_its_end(clock):
    watch = _Watch(deadline=1001.0, stop=None)
    steps = 0
    while watch.report(steps + 1, 0.5):
        steps += 1
        clock["s"] += 0.01
    assert 98 <= steps <= 100


def test_of_a_long_step_some_seconds_count(clock):
    watch = _Watch(deadline=1100.0, stop=None)
    watch.report(1, 0.5)
    clock["s"] += 90.0
    assert watch.report(2, 0.4)  # 10 s are left: the step is looked into on the way
    assert watch.go_on()
    clock["s"] += 10.0 - LONG_STEP_S / 2
    assert watch.go_on()
    assert not watch.report(3, 0.3)


@pytest.mark.parametrize(("share", "expected"), [(1.0, 500), (2.0, 500), (0.25, 200)])
def test_what_comes_after_the_fit_takes_longer_where_others_work_too(clock, share, expected):
    watch = _Watch(deadline=1100.0, stop=None, step_s=0.1)  # a step takes 0.1 s, and as much afterwards
    steps = 0
    while watch.report(steps + 1, 0.5):
        steps += 1
        clock["s"] += 0.1
        clock["worked_s"] += 0.1 * share
    assert abs(steps - expected) <= 2
