"""How long a thread sleeps, seen from any thread of its process.

A library that talks to other members by itself does not say how long it waits for them. Its thread sleeps then: it
neither runs nor waits for a core. On Linux the kernel counts both, in nanoseconds
(https://docs.kernel.org/scheduler/sched-stats.html, `schedstat` of a task); elsewhere the time that a thread ran is
asked for, so that on a busy machine some work counts as sleep. A thread also sleeps while it waits for others of its
own process, which no number of the kernel tells apart.
"""

import threading
import time
from pathlib import Path

TASKS = Path("/proc/self/task")


class Asleep:
    """Counts the sleep of the thread that makes it, from then on."""

    def __init__(self, tasks: Path = TASKS) -> None:
        self._counts = tasks / str(threading.get_native_id()) / "schedstat"
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self._began_s, self._awake_s = time.monotonic(), self._awake()

    def seconds(self) -> float:
        """So far."""
        awake_s = self._awake() - self._awake_s
        return max(0.0, time.monotonic() - self._began_s - awake_s)

    def _awake(self) -> float:
        try:
            ran, queued, _ = map(int, self._counts.read_text().split())
        except OSError:
            return time.clock_gettime(self._clock)
        return (ran + queued) / 1e9
