"""Executors run independent tasks; `stream` is the one loop over them."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


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
    """Runs tasks; at most `slots` at a time. Tasks and items are small and picklable: references, never tables."""

    slots: int

    def submit(self, task: Callable[[T], R], item: T) -> Future[R]: ...

    def close(self) -> None:
        """Stop the workers; running tasks are not waited for."""
        ...


def stream(
    executor: Executor, task: Callable[[T], R], items: Iterable[T], *, ordered: bool = False, retries: int = 0
) -> Iterator[Outcome[R]]:
    """Run `task` over `items` lazily: at most `executor.slots` in flight, no item drawn before it can start.

    `ordered=True` yields in the order of the items (a reduction then gives the same bytes on 1 or n workers). A task
    that raises is an `Outcome` with its error; one whose worker died (`WorkerLost`) is tried again `retries` times.
    """
    raise NotImplementedError  # written in compute/base.py by the compute room
