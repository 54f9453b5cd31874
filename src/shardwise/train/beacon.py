"""What a worker tells while it fits models beside others: a small file in the run's folder, about once a second.

All workers share that folder, whatever engine runs them: a file in it tells them to stop, and a file of each tells what
it does. A result would come at the end alone, and engines' own messages are four different ones. Nothing depends on
these files but what is shown.
"""

import json
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from shardwise.data.reading import READING

TELL_S = 1.0
KEPT_FITS = 16  # of a worker, the last ones


@dataclass
class Fit:
    """One fit on a worker: rows that were learned from, each time anew, and seconds without those of reading.

    Its pace counts from the first rows on: what comes before them, such as to load a library, is no measure of it.
    `unit` is the key of the work: a trial is fitted on a fold once for each of its rungs.
    """

    trial: int
    fold: int
    unit: str = ""
    rows: int = 0
    work_s: float = 0.0
    first: tuple[int, float] | None = None  # rows and seconds, once there were rows
    at: tuple[int, float] | None = None  # the last step that has ended, and the validation loss after it

    def told(self) -> list[float | str]:
        """`[trial, fold, rows, seconds, unit]`, rows and seconds since its first rows."""
        rows, work_s = self.first or (self.rows, self.work_s)
        return [self.trial, self.fold, self.rows - rows, round(self.work_s - work_s, 3), self.unit]


@dataclass
class Beacon:
    """Of one process: what its fits did, since the first one that it tells of in this folder."""

    folder: Path
    fits: deque[Fit] = field(default_factory=lambda: deque(maxlen=KEPT_FITS))
    begun: int = 0  # fits, those that are not kept any more included
    rows: int = 0  # of fits that have ended; and their seconds
    work_s: float = 0.0
    read_s: float = 0.0
    began_s: float = field(default_factory=lambda: time.monotonic())
    _fit_s: float = 0.0  # since when it fits; 0: it waits
    _fit_read_s: float = 0.0  # on the clock of reading, then

    @contextmanager
    def fitting(self, trial: int, fold: int, unit: str = "") -> Iterator[None]:
        """Tell of a fit, from a thread beside it."""
        fit = Fit(trial, fold, unit)
        self.fits.append(fit)
        self.begun += 1
        self._fit_s, self._fit_read_s = time.monotonic(), READING.seconds()
        ended = threading.Event()
        thread = threading.Thread(target=self._tell, args=(ended,), name="beacon", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            work_s, read_s = self._spent()
            self.rows, self.work_s, self.read_s = self.rows + fit.rows, self.work_s + work_s, self.read_s + read_s
            self._fit_s = 0.0
            self._write()

    def saw(self, rows: int) -> None:
        """The fit has learned from so many rows once more."""
        fit = self.fits[-1]
        fit.rows += rows
        if fit.first is None:
            self._spent()
            fit.first = fit.rows, fit.work_s

    def reported(self, step: int, loss: float) -> None:
        """A step of the fit has ended, with this validation loss."""
        self.fits[-1].at = step, loss

    def _spent(self) -> tuple[float, float]:
        """Seconds of work and of reading in the fit so far."""
        read_s = READING.seconds() - self._fit_read_s
        work_s = time.monotonic() - self._fit_s - read_s
        self.fits[-1].work_s = work_s
        return work_s, read_s

    def _tell(self, ended: threading.Event) -> None:
        self._write()
        while not ended.wait(TELL_S):
            self._write()

    def told(self) -> dict[str, Any]:
        """What the file says."""
        rows, work_s, read_s = self.rows, self.work_s, self.read_s
        if self._fit_s:
            more_work_s, more_read_s = self._spent()
            rows, work_s, read_s = rows + self.fits[-1].rows, work_s + more_work_s, read_s + more_read_s
        wait_s = max(0.0, time.monotonic() - self.began_s - work_s - read_s)
        return {
            "place": place(), "rows": rows, "work_s": round(work_s, 3), "read_s": round(read_s, 3),
            "wait_s": round(wait_s, 3), "fits": [fit.told() for fit in self.fits], "begun": self.begun,
            "busy": self._fit_s > 0.0, "at": self.fits[-1].at if self.fits else None,
        }  # fmt: skip

    def _write(self) -> None:
        """Whole or not at all; where that fails nobody sees it, and the fit goes on."""
        path = self.folder / f"{place().replace('/', '_')}.json"
        temp = path.with_suffix(".new")
        with suppress(OSError):
            temp.write_text(json.dumps(self.told()), encoding="utf8")
            temp.replace(path)


def place() -> str:
    """This process, among those of all machines."""
    return f"{socket.gethostname()}:{os.getpid()}"


@lru_cache(maxsize=1)
def beacon_in(folder: Path) -> Beacon:
    """This process's own in a folder: the same one for all fits of a run."""
    return Beacon(folder)
