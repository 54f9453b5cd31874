import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from shardwise.compute.base import NOT_YET, NotYet, Outcome, stream
from shardwise.core.errors import WorkerLost


class Manual:
    """An executor whose tasks end when the test says so, in the order that the test chooses."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.running: list[tuple[Callable[[Any], Any], Any, Future[Any]]] = []

    def submit(self, task: Callable[[Any], Any], item: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.running.append((task, item, future))
        assert len(self.running) <= self.slots
        return future

    def finish(self, position: int) -> None:
        task, item, future = self.running.pop(position % len(self.running))
        future.set_result(task(item))

    def close(self) -> None:
        pass


class Threads:
    """A plain thread pool as an executor."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.pool = ThreadPoolExecutor(slots)

    def submit(self, task: Callable[[Any], Any], item: Any) -> Future[Any]:
        return self.pool.submit(task, item)

    def close(self) -> None:
        self.pool.shutdown()


def drive(executor: Manual, choices: list[int], **options: Any) -> list[Outcome[int]]:
    """Stream 12 items; a second thread ends the running tasks in the order that `choices` gives."""
    outcomes: list[Outcome[int]] = []
    over = threading.Event()

    def finish() -> None:
        step = 0
        while not over.is_set():
            if executor.running:
                executor.finish(choices[step % len(choices)])
                step += 1
            time.sleep(1e-4)

    thread = threading.Thread(target=finish)
    thread.start()
    try:
        outcomes.extend(stream(executor, lambda item: item * item, range(12), **options))
    finally:
        over.set()
        thread.join()
    return outcomes


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 4))
def test_ordered_is_the_same_whatever_ends_first(slots: int, choices: list[int], ahead: int) -> None:
    outcomes = drive(Manual(slots), choices, ordered=True, ahead=ahead)
    assert [(outcome.index, outcome.unwrap()) for outcome in outcomes] == [(i, i * i) for i in range(12)]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_as_completed_loses_and_repeats_nothing(slots: int, choices: list[int]) -> None:
    outcomes = drive(Manual(slots), choices)
    assert sorted((outcome.index, outcome.unwrap()) for outcome in outcomes) == [(i, i * i) for i in range(12)]


def test_as_completed_does_not_wait_for_the_first() -> None:
    gate = threading.Event()

    def task(item: int) -> int:
        return item if item else int(gate.wait())

    executor = Threads(2)
    outcomes = stream(executor, task, range(5))
    assert [next(outcomes).index for _ in range(4)] == [1, 2, 3, 4]
    gate.set()
    assert next(outcomes).index == 0
    executor.close()


def test_ahead_lets_workers_go_on_behind_a_slow_head() -> None:
    gate = threading.Event()

    def task(item: int) -> int:
        if item == 3:
            gate.set()  # only reached when 1, 2 and 3 run while 0 waits
        return item if item else int(gate.wait())

    executor = Threads(2)
    assert [outcome.index for outcome in stream(executor, task, range(5), ordered=True, ahead=2)] == [0, 1, 2, 3, 4]
    executor.close()


def test_closing_the_stream_cancels_what_has_not_started() -> None:
    class FirstIsDone(Manual):
        def submit(self, task: Callable[[Any], Any], item: Any) -> Future[Any]:
            future = super().submit(task, item)
            if item == 0:
                self.finish(0)
            return future

    executor = FirstIsDone(3)
    outcomes = stream(executor, abs, range(9), ordered=True)
    assert next(outcomes).index == 0
    outcomes.close()  # type: ignore[attr-defined]
    assert [(item, future.cancelled()) for _, item, future in executor.running] == [(1, True), (2, True)]


def test_only_lost_workers_are_retried_and_counted() -> None:
    tries: list[int] = []

    def task(item: int) -> int:
        tries.append(item)
        if len(tries) < 3:
            raise WorkerLost("gone", item=item)
        return item

    executor = Threads(1)
    (outcome,) = stream(executor, task, [7], retries=2)
    assert outcome.unwrap() == 7
    assert tries == [7, 7, 7]
    executor.close()


def test_what_depends_on_outcomes_is_asked_for_after_them() -> None:
    """Item k needs the outcome of item k - 2: with many slots two are under way, and nobody hangs."""
    taken: list[int] = []

    def items() -> Iterator[int | NotYet]:
        for number in range(9):
            while len(taken) < number - 1:
                yield NOT_YET
            yield number

    executor = Threads(4)
    for outcome in stream(executor, str, items(), ordered=True):
        taken.append(int(outcome.unwrap()))
        assert outcome.index == len(taken) - 1
    executor.close()
    assert taken == list(range(9))


def test_what_never_comes_is_the_end() -> None:
    def items() -> Iterator[int | NotYet]:
        yield 1
        while True:
            yield NOT_YET

    executor = Threads(2)
    assert [outcome.unwrap() for outcome in stream(executor, abs, items())] == [1]
    executor.close()
