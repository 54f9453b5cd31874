"""Executors run independent tasks; `stream` is the one loop over them."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Generic, Protocol, TypeVar

from shardwise.core.errors import TaskFailed, WorkerLost

T = TypeVar("T")
R = TypeVar("R")


class NotYet(Enum):
    """The kind of `NOT_YET`."""

    NOT_YET = "not yet"


LOOK_S = 1.0  # between two looks at what is under way
NOT_YET: Final = NotYet.NOT_YET
"""In the place of an item: there is none before another outcome was taken."""


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What became of item number `index`: a value, or an error."""

    index: int
    value: R | None = None
    error: BaseException | None = None

    def unwrap(self) -> R:
        """The value; raises the error."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


class Executor(Protocol):
    """Runs tasks; at most `slots` at a time, each of which may use `threads`. Tasks and items are small and picklable:
    references, never tables."""

    slots: int
    threads: int

    def submit(self, task: Callable[[T], R], item: T) -> Future[R]: ...

    def shed(self, used_bytes: int, limit_bytes: int) -> None:
        """Memory is above the ceiling: end the largest worker, whose task becomes an `OverBudget`; may do nothing."""
        ...

    def worker_bytes(self) -> int | None:
        """Memory that a worker of a cluster has for itself; None where nobody tells, or workers share a machine's."""
        ...

    def retire(self) -> None:
        """Give back what idle workers hold; may do nothing."""
        ...

    def close(self) -> None:
        """Stop the workers; running tasks are not waited for."""
        ...


def stream(
    executor: Executor,
    task: Callable[[T], R],
    items: Iterable[T | NotYet],
    *,
    ordered: bool = False,
    retries: int = 0,
    ahead: int = 0,
    instead: Callable[[T, BaseException], T | None] = lambda _item, _error: None,
    look: Callable[[], None] = lambda: None,
) -> Iterator[Outcome[R]]:
    """Run `task` over `items` lazily: at most `executor.slots` in flight, no item drawn before it can start.

    `ordered=True` yields in the order of the items (a reduction then gives the same bytes on 1 or n workers). Item k is
    then drawn as soon as outcome k - slots is consumed, no sooner and no later, so that what it is drawn from (a
    sampler that learns from the outcomes) sees the same history in each run with as many slots. `ahead` gives that up
    for speed: so many finished outcomes may wait for their turn behind a slow one while the workers go on. `items` may
    yield `NOT_YET` when the next item depends on outcomes that were not taken yet: it is asked again after the next
    one. When none is under way that is the end.

    A task that raises is an `Outcome` with its error; one whose worker died (`WorkerLost`) is tried again `retries`
    times, then the error names the item. For any other error `instead(item, error)` may give an item to try in its
    place, such as the same work on fewer rows after `OverBudget`. What `items` itself raises passes through. Closing
    the generator cancels what has not started. `look()` is called, in this thread, about once a second while it waits.

    >>> from shardwise.compute.local import InlineExecutor
    >>> [outcome.unwrap() for outcome in stream(InlineExecutor(), abs, [-1, -2])]
    [1, 2]
    """
    flight = _Flight(executor, task, iter(items), retries, executor.slots + ahead, instead, look)
    try:
        flight.fill()
        while flight.calls:
            yield flight.take(ordered)
            flight.fill()
    finally:
        flight.cancel()


@dataclass
class _Call(Generic[T, R]):
    index: int
    item: T
    future: Future[R]
    tries: int = 1


@dataclass
class _Flight(Generic[T, R]):
    """The calls that are drawn and not yet yielded, in the order of their items."""

    executor: Executor
    task: Callable[[T], R]
    items: Iterator[T | NotYet]
    retries: int
    window: int
    instead: Callable[[T, BaseException], T | None]
    look: Callable[[], None]
    calls: dict[int, _Call[T, R]] = field(default_factory=dict)
    drawn: int = 0
    exhausted: bool = False

    def fill(self) -> None:
        """Draw and submit while a slot is free."""
        running = sum(not call.future.done() for call in self.calls.values())
        while not self.exhausted and len(self.calls) < self.window and running < self.executor.slots:
            try:
                item = next(self.items)
            except StopIteration:
                self.exhausted = True
                return
            if isinstance(item, NotYet):
                return
            call = _Call(self.drawn, item, self.executor.submit(self.task, item))
            self.calls[self.drawn] = call
            self.drawn += 1
            running += not call.future.done()

    def take(self, ordered: bool) -> Outcome[R]:
        """Wait for the next outcome: the first one in order, or the first one that is there."""
        while True:
            for call in list(self.calls.values()):
                if call.future.done() and not self._try_again(call):
                    if ordered and call.index != min(self.calls):
                        continue
                    del self.calls[call.index]
                    return self._outcome(call)
            running = [call.future for call in self.calls.values() if not call.future.done()]
            wait(running, timeout=LOOK_S, return_when=FIRST_COMPLETED)
            self.look()
            self.fill()

    def _try_again(self, call: _Call[T, R]) -> bool:
        error = None if call.future.cancelled() else call.future.exception()
        if error is None:
            return False
        if not isinstance(error, WorkerLost):
            other = self.instead(call.item, error)
            if other is None:
                return False
            call.item = other
        elif call.tries > self.retries:
            return False
        else:
            call.tries += 1
        call.future = self.executor.submit(self.task, call.item)
        return True

    def _outcome(self, call: _Call[T, R]) -> Outcome[R]:
        if call.future.cancelled():
            return Outcome(call.index, error=TaskFailed("the task was cancelled before it started"))
        error = call.future.exception()
        if isinstance(error, WorkerLost) and call.tries > 1:
            given_up = WorkerLost(
                f"item {call.index} lost its worker {call.tries} times in a row and was given up: {error.message}",
                hint=error.hint,
                **error.context,
            )
            given_up.__cause__ = error
            error = given_up
        return Outcome(call.index, error=error) if error is not None else Outcome(call.index, call.future.result())

    def cancel(self) -> None:
        for call in self.calls.values():
            call.future.cancel()
