"""The lane in which rows wait for their prediction, and are predicted together where that is cheaper.

A model that answers in microseconds answers at once, in the thread of the event loop: a change of threads would take
longer than the answer. A slower one is asked in a thread, for one group of rows at a time; what comes meanwhile is
the next group. So groups grow with the load by themselves. Before the first group of a burst a row waits for others as
well, but never longer than `wait_s` and half of what its prediction takes. The times are learned while serving.

The lane is bounded: rows beyond `queue_rows` are refused at once, and a row whose time has gone by is not predicted.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shardwise.core.errors import BadInput
from shardwise.serve.online.call import Stage, Trace
from shardwise.serve.online.live import Served
from shardwise.serve.online.metrics import Metrics
from shardwise.serve.online.problems import Problem, overloaded, too_late
from shardwise.serve.online.settings import ServeConfig

Row = Mapping[str, Any]
Answers = list[np.ndarray | BadInput]
INLINE_S = 0.0005  # up to here the event loop may be held
GROUP_ROWS = 256
FULL = 0.9  # of the rows that may wait


@dataclass(slots=True)
class _Waiting:
    served: Served
    rows: Sequence[Row]
    answer: "asyncio.Future[np.ndarray]"
    trace: Trace | None = None
    began_s: float = field(default_factory=time.perf_counter)


class Lane:
    """The rows that wait for a model; used by the thread of the event loop alone."""

    def __init__(self, config: ServeConfig, metrics: Metrics, *, inline: bool = True) -> None:
        self._config, self._metrics, self._inline = config, metrics, inline
        self._waiting: deque[_Waiting] = deque()
        self._rows = 0
        self._busy = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="lane")

    async def scores(
        self, served: Served, rows: Sequence[Row], deadline_s: float, trace: Trace | None = None
    ) -> np.ndarray:
        """Float64 `(rows, outputs)`; raises what the predictor raises, and `Problem` when it is full or too late."""
        if not self._waiting and not self._busy and self._may_hold_the_loop(served, len(rows)):
            return self._now(served, rows, trace)
        expected_s = self._expected_s(served)
        if self._rows and self._rows + len(rows) > self._config.queue_rows:
            raise self._refused(expected_s)
        loop = asyncio.get_running_loop()
        waiting = _Waiting(served, rows, loop.create_future(), trace)
        self._waiting.append(waiting)
        self._count(len(rows))
        if not self._busy:
            self._busy = True
            loop.call_later(self._pause_s(served), self._start)
        late = loop.call_later(deadline_s, _give_up, waiting, deadline_s)
        try:
            return await waiting.answer
        finally:
            late.cancel()

    def check_room(self, served: Served) -> None:
        """Raise `Problem` 429 while there is hardly room: to read a body for nothing takes time from the others."""
        if self._rows >= FULL * self._config.queue_rows:
            raise self._refused(self._expected_s(served))

    def _refused(self, expected_s: float) -> Problem:
        self._metrics.refused("queue")
        return overloaded(f"{self._rows} rows", expected_s)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _may_hold_the_loop(self, served: Served, rows: int) -> bool:
        return self._inline and served.costs.expected_s(rows) <= INLINE_S

    def _now(self, served: Served, rows: Sequence[Row], trace: Trace | None) -> np.ndarray:
        clock = _Clock()
        scores = served.predictor.scores_of_rows(rows)
        self._learn(served, len(rows), clock.stopped())
        if trace is not None:
            trace.stages.append(("predict", clock.began_s, clock.began_s + clock.wall_s))
        return scores

    def _learn(self, served: Served, rows: int, clock: "_Clock") -> None:
        served.costs.learn(rows, clock.cpu_s)
        self._metrics.predicted(rows, clock.wall_s)

    def _expected_s(self, served: Served) -> float:
        """Until what waits now is done."""
        each = served.costs.expected_s(GROUP_ROWS)
        return 1.0 if each == float("inf") else each * (1 + self._rows / GROUP_ROWS)

    def _pause_s(self, served: Served) -> float:
        one_s = served.costs.expected_s(1)
        return min(self._config.wait_s, 0.5 * one_s) if one_s < float("inf") else 0.0

    def _count(self, rows: int) -> None:
        self._rows += rows
        self._metrics.waiting(self._rows)

    def _start(self) -> None:
        """Predict the next group in the thread, if rows wait."""
        group = self._next_group()
        if not group:
            self._busy = False
            return
        loop = asyncio.get_running_loop()
        for waiting in group:
            self._metrics.waited(time.perf_counter() - waiting.began_s)
        task = loop.run_in_executor(self._pool, _predict, group)
        task.add_done_callback(lambda done: self._finish(group, done))

    def _next_group(self) -> list[_Waiting]:
        """Those in front that ask the same version, up to `GROUP_ROWS`; who was given up is left out."""
        group: list[_Waiting] = []
        size = 0
        while self._waiting:
            first = self._waiting[0]
            if group and (first.served is not group[0].served or size + len(first.rows) > GROUP_ROWS):
                break
            self._waiting.popleft()
            if first.answer.done():
                self._count(-len(first.rows))
                continue
            group.append(first)
            size += len(first.rows)
        return group

    def _finish(self, group: list[_Waiting], done: "asyncio.Future[tuple[Answers, _Clock]]") -> None:
        rows = sum(len(waiting.rows) for waiting in group)
        self._count(-rows)
        error = done.exception()
        if error is None:
            answers, clock = done.result()
            self._learn(group[0].served, rows, clock)
            for waiting in group:
                if waiting.trace is not None:
                    waiting.trace.stages += _stages(waiting, clock)
        for place, waiting in enumerate(group):
            if not waiting.answer.done():
                _answer(waiting, error or answers[place])
        self._start()


class _Clock:
    """Seconds since it was made, on the wall and of this thread."""

    def __init__(self) -> None:
        self.began_s = self.wall_s = time.perf_counter()
        self.cpu_s = time.thread_time()

    def stopped(self) -> "_Clock":
        self.wall_s, self.cpu_s = time.perf_counter() - self.began_s, time.thread_time() - self.cpu_s
        return self


def _stages(waiting: _Waiting, clock: _Clock) -> list[Stage]:
    return [("wait", waiting.began_s, clock.began_s), ("predict", clock.began_s, clock.began_s + clock.wall_s)]


def _answer(waiting: _Waiting, found: np.ndarray | BaseException) -> None:
    if isinstance(found, BaseException):
        waiting.answer.set_exception(found)
    else:
        waiting.answer.set_result(found)


def _give_up(waiting: _Waiting, deadline_s: float) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(too_late(deadline_s))


def _predict(group: Sequence[_Waiting]) -> tuple[Answers, _Clock]:
    """An answer for each, and what it took; a row that cannot be read spoils its own request alone."""
    clock = _Clock()
    predictor = group[0].served.predictor
    try:
        together = predictor.scores_of_rows([row for waiting in group for row in waiting.rows])
        ends = np.cumsum([len(waiting.rows) for waiting in group])[:-1]
        answers: Answers = list(np.split(together, ends))
    except BadInput:
        answers = [_one(waiting) for waiting in group]
    return answers, clock.stopped()


def _one(waiting: _Waiting) -> np.ndarray | BadInput:
    try:
        return waiting.served.predictor.scores_of_rows(waiting.rows)
    except BadInput as error:
        return error
