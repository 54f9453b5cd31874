"""How fast a network learns at each step, and how many epochs it plans for the time that it has."""

import math
from types import SimpleNamespace

import pytest

from shardwise.models.base import FitRun
from shardwise.models.neural import schedule as scheduling
from shardwise.models.neural.schedule import FIRST, SPARE, Schedule

EPOCHS, STEPS = 20, 50


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on when it is told to: `clock.s`."""
    now = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(scheduling.time, "monotonic", lambda: now.s)
    return now


def learned(clock, step_s, limit_s, start=0, **given):
    """(rates of all steps from `start`, schedule, how often it was hurried) of a fit with `limit_s` seconds."""
    end_s = clock.s + limit_s
    hurried: list[float] = []
    run = FitRun(seed=1, left_s=lambda: end_s - clock.s, hurried=lambda: hurried.append(clock.s), **given)
    schedule, rates, step = Schedule(0.01, 0.03, EPOCHS, STEPS), [], start
    while step < schedule.epochs * STEPS:
        schedule.look(step, run)
        rates.append(schedule.rate(step))
        clock.s += step_s(step) if callable(step_s) else step_s
        step += 1
    return rates, schedule, hurried


def test_with_time_enough_the_rates_are_those_of_no_limit(clock):
    free, schedule, _ = learned(clock, 0.01, math.inf)
    assert schedule.epochs == EPOCHS
    assert max(free) == pytest.approx(0.01, rel=0.01)
    assert free[-1] < 1e-6
    needed_s = 0.01 * EPOCHS * STEPS
    rates, _, hurried = learned(clock, 0.01, 1.3 * needed_s)
    assert rates == free
    assert not hurried


@pytest.mark.parametrize("share", [0.12, 0.3, 0.8])
def test_with_less_the_rate_comes_down_in_time(clock, share):
    needed_s = 0.01 * EPOCHS * STEPS
    began = clock.s
    rates, schedule, hurried = learned(clock, 0.01, share * needed_s)
    assert hurried
    assert clock.s - began <= share * needed_s
    assert schedule.epochs >= math.floor(SPARE * share * EPOCHS)
    assert len(rates) == schedule.epochs * STEPS  # whole epochs
    assert rates[-1] < 0.02 * max(rates)
    assert max(rates) > 0.009


def test_it_plans_anew_when_the_pace_changes(clock):
    began, limit_s = clock.s, 10.0
    rates, schedule, hurried = learned(clock, lambda step: 0.01 if step < 200 else 0.04, limit_s)
    assert hurried
    assert schedule.epochs < EPOCHS
    assert clock.s - began <= limit_s
    assert rates[-1] < 0.05 * max(rates)


def test_one_epoch_is_always_planned(clock):
    rates, schedule, _ = learned(clock, 1.0, STEPS * FIRST)
    assert schedule.epochs == 1
    assert len(rates) == STEPS


def test_who_goes_on_counts_its_own_steps(clock):
    rates, schedule, hurried = learned(clock, 0.01, 0.01 * STEPS * 4.9, start=10 * STEPS)
    assert hurried
    assert schedule.epochs == 14
    assert len(rates) == 4 * STEPS


def test_on_a_rung_the_rates_do_not_depend_on_the_clock(clock):
    free, _, _ = learned(clock, 0.01, math.inf)
    rates, _, hurried = learned(clock, 0.01, 1.0, rests_at=3)
    assert rates == free
    assert not hurried


def test_lowered_rates_are_fractions():
    schedule = Schedule(0.01, 0.03, EPOCHS, STEPS)
    assert schedule.rate(500, lowered=1) < schedule.rate(500)


def test_the_first_step_in_which_pytorch_prepares_itself_is_not_its_pace(clock):
    needed_s = 0.01 * EPOCHS * STEPS
    _, schedule, hurried = learned(clock, lambda step: 0.01 if step else 2.0, 1.3 * needed_s + 2.0)
    assert schedule.epochs == EPOCHS
    assert not hurried
