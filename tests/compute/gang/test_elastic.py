"""Going on after a loss: with the same number of members, then with fewer."""

from collections.abc import Callable
from typing import Any

import pytest

from shardwise.compute.gang.base import GangBroken, Member, NoRoom
from shardwise.compute.gang.elastic import Elastic
from shardwise.core.errors import MemberLost, SchemaError, TaskFailed
from shardwise.core.parallel import Split


class Fragile:
    """A gang that is lost as often as it is told."""

    def __init__(self, losses: int, rooms: list[int]) -> None:
        self.losses, self.rooms, self.sizes = losses, rooms, list[int]()
        self.loss: Exception = MemberLost("member 0 is lost")
        self.most = 100  # for which there turns out to be room

    def room(self) -> int:
        return self.rooms[min(len(self.sizes), len(self.rooms) - 1)]

    def run(self, worker: Callable[[Member], Any], size: int, **_: Any) -> list[Any]:
        self.sizes.append(size)
        if len(self.sizes) <= self.losses:
            raise self.loss
        if size > self.most:
            raise NoRoom("there is no room")
        return [worker(None)] * size  # type: ignore[arg-type]

    def close(self) -> None: ...


def done(_member: Member) -> str:
    return "done"


@pytest.mark.parametrize(
    ("losses", "rooms", "sizes"),
    [
        (0, [4], [4]),
        (1, [4], [4, 4]),
        (2, [4], [4, 4, 3]),
        (3, [4], [4, 4, 3, 2]),
        (1, [4, 2], [4, 2]),  # a machine is gone
        (0, [2], [2]),
    ],
)
def test_sizes_after_losses(losses: int, rooms: list[int], sizes: list[int]) -> None:
    gang, told = Fragile(losses, rooms), list[str]()
    assert Elastic(gang, told.append).run(done, 4) == "done"
    assert gang.sizes == sizes
    assert len(told) == losses


@pytest.mark.parametrize(
    ("losses", "rooms", "sizes"),
    [
        (0, [3], [2]),
        (2, [4], [4, 4, 2]),
        (3, [4], [4, 4, 2, 1]),
        (1, [4, 3], [4, 2]),  # a machine is gone
        (1, [4, 1], [4, 1]),
    ],
)
def test_sizes_are_those_that_can_do_the_work(losses: int, rooms: list[int], sizes: list[int]) -> None:
    gang, told = Fragile(losses, rooms), list[str]()
    assert Elastic(gang, told.append, Split(kind="tensor", parts=2).fitting).run(done, 4) == "done"
    assert gang.sizes == sizes
    assert [text.rpartition("with ")[2] for text in told] == [f"{size}." for size in sizes[1:]]


def test_room_that_is_not_there_is_less_by_what_can_do_the_work() -> None:
    gang = Fragile(1, [4])
    gang.most = 1
    assert Elastic(gang, print, Split(kind="tensor", parts=2).fitting).run(done, 4) == "done"
    assert gang.sizes == [4, 4, 2, 1]


def test_a_step_forward_forgets_losses() -> None:
    gang = Fragile(3, [2])
    elastic = Elastic(gang, lambda _: elastic.stepped())
    assert elastic.run(done, 2) == "done"
    assert gang.sizes == [2, 2, 2, 2]
    assert elastic.losses == 3


@pytest.mark.parametrize("kind", [MemberLost, GangBroken])
def test_a_single_member_that_is_lost_twice_is_given_up(kind: type[TaskFailed]) -> None:
    gang = Fragile(100, [2])
    gang.loss = kind("it is lost")
    with pytest.raises(kind, match="it is lost"):
        Elastic(gang, print).run(done, 2)
    assert gang.sizes == [2, 2, 1]


def test_room_that_is_not_there_after_a_loss_makes_it_smaller() -> None:
    gang, told = Fragile(1, [3]), list[str]()
    gang.most = 1
    assert Elastic(gang, told.append).run(done, 3) == "done"
    assert gang.sizes == [3, 3, 2, 1]
    assert "There is no room. Going on with 1." in told


def test_room_that_was_never_there_is_an_error() -> None:
    gang = Fragile(0, [3])
    gang.most = 1
    with pytest.raises(NoRoom):
        Elastic(gang, print).run(done, 3)


def test_what_a_worker_raises_is_not_tried_again() -> None:
    def fail(_member: Member) -> None:
        raise SchemaError("no")

    gang = Fragile(0, [2])
    with pytest.raises(SchemaError):
        Elastic(gang, print).run(fail, 2)
    assert gang.sizes == [2]
