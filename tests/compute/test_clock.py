import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shardwise.compute.clock import (
    Deadline,
    Guard,
    Interrupts,
    Stopwatch,
    kept_signals,
    process_age_s,
    stopping_with_the_run,
)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_working_time_counts_over_restarts() -> None:
    clock = Clock()
    first = Stopwatch(clock=clock)
    clock.now_s += 30
    clock_after_restart = Clock()
    second = Stopwatch(used_s=first.used_s(), clock=clock_after_restart)
    clock_after_restart.now_s += 12
    assert second.used_s() == 42


def test_a_deadline_expires_at_its_limit() -> None:
    clock = Clock()
    deadline = Deadline(60, used_s=20, clock=clock)
    assert deadline.remaining_s() == 40
    assert deadline.at_s() == 140
    clock.now_s += 35
    assert not deadline.expired()
    assert deadline.expired(margin_s=5)
    clock.now_s += 6
    assert deadline.expired()
    assert deadline.remaining_s() == -1


def test_no_limit_never_expires() -> None:
    deadline = Deadline(None, used_s=1e9)
    assert deadline.remaining_s() == math.inf
    assert not deadline.expired(margin_s=1e9)
    assert deadline.at_s() == math.inf


def test_a_deadline_travels_to_other_processes() -> None:
    deadline = Deadline(60)
    copy = pickle.loads(pickle.dumps(deadline))
    assert copy.start_s == deadline.start_s
    assert copy.at_s() == pytest.approx(deadline.at_s(), abs=1)


def test_the_process_began_before_its_imports() -> None:
    script = "from shardwise.compute.clock import process_age_s; print(process_age_s())"
    start_s = time.monotonic()
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 0.01 < float(answer.stdout) <= time.monotonic() - start_s + 0.02  # the kernel counts in ticks of 10 ms
    assert process_age_s() == pytest.approx(time.time() - psutil.Process().create_time(), abs=2)


def test_a_process_without_proc_has_an_age(tmp_path: Path) -> None:
    assert 0 <= process_age_s(tmp_path / "stat") <= process_age_s()


def test_a_guard_acts_at_its_moment_from_its_own_thread() -> None:
    acted = threading.Event()
    threads: list[threading.Thread] = []

    def act() -> None:
        threads.append(threading.current_thread())
        acted.set()

    with Guard(time.monotonic() + 0.01, act) as guard:
        assert acted.wait(60)
    assert guard.acted
    assert threads != [threading.main_thread()]


@pytest.mark.parametrize("in_s", [3600, math.inf])
def test_a_cancelled_guard_does_not_act(in_s: float) -> None:
    with Guard(time.monotonic() + in_s, lambda: pytest.fail("it acted")) as guard:
        pass
    guard.cancel()
    assert not guard.acted


def test_a_guard_may_cancel_itself() -> None:
    guards: list[Guard] = []
    ready, over = threading.Event(), threading.Event()

    def act() -> None:
        ready.wait()
        guards[0].cancel()
        over.set()

    guards.append(Guard(time.monotonic(), act))
    ready.set()
    assert over.wait(60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_stops(number: int) -> None:
    before = signal.getsignal(number)
    told = threading.Event()
    with Interrupts(told.set) as interrupts:
        assert not interrupts.stop_requested
        os.kill(os.getpid(), number)
        assert told.wait(60)
        assert interrupts.stop_requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


@pytest.fixture
def came() -> Iterator[list[int]]:
    """Signals that came to the handlers of the process."""
    found: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _: found.append(number)) for number in numbers]
    yield found
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def stopped_by(number: signal.Signals, came: list[int]) -> None:
    with (interrupts := Interrupts()):
        signal.raise_signal(number)
    assert came == []
    interrupts.pass_on()
    interrupts.pass_on()  # once is enough


@pytest.mark.parametrize(("number", "passed"), [(signal.SIGINT, []), (signal.SIGTERM, [signal.SIGTERM])])
def test_the_end_of_the_process_is_asked_for_by_sigterm_alone(
    number: signal.Signals, passed: list[int], came: list[int]
) -> None:
    stopped_by(number, came)
    assert came == passed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_that_are_kept_go_no_further(number: signal.Signals, came: list[int]) -> None:
    with kept_signals() as outer:
        with kept_signals() as kept:
            stopped_by(number, came)
        assert (kept, outer) == ([number], [])
    assert came == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_stops_with_the_run_ends_whatever_the_run_came_to(number: signal.Signals, came: list[int]) -> None:
    def failed() -> None:
        stopped_by(number, came)
        raise ValueError("there is no model yet")

    with pytest.raises(KeyboardInterrupt), stopping_with_the_run():
        stopped_by(number, came)
    assert came == [number]
    came.clear()
    with pytest.raises(KeyboardInterrupt) as caught, stopping_with_the_run():
        failed()
    assert isinstance(caught.value.__context__, ValueError)
    assert came == [number]
    with stopping_with_the_run():
        pass


def test_a_third_signal_ends_the_process() -> None:
    script = """
from shardwise.compute.clock import Interrupts
import os, signal, time
with Interrupts():
    os.kill(os.getpid(), signal.SIGTERM)
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(600)
    except KeyboardInterrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(600)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGTERM


def test_outside_the_main_thread_nothing_is_caught() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def run() -> None:
        with Interrupts() as interrupts:
            seen.extend([signal.getsignal(signal.SIGINT), interrupts.stop_requested])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before, False]
