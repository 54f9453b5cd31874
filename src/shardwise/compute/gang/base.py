"""What a gang is, what a member can do, and what they say when one is lost."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import numpy as np

from shardwise.core.errors import ConfigError, TaskFailed
from shardwise.core.events import WorkerView

R = TypeVar("R")
Call = Callable[[int, Any], Any]  # (rank, what a member asks) -> the answer


class GangBroken(TaskFailed):
    """A member lost its connection to another one, or to the caller; the one that is lost is named by the caller."""


class NoRoom(ConfigError):
    """So many members cannot be started together, or not any more."""


class Member(Protocol):
    """One of `size` workers that run together. All of them call the same collectives in the same order.

    What is summed is summed in an order that is fixed, so that all members, and all runs, get the same bits.
    """

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def all_reduce(self, values: np.ndarray) -> np.ndarray:
        """The sum over all members, by rank: same shape and type. Raises `GangBroken`."""
        ...

    def sum_slices(self, slices: Mapping[int, np.ndarray], total: int) -> np.ndarray:
        """The sum of `total` arrays of one shape, of which this member has those of `share_of(rank, size, total)`.

        Added up in the order of a binary tree over the slices: the same bits whatever the number of members.
        """
        ...

    def gather(self, content: bytes) -> list[bytes]:
        """What each member gave, by rank; all members get all of it."""
        ...

    def broadcast(self, content: bytes | None) -> bytes:
        """What the member of rank 0 gave."""
        ...

    def barrier(self) -> None:
        """Wait until all members are here."""
        ...

    def ask(self, question: Any) -> Any:
        """The caller's answer to the question of rank 0; all members get the same one. Small and picklable."""
        ...

    def call(self, question: Any) -> Any:
        """The caller's answer to this member alone; no collective. Small and picklable."""
        ...

    def address(self) -> str:
        """The host under which the others reach this member."""
        ...

    def saw(self, rows: int) -> None:
        """Count rows that were worked on, for those who watch."""
        ...

    def elsewhere(self) -> AbstractContextManager[None]:
        """A collective, inside of which a library talks to the other members by itself in this thread: as long as it
        sleeps it counts as talking, so far as all members sleep, and else as waiting."""
        ...


class Gang(Protocol):
    """Starts members together. A gang may run one worker after another."""

    def room(self) -> int:
        """How many members can be started together now."""
        ...

    def run(self, worker: Callable[[Member], R], size: int, *, answer: Call = ..., watch: "Watch" = ...) -> list[R]:
        """Run `worker(member)` in `size` members at once; what they return, by rank.

        The worker is picklable, by reference to its module. `answer(rank, question)` is called in this thread for what
        members ask. A member that dies, or gives no sign of life for `pulse.SILENT_S`, ends all: `MemberLost`, which
        names it. An error of a worker ends all too, and is raised. Raises `NoRoom` where there is none for so many.
        """
        ...

    def close(self) -> None:
        """End the members, and what was started for them. May be called twice."""
        ...


class Launcher(Protocol):
    """How an engine starts members."""

    host: str  # where this process is reached by them

    def room(self) -> int: ...

    def launch(self, messages: "list[tuple[Callable[[Any], Any], Any]]") -> "list[Future[Any]]":
        """Start `task(item)` for all of them at once."""
        ...

    def pid(self, rank: int) -> int | None:
        """The process of a member that was launched; None where the engine does not tell, or on another machine."""
        ...

    def end(self) -> None:
        """End all that runs, hung or not; their futures need not be waited for."""
        ...

    def close(self) -> None: ...


Watch = Callable[[list[WorkerView]], None]


def share_of(rank: int, size: int, total: int) -> range:
    """Which of `total` equal pieces are a member's: consecutive, at most one more than another one's.

    >>> [list(share_of(rank, 3, 4)) for rank in range(3)]
    [[0], [1], [2, 3]]
    """
    return range(total * rank // size, total * (rank + 1) // size)
