"""A gang that goes on after a loss: begun again from the worker's own checkpoint, smaller if it must be."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from shardwise.compute.gang.base import Call, Gang, GangBroken, Member, NoRoom, Watch
from shardwise.compute.gang.desk import ignore, refuse
from shardwise.core.errors import MemberLost, TaskFailed

TRIES = 2  # with the same number of members; then one fewer each time


def any_number(most: int) -> int:
    """All of them can do the work."""
    return most


@dataclass
class Elastic:
    """Runs a worker that keeps checkpoints until it has ended.

    A lost member ends the gang, and so does a connection that breaks between two that live; it is begun again with as
    many members if there is room for them, and one fewer each time that there turns out to be none, or that it was lost
    `TRIES` times in a row without a step forward (`stepped`). `tell(text)` says what is done. Raises `MemberLost` or
    `GangBroken` when a single member is lost again and again, `NoRoom` when there is none at all, and what a worker
    raises.

    `fitting(most)` says how many of at most so many members can do the work; at least one can.
    """

    gang: Gang
    tell: Callable[[str], None]
    fitting: Callable[[int], int] = any_number
    losses: int = field(default=0, init=False)
    _in_a_row: int = field(default=0, init=False)

    def stepped(self) -> None:
        """The work has come further than ever before: what was lost before does not count any more."""
        self._in_a_row = 0

    def run(self, worker: Callable[[Member], Any], size: int, *, answer: Call = refuse, watch: Watch = ignore) -> Any:
        """What the member of rank 0 returns in the end."""
        size = self._within(size)
        while True:
            try:
                return self.gang.run(worker, size, answer=answer, watch=watch)[0]
            except (MemberLost, GangBroken) as error:
                size = self._next_size(size, error)
            except NoRoom as error:  # a machine that was lost may be counted for a while
                if not self.losses or size == 1:
                    raise
                size = self._within(size - 1)
                self.tell(f"{error.message[0].upper()}{error.message[1:]}. Going on with {size}.")

    def _next_size(self, size: int, error: TaskFailed) -> int:
        self.losses += 1
        self._in_a_row += 1
        if self._in_a_row >= TRIES and size == 1:
            raise error
        found = self._within(size - (self._in_a_row >= TRIES))
        silent_s = error.context.get("silent_s")
        named = "" if silent_s is None else f" (named {silent_s:.1f} s after it was heard last)"
        told = f"{error.message[0].upper()}{error.message[1:]}{named}."
        self.tell(f"{told} Going on from the last checkpoint with {found}.")
        return found

    def _within(self, most: int) -> int:
        """How many members there can be, of at most so many."""
        return self.fitting(max(1, min(most, self.gang.room())))
