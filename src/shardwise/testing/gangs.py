"""Conformance kit for gangs.

Subclass `GangConformance` in a test module and give it a fixture `gang` that yields an open one with room for three
members; it may be shared by the tests (`scope="module"`).

    class TestProcesses(GangConformance):
        @pytest.fixture(scope="module")
        def gang(self):
            with process_gang(3) as gang:
                yield gang
"""

import os
import signal
import time
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import pytest

from shardwise.compute.gang.base import Gang, Member, share_of
from shardwise.core.errors import ConfigError, MemberLost, SchemaError, TaskFailed
from shardwise.core.events import WorkerView

NAMED_S = 10.0  # of silence, after which a lost member is named at the latest
SLICES = 8
_WORK_S = 0.4

# -- workers: at the top of a module, so that members can import them -------------------------------------------------


def who(member: Member) -> tuple[int, int, int]:
    return member.rank, member.size, os.getpid()


def collectives(member: Member) -> dict[str, Any]:
    """One of each, with values that tell who gave them."""
    member.barrier()
    given = f"from {member.rank}".encode() * member.rank  # of another length on each; none on the first
    return {
        "gather": member.gather(given),
        "broadcast": member.broadcast(b"of the first" if member.rank == 0 else None),
        "sum": member.all_reduce(np.full((2, 3), float(member.rank + 1))),
        "asked": member.ask(("what is twice", 21)),
    }


def wide_range(shape: tuple[int, ...], number: int) -> np.ndarray:
    """Float32 numbers whose sum depends on the order in which they are added."""
    rng = np.random.default_rng(number)
    return (rng.normal(size=shape) * 10.0 ** rng.integers(-4, 5, shape)).astype(np.float32)


@dataclass(frozen=True)
class SumSlices:
    shapes: tuple[tuple[int, ...], ...]

    def __call__(self, member: Member) -> tuple[bytes, ...]:
        mine = share_of(member.rank, member.size, SLICES)
        return tuple(
            member.sum_slices({i: wide_range(shape, i) for i in mine}, SLICES).tobytes() for shape in self.shapes
        )


@dataclass(frozen=True)
class Many:
    """Sums of many sizes, one after the other, each of which can be checked."""

    rounds: int

    def __call__(self, member: Member) -> int:
        right = 0
        for number in range(self.rounds):
            length = (number * 7919) % 30_000
            total = member.all_reduce(np.full(length, member.rank + number, np.int64))
            wanted = sum(range(member.size)) + number * member.size
            right += bool((total == wanted).all() and len(total) == length)
            member.saw(10)
        return right


def lopsided(member: Member) -> None:
    """Where a library talks by itself the last member works, and the others have nothing to do meanwhile."""
    with member.elsewhere():
        if member.rank < member.size - 1:
            time.sleep(_WORK_S)
        until_s = time.thread_time() + _WORK_S
        while member.rank == member.size - 1 and time.thread_time() < until_s:
            pass


@dataclass(frozen=True)
class Fails:
    rank: int

    def __call__(self, member: Member) -> None:
        if member.rank == self.rank:
            raise SchemaError("as asked", hint="Ask for something else.")
        member.barrier()


@dataclass(frozen=True)
class Signals:
    """One member sends itself a signal while the others wait for it in an exchange."""

    rank: int
    signal: int

    def __call__(self, member: Member) -> NoReturn:
        member.barrier()
        if member.rank == self.rank:
            os.kill(os.getpid(), self.signal)
        while True:
            member.barrier()
            time.sleep(0.01)


@dataclass(frozen=True)
class OutOfStep:
    def __call__(self, member: Member) -> None:
        if member.rank == 0:
            member.barrier()
        member.all_reduce(np.zeros(3))


def twice(rank: int, question: Any) -> Any:
    assert rank == 0
    return 2 * question[1]


def plain_sum(shape: tuple[int, ...]) -> bytes:
    """The sum of all slices in the order of a binary tree."""
    values = [wide_range(shape, i) for i in range(SLICES)]
    while len(values) > 1:
        values = [values[i] + values[i + 1] for i in range(0, len(values), 2)]
    return values[0].tobytes()


class GangConformance:
    """What `Gang.run` gives on any engine."""

    @pytest.mark.parametrize("size", [1, 2, 3])
    def test_members_run_together_and_return_by_rank(self, gang: Gang, size: int) -> None:
        found = gang.run(who, size)
        assert [(rank, of) for rank, of, _ in found] == [(rank, size) for rank in range(size)]
        assert len({pid for *_, pid in found} | {os.getpid()}) == size + 1

    @pytest.mark.parametrize("size", [1, 3])
    def test_collectives(self, gang: Gang, size: int) -> None:
        for result in gang.run(collectives, size, answer=twice):
            assert result["gather"] == [f"from {rank}".encode() * rank for rank in range(size)]
            assert result["broadcast"] == b"of the first"
            np.testing.assert_array_equal(result["sum"], np.full((2, 3), sum(range(1, size + 1))))
            assert result["asked"] == 42

    @pytest.mark.parametrize("size", [1, 2, 3])
    def test_slices_sum_to_the_same_bits_on_any_number_of_members(self, gang: Gang, size: int) -> None:
        shapes = ((), (5,), (0, 3), (30, 41), (200_003,))
        assert set(gang.run(SumSlices(shapes), size)) == {tuple(map(plain_sum, shapes))}

    def test_many_exchanges_and_the_view_of_them(self, gang: Gang) -> None:
        views: list[list[WorkerView]] = []
        assert gang.run(Many(300), 3, watch=views.append) == [300] * 3
        assert [view.rank for view in views[-1]] == [0, 1, 2]
        assert [view.rows for view in views[-1]] == [3000] * 3
        assert all(view.work_s + view.talk_s + view.wait_s > 0 for view in views[-1])

    def test_while_a_library_talks_who_sleeps_waits_and_who_runs_works(self, gang: Gang) -> None:
        views: list[list[WorkerView]] = []
        gang.run(lopsided, 2, watch=views.append)
        waits, works = views[-1]
        assert waits.wait_s > _WORK_S / 2
        assert works.work_s > _WORK_S / 2
        assert works.wait_s < waits.wait_s

    def test_the_error_of_a_worker_ends_all_and_is_raised(self, gang: Gang) -> None:
        with pytest.raises(SchemaError, match="as asked") as caught:
            gang.run(Fails(1), 3)
        assert caught.value.hint == "Ask for something else."
        assert gang.run(who, 2)[1][:2] == (1, 2)

    @pytest.mark.parametrize("kind", [ConfigError, PermissionError])  # a ValueError, an OSError
    def test_what_the_caller_raises_passes_through_and_ends_all(self, gang: Gang, kind: type[Exception]) -> None:
        def no(rank: int, question: Any) -> Any:
            raise kind(f"{rank} asks {question}")

        with pytest.raises(kind, match="0 asks"):
            gang.run(collectives, 2, answer=no)
        assert gang.run(who, 1)[0][:2] == (0, 1)

    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
    def test_a_lost_member_is_named_and_the_next_gang_runs(self, gang: Gang, how: int) -> None:
        """In the gang's own record: how long an engine takes to start members and to end them is no part of it."""
        with pytest.raises(MemberLost, match="member 1 of 3") as caught:
            gang.run(Signals(1, how), 3)
        assert caught.value.context["member"] == 1
        silent_s = caught.value.context["silent_s"]
        assert isinstance(silent_s, float)
        assert 0.0 <= silent_s <= NAMED_S
        assert len(gang.run(who, 3)) == 3

    def test_members_out_of_step_are_told(self, gang: Gang) -> None:
        with pytest.raises(TaskFailed):
            gang.run(OutOfStep(), 2)

    @pytest.mark.parametrize("size", [0, 10_000])
    def test_where_there_is_no_room_it_is_said(self, gang: Gang, size: int) -> None:
        with pytest.raises(ConfigError, match=f"{size} members were asked for, there is room for"):
            gang.run(who, size)
