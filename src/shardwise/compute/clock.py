"""Working time, deadlines, and the user's wish to stop.

Only the edge (workflow, cli) makes these; what is planned or computed gets numbers.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Self

Clock = Callable[[], float]
_IMPORTED_S = time.monotonic()
_KEPT: ContextVar[list[signal.Signals] | None] = ContextVar("kept signals", default=None)


def process_age_s(stat: Path = Path("/proc/self/stat")) -> float:
    """Seconds since this process was started: the interpreter and its imports count.

    proc(5): field 22 of the stat file is the start in clock ticks since boot. Without that file (not Linux), seconds
    since this module was imported.
    """
    if sys.platform != "linux" or not stat.exists():
        return time.monotonic() - _IMPORTED_S
    ticks = int(stat.read_text().rpartition(")")[2].split()[19])
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return max(age_s, time.monotonic() - _IMPORTED_S)


class Stopwatch:
    """Counts working time, on top of the `used_s` of earlier, interrupted runs.

    >>> Stopwatch(used_s=40.0, clock=lambda: 7.0).used_s()
    40.0
    """

    def __init__(self, used_s: float = 0.0, *, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self.start_s = clock() - used_s

    def used_s(self) -> float:
        """Seconds of work so far, those of earlier runs included."""
        return self.clock() - self.start_s


class Deadline(Stopwatch):
    """A ceiling of `limit_s` seconds on working time; None: no ceiling.

    It may be pickled to other processes of this machine, whose monotonic clock is the same.

    >>> deadline = Deadline(60.0, used_s=45.0, clock=lambda: 7.0)
    >>> deadline.remaining_s(), deadline.expired(), deadline.expired(margin_s=20.0)
    (15.0, False, True)
    """

    def __init__(self, limit_s: float | None, used_s: float = 0.0, *, clock: Clock = time.monotonic) -> None:
        super().__init__(used_s, clock=clock)
        self.limit_s = limit_s

    def remaining_s(self) -> float:
        """Seconds that are left, negative when late; infinity without a ceiling."""
        return float("inf") if self.limit_s is None else self.limit_s - self.used_s()

    def at_s(self) -> float:
        """The moment on `clock` at which the time is up."""
        return self.clock() + self.remaining_s()

    def expired(self, margin_s: float = 0.0) -> bool:
        """Whether less than `margin_s` is left."""
        return self.remaining_s() <= margin_s


class Guard:
    """Calls `action` at the moment `at_s` (of `time.monotonic()`), from a thread of its own, unless cancelled before.

    The last resort of a deadline: what it calls must not need the main thread, which may be deep in a library. Use it
    as a context manager, or call `cancel`. At infinity it never acts.
    """

    def __init__(self, at_s: float, action: Callable[[], None]) -> None:
        self.at_s = at_s
        self.action = action
        self.acted = False
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._wait, name="guard", daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        while (left_s := self.at_s - time.monotonic()) > 0:
            if self._cancelled.wait(min(left_s, 3600.0)):
                return
        self.acted = True
        self.action()

    def cancel(self) -> None:
        """Do not act; when it is acting already, wait for its end."""
        self._cancelled.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()


class Interrupts:
    """Turns SIGINT and SIGTERM into a wish: while it is entered, the first one sets `stop_requested`.

    `on_first()` is called then, from a thread of its own, so that it may take locks: it may, for example, close the
    executor that the main thread waits for. The second signal raises `KeyboardInterrupt`, and a third one gets the
    kernel's own answer, which ends the process. Outside the main thread signals cannot be caught, and it does nothing.

    Whose process it is has a say too: call `pass_on` when all is closed.
    """

    def __init__(self, on_first: Callable[[], None] | None = None) -> None:
        self.stop_requested = False
        self._on_first = on_first
        self._before: dict[signal.Signals, signal._HANDLER] = {}
        self._heard: list[signal.Signals] = []

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def pass_on(self) -> None:
        """Hand the signals that came to `kept_signals`, where that is entered.

        Elsewhere SIGTERM goes to the handler that the process has for it: it was meant for the process.
        """
        kept, heard = _KEPT.get(), self._heard
        self._heard = []
        if kept is not None:
            kept.extend(heard)
        elif signal.SIGTERM in heard:
            signal.raise_signal(signal.SIGTERM)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._heard.append(signal.Signals(number))
        if self.stop_requested:
            for number in self._before:
                signal.signal(number, signal.SIG_DFL)
            raise KeyboardInterrupt
        self.stop_requested = True
        if self._on_first is not None:
            threading.Thread(target=self._on_first, name="interrupts", daemon=True).start()


@contextmanager
def kept_signals() -> Iterator[list[signal.Signals]]:
    """Signals that stop a run within, in their order. They go no further than here."""
    kept: list[signal.Signals] = []
    token = _KEPT.set(kept)
    try:
        yield kept
    finally:
        _KEPT.reset(token)


@contextmanager
def stopping_with_the_run() -> Iterator[None]:
    """What stops a run within ends all of this: raises `KeyboardInterrupt` in the place of what the run came to, once
    the handlers of the process were called."""
    kept: list[signal.Signals] = []
    try:
        with kept_signals() as kept:
            yield
    finally:
        for number in dict.fromkeys(kept):
            signal.raise_signal(number)
        if kept:
            raise KeyboardInterrupt
