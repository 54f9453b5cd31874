"""Two of LightGBM's machines in this process, for trees that are to be those of any number of members.

LightGBM's distributed learner is another one than its serial one. It draws columns once more at the root of a
tree. And it looks at all columns in each node, where the serial one leaves out those that parted nothing in the node
above: with random thresholds, which mostly part nothing where few rows are left, these are soon all of them, and
branches end (docs/decisions/0024-forests-adaboost-svm.md has what that costs). With gradients whose sums are exact
(`trees_loss.exact`) it grows the same trees for any number of machines from two on; so one alone is two.

Each machine is a thread with a half of the rows; LightGBM keeps its connections by thread. What they exchange goes
through functions of ours (`LGBM_NetworkInitWithFunctions`) from memory to memory. One of them works at a time, so that
there are no more threads than were given.
"""

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any

import lightgbm as lgb

from shardwise.compute.gang.base import Member
from shardwise.core.errors import Pruned
from shardwise.data.rows import BinnedRows
from shardwise.data.rows_window import ALIGNED_ROWS, RowsWindow
from shardwise.models.base import FitRun
from shardwise.models.trees_gang import Growers, Together
from shardwise.models.trees_row import be_silent, call
from shardwise.models.trees_soft import Update

Fit = Callable[[BinnedRows, BinnedRows | None, FitRun], None]
LEAST_ROWS = 64  # of a tree: a machine without any row is an error
_GO, _STOP, _PRUNED = b"go", b"stop", b"pruned"
_REDUCE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int32)
_PLACES = ctypes.POINTER(ctypes.c_int32)
_SCATTER = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int, _PLACES, _PLACES, ctypes.c_int, ctypes.c_void_p,
    ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p),
)  # fmt: skip
_GATHER = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_int32, _PLACES, _PLACES, ctypes.c_int, ctypes.c_void_p, ctypes.c_int32
)


def _nothing(_: object) -> None:
    """What the last one does where the two only tell each other something."""


class _Ended(Exception):
    """The other machine does not go on."""


class _Meeting:
    """Where two threads, of which one works at a time, wait for each other: who comes first lets the other one work."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self._turns = threading.Lock(), threading.Lock()  # free for who may work
        self._turns[1].acquire()
        self._here: dict[int, Any] = {}
        self._met: list[Any] = []

    def begin(self, rank: int) -> None:
        """Wait for the first turn; the one of rank 0 has it."""
        self._turns[rank].acquire()
        if self.failure is not None:
            raise _Ended

    def meet(self, rank: int, brought: Any, both: Callable[[list[Any]], None] = _nothing) -> list[Any]:
        """What the two have brought, by rank, once they are here; the last one does `both` before either goes on.

        Raises `_Ended` where one of them has failed.
        """
        self._here[rank] = brought
        if self.failure is None and len(self._here) == 2:
            self._met, self._here = [self._here[0], self._here[1]], {}
            both(self._met)
        elif self.failure is None:
            self.end(rank)
            self._turns[rank].acquire()
        if self.failure is not None:
            raise _Ended
        return self._met

    def end(self, rank: int) -> None:
        """Let the other one work."""
        self._turns[1 - rank].release()

    def fail(self, error: BaseException) -> None:
        """Let both end."""
        self.failure = self.failure or error
        for turn in self._turns:
            if turn.locked():
                turn.release()


@dataclass(frozen=True)
class Twin:
    """One of the two, as a member of a gang: what `Together` and `FitRun` ask of one."""

    meeting: _Meeting
    rank: int
    size: int = 2

    def gather(self, content: bytes) -> list[bytes]:
        return self.meeting.meet(self.rank, content)

    def broadcast(self, content: bytes | None) -> bytes:
        return bytes(self.meeting.meet(self.rank, content)[0])


class Twins(Together):
    """A half of the rows, beside the other half."""

    def __init__(self, twin: Twin) -> None:
        member: Any = twin
        super().__init__(member)
        self._twin = twin

    def _window(self, rows: BinnedRows) -> RowsWindow:
        if rows.n_rows >= 2 * ALIGNED_ROWS:
            return super()._window(rows)
        ends = 0, rows.n_rows // 2, rows.n_rows
        return RowsWindow(rows, ends[self._twin.rank], ends[self._twin.rank + 1])

    @contextmanager
    def network(self, threads: int) -> Iterator[dict[str, Any]]:
        be_silent()
        functions = _SCATTER(self._scatter), _GATHER(self._gather)  # kept for as long as they may be called
        try:
            call("LGBM_NetworkInitWithFunctions", 2, self._twin.rank, *functions)
            yield {"tree_learner": "data", "num_machines": 2, "num_threads": threads}
        finally:
            call("LGBM_NetworkFree")

    def counted(self, update: Update, run: FitRun, rows: int) -> Update:
        counted = super().counted(update, run, rows)

        def one(booster: lgb.Booster) -> bool:
            ended = counted(booster)
            if self._twin.meeting.failure is not None:  # what LightGBM was given then means nothing
                raise _Ended
            return ended

        return one

    def _waiting(self) -> AbstractContextManager[None]:
        return nullcontext()  # for nobody but the other half, which works meanwhile

    def _scatter(self, *asked: Any) -> None:
        """Each gets the sums of its block."""
        given, _, item, starts, lengths, _, out, _, reducer = asked
        reduce = _REDUCE(reducer[0])

        def both(pairs: list[tuple[int, int]]) -> None:
            for rank, (own, place) in enumerate(pairs):
                other = pairs[1 - rank][0]
                ctypes.memmove(place, own + starts[rank], lengths[rank])
                reduce(other + starts[rank], place, item, lengths[rank])

        if not self._exchange((given, out), both):
            ctypes.memmove(out, given + starts[self._twin.rank], lengths[self._twin.rank])

    def _gather(self, *asked: Any) -> None:
        """Each gets the blocks of both."""
        given, _, starts, lengths, _, out, _ = asked

        def both(pairs: list[tuple[int, int]]) -> None:
            for _, place in pairs:
                for rank, (own, _) in enumerate(pairs):
                    ctypes.memmove(place + starts[rank], own, lengths[rank])

        if not self._exchange((given, out), both):
            ctypes.memset(out + starts[1 - self._twin.rank], 0, lengths[1 - self._twin.rank])
            ctypes.memmove(out + starts[self._twin.rank], given, lengths[self._twin.rank])

    def _exchange(self, places: tuple[int, int], both: Callable[[list[Any]], None]) -> bool:
        """False where one has failed: a round is ended with what is here, as no exception passes through LightGBM.

        What was raised is kept, and raised after the round.
        """
        try:
            self._twin.meeting.meet(self._twin.rank, places, both)
        except _Ended:
            return False
        except BaseException as error:
            self._twin.meeting.fail(error)
            return False
        return True


def growers(member: Member | Twin | None) -> Growers:
    """Who grows the trees of a model."""
    if isinstance(member, Twin):
        return Twins(member)
    return Growers() if member is None or member.size == 1 else Together(member)


def fit_by_two(fits: tuple[Fit, Fit], train: BinnedRows, valid: BinnedRows | None, run: FitRun) -> None:
    """Fit as two members would: `fits` are those of two models that are alike, of which the first one is wanted.

    Raises what the fit raises.
    """
    meeting = _Meeting()
    runs = _runs(run, meeting)

    def half(rank: int) -> None:
        try:
            meeting.begin(rank)
            fits[rank](train, valid, runs[rank])
        except Pruned:
            meeting.end(rank)  # who goes the same way
            raise
        except BaseException as error:
            meeting.fail(error)
            raise
        meeting.end(rank)

    def second() -> None:
        with suppress(BaseException):  # the first one ends by the same
            half(1)

    thread = threading.Thread(target=second, name="the other half of the rows")
    thread.start()
    try:
        half(0)
    except _Ended:
        assert meeting.failure is not None
        raise meeting.failure from None
    finally:
        thread.join()


def _runs(run: FitRun, meeting: _Meeting) -> tuple[FitRun, FitRun]:
    """For the two; what is reported is answered to the first one."""
    twins: tuple[Any, Any] = (Twin(meeting, 0), Twin(meeting, 1))

    def first(step: int, loss: float) -> bool:
        try:
            going = run.report(step, loss)
        except Pruned:
            twins[0].broadcast(_PRUNED)
            raise
        twins[0].broadcast(_GO if going else _STOP)
        return going

    def second(_step: int, _loss: float) -> bool:
        answer = twins[1].broadcast(None)
        if answer == _PRUNED:
            raise Pruned
        return bool(answer == _GO)

    silent: dict[str, Any] = {"note": _nothing, "notice": _nothing}
    return replace(run, member=twins[0], report=first), replace(run, member=twins[1], report=second, **silent)
