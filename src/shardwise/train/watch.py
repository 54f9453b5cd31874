"""Watches a fit while it reports: the curve, the time, the pace and the memory; and ends it when the time is up.

What it finds besides (`anomalies`) is told, and changes nothing: it rests on clocks. Models that diverge see it
themselves, by their losses (`models.guard`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shardwise.compute.ceiling import tree_memory_bytes
from shardwise.core.events import WorkerView
from shardwise.stats.anomalies import Anomaly, memory_creep, plateau, slow_down, straggler

LONG_STEP_S = 2.0
LEAST_WORK_S = 1.0  # of work before it tells how much there is to wait
MEMORY_S = 5.0  # between two looks at the memory: one takes some milliseconds
LOOKS = 20  # at the workers that are kept
REPLAY_S = 1e-3  # first steps that took less are taken over from a checkpoint


@dataclass
class Watch:
    """Keeps the curve, and says when the time is up, the rung is reached or the user asked to stop.

    Each step adds `step_s` to what comes after the fit, which has to end in time too; as many times as much as the
    process has waited for others on the machine. So has the next step, if it takes as long as the last one; of long
    steps that are looked into on the way, 2 s count.
    """

    deadline: float
    stop: Path | None
    step_s: float = 0.0
    last_s: float = 0.0  # when the last step ended
    points: list[tuple[int, float]] = field(default_factory=list)
    cut: bool = False
    hurried: bool = False  # the model was learned faster than it should be, for the time
    looked_s: float = 0.0
    rounds: int | None = None
    rests: bool = False
    works_here: bool = True  # and not in other processes
    began: tuple[float, float] = field(default_factory=lambda: (time.monotonic(), time.process_time()))
    noticed: list[Anomaly] = field(default_factory=list)
    pace: list[tuple[float, float]] = field(default_factory=list)  # seconds of each step, and of CPU
    memory: list[tuple[int, int]] = field(default_factory=list)  # (step, bytes of the process and those below it)
    _worked_s: float = field(default_factory=time.process_time)
    _ended_s: float = field(default_factory=time.monotonic)
    _measured_s: float = 0.0

    def report(self, step: int, score: float) -> bool:
        now = time.monotonic()
        took_s = now - self.last_s if self.points else 0.0
        self.last_s = now
        self.points.append((step, float(score)))
        self._measure(step, now)
        self.rests = self.rounds is not None and step >= self.rounds
        return self.go_on(min(took_s, LONG_STEP_S)) and not self.rests

    def go_on(self, ahead_s: float = 0.0) -> bool:
        """Whether there is time for `ahead_s` more."""
        now = time.monotonic()
        if ahead_s > self.left_s():
            self.cut = True
        elif self.stop is not None and now - self.looked_s > 0.2:  # a look at the disk is cheap, but not free
            self.looked_s = now
            self.cut = self.cut or self.stop.exists()
        return not self.cut

    def left_s(self) -> float:
        """Seconds for which training may go on, and what comes after it be done in time."""
        now = time.monotonic()
        step = self.points[-1][0] if self.points else 0
        return self.deadline - now - step * self.step_s * self._slowness(now)

    def hurry(self) -> None:
        """A model makes the best of the time that is left: what it will be depends on the clock."""
        self.hurried = True

    def _slowness(self, now: float) -> float:
        """Seconds that have passed for each one that this process has worked; 1 where it worked on several threads."""
        if not self.works_here:
            return 1.0
        worked_s = time.process_time() - self.began[1]
        return max(1.0, (now - self.began[0]) / max(worked_s, LEAST_WORK_S))

    def _measure(self, step: int, now: float) -> None:
        worked_s = time.process_time()
        took_s, busy_s = now - self._ended_s, worked_s - self._worked_s
        self._ended_s, self._worked_s = now, worked_s
        if took_s >= REPLAY_S or self.pace:
            self.pace.append((took_s, busy_s if self.works_here else took_s))
        if now - self._measured_s >= MEMORY_S:
            self.memory.append((step, tree_memory_bytes()))
            self._measured_s = now

    @property
    def best_step(self) -> int:
        return min(self.points, key=lambda point: point[1])[0] if self.points else 0

    def thinned(self, limit: int = 200) -> tuple[tuple[int, float], ...]:
        """At most `limit` points of the curve, evenly spaced; the last one is kept."""
        stride = -(-len(self.points) // limit) or 1
        kept = self.points[::stride]
        return tuple(kept if not self.points or kept[-1] == self.points[-1] else [*kept, self.points[-1]])

    def anomalies(self, start: float, rows: int, limit_bytes: int) -> tuple[Anomaly, ...]:
        """What was noticed in the fit, and what its whole course tells: `start` is the loss of the best constant."""
        losses = [loss for _, loss in self.points]
        seconds, busy = [took for took, _ in self.pace], [worked for _, worked in self.pace]
        steps, used = [step for step, _ in self.memory], [amount for _, amount in self.memory]
        found = (plateau(losses, start), slow_down(seconds, busy, rows), memory_creep(steps, used, limit_bytes))
        return (*self.noticed, *(anomaly for anomaly in found if anomaly is not None))


@dataclass
class Workers:
    """Looks at the workers of a fit, about once a second, and names one that the others wait for: each one once."""

    notice: Callable[[Anomaly], None]
    looks: list[Sequence[WorkerView]] = field(default_factory=list)
    named: set[float] = field(default_factory=set)

    def __call__(self, workers: Sequence[WorkerView], step: int) -> None:
        if self.looks and sum(w.rows for w in workers) < sum(w.rows for w in self.looks[-1]):
            self.looks.clear()  # they began again
        self.looks = [*self.looks[-LOOKS:], workers]
        anomaly = straggler(self.looks, step)
        if anomaly is not None and anomaly.evidence["worker"] not in self.named:
            self.named.add(anomaly.evidence["worker"])
            self.notice(anomaly)
