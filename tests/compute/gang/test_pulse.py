"""Who is lost: judged by a clock and states that are made up, by real processes, and by real gangs."""

import ctypes
import itertools
import operator
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shardwise.compute.gang import pulse as pulses
from shardwise.compute.gang.base import Member
from shardwise.compute.gang.local import process_gang
from shardwise.compute.gang.pulse import PATIENCE_S, SILENT_S, STOPPED_S, Look, Process, Pulse, State, look
from shardwise.core.errors import MemberLost
from shardwise.testing.gangs import Signals

linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells of processes on Linux alone")
SOMEBODY = Process("a machine", 1, 2)


def silent_until(states: Iterator[Look], until_s: float = 1000.0) -> tuple[float, str]:
    """When a member that never beats is lost, looked at every tenth of a second, and why."""
    judge = Pulse(SOMEBODY, 0.0, lambda _process: next(states))
    for tenths in range(int(10 * until_s)):
        if why := judge.lost(tenths / 10):
            return tenths / 10, why
    return until_s, ""


def sleeping_and_using(*ticks: int) -> Iterator[Look]:
    return itertools.chain(
        (Look(State.SLEEPS, each) for each in ticks), itertools.repeat(Look(State.SLEEPS, ticks[-1]))
    )


@pytest.mark.parametrize(
    ("state", "at_least_s", "at_most_s"),
    [
        (State.GONE, 2.0, 3.0),
        (State.STOPPED, STOPPED_S, STOPPED_S + 1),
        (State.SLEEPS, SILENT_S, SILENT_S + 1),
        (State.RUNS, PATIENCE_S, PATIENCE_S + 1),
    ],
)
def test_how_long_silence_is_borne(state: State, at_least_s: float, at_most_s: float) -> None:
    lost_s, why = silent_until(itertools.repeat(Look(state)))
    assert at_least_s <= lost_s <= at_most_s
    assert f"silent for {lost_s:.0f} s" in why
    assert why.endswith(f"its process {state.value}")


def test_a_process_that_sleeps_between_steps_lives_while_it_uses_time() -> None:
    lost_s, _ = silent_until(sleeping_and_using(*range(60)))
    assert SILENT_S + 25 < lost_s < SILENT_S + 40  # 60 looks, two a second, then silence


def test_one_that_is_stopped_after_it_worked_in_silence_is_lost_at_once() -> None:
    worked = itertools.chain(itertools.repeat(Look(State.RUNS), 20), itertools.repeat(Look(State.STOPPED)))
    lost_s, why = silent_until(worked)
    assert SILENT_S < lost_s < SILENT_S + 5
    assert "is stopped" in why


@pytest.mark.parametrize(("state", "lost"), [(state, state is State.STOPPED) for state in State])
def test_one_whose_work_has_ended_is_lost_when_it_is_stopped_alone(state: State, *, lost: bool) -> None:
    judge = Pulse(SOMEBODY, 0.0, lambda _process: Look(state))
    assert bool([why for seconds in range(1000) if (why := judge.lost(seconds, ended=True))]) == lost


def test_where_nothing_is_told_of_the_process_beats_alone_count() -> None:
    judge = Pulse(None, 0.0)
    assert judge.lost(SILENT_S) == ""
    assert judge.lost(SILENT_S + 0.1) == f"it has been silent for {SILENT_S:.0f} s"
    judge.beat(SILENT_S + 0.2)
    assert judge.lost(2 * SILENT_S) == ""
    judge.forgive(5.0)
    assert judge.lost(2 * SILENT_S + 5.0) == ""
    assert judge.lost(2 * SILENT_S + 5.3) != ""


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def of(pid: int) -> Process:
    process = Process.of(pid)
    assert process is not None
    return process


def seen(process: Process, wanted: State) -> bool:
    """Whether it gets there: a process that was just started or woken takes its time."""
    until_s = time.monotonic() + 30
    while (found := look(process).state) is not wanted and time.monotonic() < until_s:
        time.sleep(0.01)
    return found is wanted


@linux
def test_what_the_kernel_tells(sleeper: subprocess.Popen[bytes]) -> None:
    process = of(sleeper.pid)
    assert process.is_here()
    assert seen(process, State.SLEEPS)
    assert look(Process(process.machine, process.pid, process.started + 1)).state is State.GONE
    assert not Process("another", process.pid, process.started).is_here()
    sleeper.send_signal(signal.SIGSTOP)
    assert look(process).state is State.STOPPED  # from the moment of the signal on
    sleeper.send_signal(signal.SIGCONT)
    assert seen(process, State.SLEEPS)
    sleeper.kill()
    assert seen(process, State.GONE)  # though nobody has asked for its exit code yet
    sleeper.wait()
    assert look(process).state is State.GONE
    assert not process.is_here()
    assert Process.of(sleeper.pid) is None


WORKS_BESIDE = """
import hashlib, sys, threading
threading.Thread(target=hashlib.pbkdf2_hmac, args=("sha256", b"", b"", 2**31 - 1), daemon=True).start()
print("started", flush=True)
sys.stdin.read()
"""


@linux
def test_a_thread_that_works_is_a_sign_though_the_first_one_sleeps() -> None:
    command = [sys.executable, "-c", WORKS_BESIDE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        stat = Path(f"/proc/{process.pid}/task/{process.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "S":  # the first one waits for the pipe
            time.sleep(0.01)
        assert look(of(process.pid)).state is State.RUNS
        process.kill()


def has_called() -> bool:
    """Whether this process has no witness, or one that has called the desk: on a busy machine it starts slowly."""
    children = psutil.Process().children()
    files = [file for child in children for file in Path(f"/proc/{child.pid}/fd").iterdir()]
    return not children or any(target(file).startswith("socket:") for file in files)


def target(link: Path) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:  # it was closed meanwhile
        return ""


def hold(member: Member) -> int:
    """One member computes for seconds without ever giving Python's lock to its heart; the other waits for it."""
    until_s = time.monotonic() + 30
    while not has_called() and time.monotonic() < until_s:
        time.sleep(0.01)
    member.barrier()
    if member.rank == 1:
        until_s = time.monotonic() + 2.2
        assert not all(map(operator.lt, iter(time.monotonic, None), itertools.repeat(until_s)))
    member.barrier()
    return member.rank


def run_short(member: Member) -> int:
    """The heart of one member finds no memory for a beat."""
    if member.rank == 1:
        clock = member._mesh.clock  # type: ignore[attr-defined]
        tell, failing = clock.told, iter([MemoryError])

        def told() -> list[float]:
            for error in failing:
                raise error
            return tell()  # type: ignore[no-any-return]

        clock.told = told
        time.sleep(2.0)
        assert next(failing, None) is None
    member.barrier()
    return member.rank


def hang(member: Member) -> None:
    """One member sleeps for ever with the lock in its hand."""
    member.barrier()
    if member.rank == 1:
        ctypes.PyDLL(None).sleep(3600)
    member.barrier()


@linux
@pytest.mark.parametrize("seen", [True, False], ids=["on this machine", "by witnesses"])
def test_a_busy_member_is_not_lost_and_one_that_hangs_is(monkeypatch: pytest.MonkeyPatch, *, seen: bool) -> None:
    if not seen:
        monkeypatch.setattr(Process, "is_here", lambda _process: False)
    monkeypatch.setattr(pulses, "SILENT_S", 1.5)
    monkeypatch.setattr(pulses, "STOPPED_S", 1.0)
    monkeypatch.setattr(pulses, "_LOOK_AFTER_S", 0.7)
    with process_gang(2, threads=1) as gang:
        assert gang.run(hold, 2) == [0, 1]
        if seen:
            assert gang.run(run_short, 2) == [0, 1]
        lost, state = (hang, "sleeps") if seen else (Signals(1, signal.SIGSTOP), "is stopped")
        with pytest.raises(MemberLost, match=rf"member 1 of 2 .* silent for .* its process {state}"):
            gang.run(lost, 2)
