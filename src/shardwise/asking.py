"""What a search asks for: the steps of its study on each fold until the time is used, and the best trial's way up.

The study's sequence is never changed. Where the clock is about to cut it, the best trial is trained to its end aside
from it: by the same work units for which a longer run asks in its own order, and which it then finds journalled.
"""

import math
import time
from collections.abc import Iterator

from shardwise.climbing import Climbing
from shardwise.compute.base import NOT_YET, NotYet
from shardwise.searching import Search, reserve_s
from shardwise.train.run import Run
from shardwise.train.trainer import FitUnit
from shardwise.tune.setup import POPULATION
from shardwise.tune.step import Step
from shardwise.tuning import Tuning

LOOK_S = 0.2  # between two looks at the clock while the journal is gone through


class Asking:
    """Work units in their order. `steps` are those under way, by the keys of their units; who takes in a result takes
    its step out. `whole`: the study's sequence came to its end."""

    def __init__(self, run: Run, search: Search, tuning: Tuning) -> None:
        self._run = run
        self._search = search
        self._tuning = tuning
        self.steps: dict[str, Step] = {}
        self.whole = False
        self._climbing = Climbing(run, search, tuning.study)
        self._over = False  # the clock has ended a step
        self._reckoned_s = (-math.inf, 0.0)  # when, and what time is kept for what follows the search
        self._recalls = run.config.sampler != POPULATION

    def units(self) -> Iterator[FitUnit | NotYet]:
        """Steps x folds, until the time is used or the user asks to stop; the journal is gone through.

        When no more time is left than the best trial takes to its end, it is trained so; where it takes less, the
        sequence goes on.
        """
        for step in self._tuning.study.ask():
            if isinstance(step, NotYet):
                if not self.steps:
                    break  # what is waited for was cut
                yield step
                continue
            if self._is_over(step):
                yield from self._climb()
                if self._is_over(step):
                    break
            yield from self._folds(step)
            if self._over:
                break
        else:
            self.whole = True
            return
        self._search.cut = True
        yield from self._climb()

    def _is_over(self, step: Step) -> bool:
        """Whether there is no time for a step; what is journalled needs none but to be gone through, see `recall`."""
        first, stopped = _is_first(step), self._run.interrupts.stop_requested
        if self._is_journalled(step, place=0):
            return self._recalls and not first and (stopped or self._left_s(step, journalled=True) <= 0)
        if not self._recalls and self._run.model(self._tuning.key(step, self._search.evaluated[0])).exists():
            return False  # what was cut before counts as it is
        left_s = self._left_s(step)
        kept_s, fold_s = self._kept_s(step, left_s)
        return stopped or (not first and left_s <= kept_s + fold_s * -(-self._search.folds // self._search.slots))

    def _is_journalled(self, step: Step, place: int) -> bool:
        self._tuning.take_over(step, self._search.evaluated[place])
        return self._run.ledger.get(self._tuning.key(step, self._search.evaluated[place])) is not None

    def _folds(self, step: Step) -> Iterator[FitUnit]:
        search, run, tuning = self._search, self._run, self._tuning
        kept_s, own_s = (0.0, 0.0)
        if not self._is_journalled(step, place=0):
            kept_s, own_s = self._kept_s(step, self._left_s(step))
        most_s = math.inf
        for place, index in enumerate(search.evaluated):
            key, journalled = tuning.key(step, index), self._is_journalled(step, place)
            left_s = self._left_s(step, journalled=journalled)
            stopped, first = run.interrupts.stop_requested, _is_first(step) and place == 0
            if not journalled and (stopped or (left_s <= 0 and not first)):
                search.cut = True
                if step.number == 0 and not stopped:
                    break  # of the baseline one fold is enough; then comes the first real model
                if not run.model(key).exists():
                    self._over = True
                    return  # what was cut before counts as it is
            waves = -(-(search.folds - place) // search.slots)  # what is left of the trial, `slots` folds at a time
            parts = waves + (step.aside and self._climbing.again)
            fold_s = max(0.0, min(left_s / parts, max((left_s - kept_s) / parts, own_s)))
            if place == 0:
                most_s = tuning.most_s(step, fold_s)
                if not journalled and not run.model(key).exists() and tuning.leaves_out(step, most_s):
                    search.cut = True
                    break
            self.steps[key] = step
            yield tuning.unit(step, index, time.monotonic() + fold_s, most_s)

    def _left_s(self, step: Step, *, journalled: bool = False) -> float:
        """Seconds until what follows the search has to begin. Where a step is `journalled` and takes none, that is not
        reckoned anew each time."""
        left_s, now = self._run.deadline.remaining_s(), time.monotonic()
        if math.isinf(left_s):
            return left_s
        if not journalled or now - self._reckoned_s[0] > LOOK_S:
            self._reckoned_s = now, reserve_s(self._run, self._search, first=step.number <= 1)
        return left_s - self._reckoned_s[1]

    def _kept_s(self, step: Step, left_s: float) -> tuple[float, float]:
        """Seconds that are kept for the best trial while a step is done, of those that are left; and, where some are,
        those that a fold of the step takes."""
        if step.aside or _is_first(step) or math.isinf(left_s):
            return 0.0, 0.0
        best = self._climbing.best(left_s)
        return (0.0, 0.0) if best is None else (self._climbing.way_s(best), self._climbing.fold_s(step))

    # -- the best trial's way up ---------------------------------------------------------------------------------------

    def _climb(self) -> Iterator[FitUnit | NotYet]:
        """The best trial's remaining rungs, one after the other; what is under way may become better, and is waited
        for."""
        yield from self._wait()
        while (step := self._above()) is not None:
            yield from self._folds(step)
            yield from self._wait()
            came = self._search.at(step.number)
            if self._search.reached.get(step.number) != step or came is None or came.cut:
                return

    def _wait(self) -> Iterator[NotYet]:
        while self.steps:
            yield NOT_YET

    def _above(self) -> Step | None:
        left_s = self._run.deadline.remaining_s() - reserve_s(self._run, self._search)
        best = self._climbing.best(left_s)
        if best is None or self._run.interrupts.stop_requested:
            return None
        return self._tuning.study.above(self._search.reached[best.number])


def _is_first(step: Step) -> bool:
    """Whether a step is of the baseline or of a first real model, which are tried in any case."""
    return step.number <= 1 and not step.below
