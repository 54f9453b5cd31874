"""The learning rate of each step, and how many epochs there is time for.

A cosine that is cut in the middle has not come down; a shorter one reaches nearly as much (kin8nm, rmse: 60 epochs
0.067, 12 epochs 0.072). So a fit that will not end in time is planned anew, as early as its pace is known.
"""

import math
import time

from shardwise.models.base import FitRun
from shardwise.models.guard import LOWER

SPARE = 0.85  # of the time that is left, for which epochs are planned: their pace changes, and losses are looked at
FIRST = 0.1  # of an epoch, after which its pace is known


class Schedule:
    """Of a fit of `epochs` epochs of `steps` steps each, at the rate `peak` after a warm-up of a share of all steps.

    Whether time suffices is asked of a fit that one process does from beginning to end; where it does, the rates are
    the same as without a limit.
    """

    def __init__(self, peak: float, warm_up: float, epochs: int, steps: int) -> None:
        self.epochs = epochs
        self._most = epochs
        self._peak = peak
        self._warm_up = warm_up
        self._steps = steps
        self._first: int | None = None  # step here
        self._began: tuple[int, float] | None = None  # the second one, and when: PyTorch prepares itself in the first

    def rate(self, step: int, lowered: int = 0) -> float:
        """Linear warm-up, then half a cosine down to 0 (Loshchilov & Hutter 2017), a quarter where `lowered` once."""
        total = self.epochs * self._steps
        warm = max(1.0, self._warm_up * total)
        share = max(0.0, step - warm) / max(1.0, total - warm)
        shape = min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(1.0, share))))
        return self._peak * LOWER**lowered * shape

    def look(self, step: int, run: FitRun) -> None:
        """Before each step, counted from 0 over all epochs: plan as many epochs as there is time for, and say so."""
        if run.member is not None or run.rests_at is not None:
            return
        if self._first is None:
            self._first = step
            return
        second, began = self._began = self._began or (step, time.monotonic())
        done = step - second
        if not done or (step - self._first != max(2, int(FIRST * self._steps)) and step % self._steps):
            return
        left = SPARE * run.left_s() * done / max(time.monotonic() - began, 1e-9)  # steps
        possible = self._most if math.isinf(left) else math.floor((step + left) / self._steps)
        epochs = max(-(-step // self._steps), 1, min(self._most, possible))
        if epochs < self._most:
            run.hurried()
        self.epochs = epochs
