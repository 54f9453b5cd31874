"""Whether a member that says nothing lives: by its beats, and by what the kernel tells of its process.

A beat comes from a thread of the member. That cannot run while another one holds Python's lock (to load a large library
takes seconds on a busy machine), nor while the machine has no time for the process. So a member on the caller's own
machine is alive as well when one of its threads runs, waits for a core or for a disk, or has used time since the last
look. One that is stopped, or about to be, and one that sleeps without a beat give no such sign. On another machine a
witness looks (`witness`). The standard library alone, for its sake.

https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html; elsewhere than on Linux beats alone count.
"""

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Self

ROOT = Path("/")
SILENT_S = 8.0  # without a beat or another sign of life, until a member is lost
STOPPED_S = 5.0  # without a beat, of a process that is stopped: there is no doubt to wait for
PATIENCE_S = 120.0  # without a beat, whatever its process does
_LOOK_AFTER_S = 2.0  # of silence
_LOOK_S = 0.5  # between two looks at a process
_ENDS = 1 << (signal.SIGKILL - 1) | 1 << (signal.SIGSTOP - 1)


class State(Enum):
    """What a process does, as its kernel sees it."""

    RUNS = "runs"  # or waits for a core, or for a disk
    SLEEPS = "sleeps"
    STOPPED = "is stopped"  # or about to be stopped or killed
    GONE = "has ended"


@dataclass(frozen=True)
class Look:
    """One look at a process: what it does, and the time that it has used, in ticks of the kernel's."""

    state: State
    ticks: int = 0


@dataclass(frozen=True)
class Process:
    """A process, told apart from those of other machines and containers, and from a later one of the same number."""

    machine: str
    pid: int
    started: int  # ticks since the machine began

    @classmethod
    def current(cls, root: Path = ROOT) -> Self | None:
        """This process; None where the kernel does not tell."""
        return cls.of(os.getpid(), root)

    @classmethod
    def of(cls, pid: int, root: Path = ROOT) -> Self | None:
        """A process of this machine; None where the kernel does not tell, or it has ended."""
        machine, fields = _machine(root), _fields(root / f"proc/{pid}/stat")
        return cls(machine, pid, int(fields[19])) if machine and fields else None

    def is_here(self, root: Path = ROOT) -> bool:
        """Whether it runs on this machine, and can be seen: other users' processes may be hidden."""
        return self.machine == _machine(root) and look(self, root).state is not State.GONE


def look(process: Process, root: Path = ROOT) -> Look:
    """What a process of this machine does now."""
    folder = root / f"proc/{process.pid}"
    fields = _fields(folder / "stat")
    ends = _pending(folder / "status") & _ENDS  # before the states: a signal that is taken meanwhile is seen in these
    states = {words[0] for stat in folder.glob("task/*/stat") if (words := _fields(stat))}
    if not fields or int(fields[19]) != process.started or states <= {"Z", "X"}:
        return Look(State.GONE)
    ticks = int(fields[11]) + int(fields[12])
    if ends or states & {"T", "t"}:
        return Look(State.STOPPED, ticks)
    return Look(State.RUNS if states & {"R", "D"} else State.SLEEPS, ticks)


class Pulse:
    """Judges one member. `now` is the caller's monotonic clock, in seconds.

    `process` is looked at where it can be seen from here; of one that is None, `saw` tells.
    """

    def __init__(self, process: Process | None, now: float, look: Callable[[Process], Look] = look) -> None:
        self._process = process
        self._look = look
        self._beat_s = self._sign_s = self._looked_s = now
        self._seen: Look | None = None

    def beat(self, now: float) -> None:
        """It has said something."""
        self._beat_s = self._sign_s = now
        self._seen = None

    def forgive(self, seconds: float) -> None:
        """The caller itself did not run for so long, and does not know who was silent meanwhile."""
        self._beat_s += seconds
        self._sign_s += seconds

    def silent_s(self, now: float) -> float:
        """Seconds since it has said something, without those in which the caller did not run."""
        return now - self._beat_s

    def lost(self, now: float, *, ended: bool = False) -> str:
        """Why the member is lost; nothing while it is not.

        One whose work has `ended` owes no beat any more, and may wait for the others, or be gone: that it is stopped
        keeps its answer from the caller.
        """
        silent_s = self.silent_s(now)
        if self._process is not None and silent_s > _LOOK_AFTER_S and now - self._looked_s >= _LOOK_S:
            self.saw(self._look(self._process), now)
            self._looked_s = now
        state = None if self._seen is None else self._seen.state
        stopped = state is State.STOPPED and silent_s > STOPPED_S
        silent = state is State.GONE or now - self._sign_s > SILENT_S or silent_s > PATIENCE_S
        if stopped or (silent and not ended):
            process = "" if state is None else f", its process {state.value}"
            return f"it has been silent for {silent_s:.0f} s{process}"
        return ""

    def saw(self, seen: Look, now: float) -> None:
        """Somebody has looked at its process."""
        before, self._seen = self._seen, seen
        works = before is not None and seen.ticks > before.ticks
        if seen.state is State.RUNS or (seen.state is State.SLEEPS and works):
            self._sign_s = now


def _machine(root: Path) -> str:
    """The boot of the machine, and the space of numbers of processes; empty where the kernel does not tell."""
    try:
        space = os.readlink(root / "proc/self/ns/pid")
        return f"{(root / 'proc/sys/kernel/random/boot_id').read_text().strip()} {space}"
    except OSError:
        return ""


def _fields(stat: Path) -> Sequence[str]:
    """What follows the name in brackets, which may hold anything: state, then numbers; nothing of what has ended."""
    return _text(stat).rpartition(")")[2].split()


def _pending(status: Path) -> int:
    """Signals that were sent to the process and not taken yet, as bits."""
    lines = (line.split() for line in _text(status).splitlines())
    return sum(int(words[1], 16) for words in lines if words[:1] == ["ShdPnd:"])


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended, or is not ours to look at
        return ""
