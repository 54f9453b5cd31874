"""Where members of a gang come together: the caller's side of their lines, which also notices who is lost.

A member is lost when its line breaks, when the engine says that its process died, or when it has been silent for
`pulse.SILENT_S` although it beats every half second: a stopped process, a machine that hangs, a cut cable. Silence is
measured on this process's own monotonic clock; time in which this process itself did not run does not count, nor does
that in which the process of a member is seen to live, by this process or, on another machine, by a witness. Before a
member has come, and between the end of its work and its answer, its process is looked at where it is known.

Whoever can reach the port may call: nothing is read of what one says who does not begin with the token.
"""

import hmac
import json
import pickle
import secrets
import select
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from shardwise.compute.gang.base import Call, GangBroken, Launcher, Member, NoRoom, Watch
from shardwise.compute.gang.lines import Frames, frame
from shardwise.compute.gang.pulse import SILENT_S, Look, Process, Pulse, State
from shardwise.compute.gang.seat import Seat, sit
from shardwise.compute.gang.wire import ANSWER, ASK, BEAT, DONE, HELLO, TABLE, TOKEN_BYTES
from shardwise.core.errors import MemberLost, ShardwiseError, TaskFailed, WorkerLost
from shardwise.core.events import WorkerView

COME_S = 120.0  # for all members to come
GREET_S = 30.0  # for who has called to say who it is
ANSWER_S = 60.0  # after the work of all has ended, for their answers to come
BLAME_S = 2.0  # after a member says that it misses another, for the one that is lost to be known
LOOK_S = 0.1
VIEW_S = 1.0
_PIECE = 2**16
_STRANGERS = 128  # may call at once, and members are still heard


def ignore(_views: list[WorkerView]) -> None:
    """Nobody watches."""


def refuse(rank: int, question: Any) -> Any:
    """Nobody answers."""
    raise TaskFailed(f"member {rank} asks what nobody answers: {question!r}")


class StarGang:
    """Gangs of an engine that can start tasks together; see `base.Gang`."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher

    def room(self) -> int:
        """How many members can be started together now."""
        return self._launcher.room()

    def run(
        self, worker: Callable[[Member], Any], size: int, *, answer: Call = refuse, watch: Watch = ignore
    ) -> list[Any]:
        """Run the worker in `size` members; see `base.Gang`."""
        room = self._launcher.room()
        if not 1 <= size <= room:
            raise NoRoom(f"{size} members were asked for, there is room for {room}", hint="Give fewer --workers.")
        with Desk(self._launcher.host, size, self._launcher.pid) as desk:
            seats = [(sit, Seat(rank, size, desk.address, desk.token, worker)) for rank in range(size)]
            futures = self._launcher.launch(list(seats))
            try:
                return desk.serve(futures, answer, watch)
            except BaseException:
                self._launcher.end()
                raise

    def close(self) -> None:
        """End the members, and what was started for them."""
        self._launcher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(eq=False)
class _Line:
    """The connection of one who may be a member, or a witness of one; `rank` is known from its first frame on."""

    socket: socket.socket
    came_s: float = field(default_factory=time.monotonic)
    frames: Frames = field(default_factory=Frames)
    rank: int = -1
    place: str = ""
    address: tuple[str, int] = ("", 0)
    pulse: Pulse = field(default_factory=lambda: Pulse(None, 0.0))
    seen: bool = False  # whether its process can be looked at from here
    told: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])
    rate: float = 0.0
    rated: tuple[float, float] = (0.0, 0.0)  # (seconds, rows) when the rate was last worked out
    questions: list[bytes] = field(default_factory=list)  # that wait for an answer
    done: bool = False  # it says no more: its work has ended, or the line

    def view(self, now: float) -> WorkerView:
        rows, work_s, talk_s, wait_s = self.told
        since_s, before = self.rated
        if now > since_s:
            self.rate, self.rated = (rows - before) / (now - since_s) if since_s else 0.0, (now, rows)
        return WorkerView(
            rank=self.rank, place=self.place, rows=int(rows), work_s=work_s, talk_s=talk_s, wait_s=wait_s,
            rows_s=self.rate,
        )  # fmt: skip


class Desk:
    """Listens on `host` for `size` members, and serves them until all have ended. A context manager.

    `pid(rank)` is the process of a member, where the launcher knows it before the member has come.
    """

    def __init__(self, host: str, size: int, pid: Callable[[int], int | None]) -> None:
        self.size = size
        self.token = secrets.token_bytes(TOKEN_BYTES)
        self._pid = pid
        self._awaited: dict[int, tuple[int, Pulse]] = {}  # pid and pulse of those who have not come
        self._door = socket.create_server((host, 0), backlog=_STRANGERS + 2 * size)
        self._door.setblocking(False)
        self.address: tuple[str, int] = self._door.getsockname()[:2]
        self._strangers: list[_Line] = []
        self._members: dict[int, _Line] = {}
        self._witnesses: list[_Line] = []
        self._suspect: tuple[float, BaseException] | None = None
        self._looked_s = time.monotonic()
        self._begun_s = self._looked_s
        self._ended_s = 0.0  # since when the work of all has ended
        self._viewed_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for line in self._lines():
            line.socket.close()
        self._door.close()

    def serve(self, futures: Sequence["Future[Any]"], answer: Call, watch: Watch) -> list[Any]:
        """What the members return, by rank. Raises the error that ended the gang; that of a lost member tells by
        `silent_s` how long it had said nothing when it was named."""
        try:
            return self._served(futures, answer, watch)
        except MemberLost as error:
            member = error.context["member"]
            assert isinstance(member, int)
            error.context["silent_s"] = round(self._silent_s(member), 1)
            raise

    def _served(self, futures: Sequence["Future[Any]"], answer: Call, watch: Watch) -> list[Any]:
        while not all(future.done() and future.exception() is None for future in futures):
            self._listen(answer)
            self._check_futures(futures)
            self._check_coming()
            self._check_silence(futures)
            self._check_answers(futures)
            now = time.monotonic()
            if now - self._viewed_s >= VIEW_S and len(self._members) == self.size:
                watch([self._members[rank].view(now) for rank in range(self.size)])
                self._viewed_s = now
        self._hear_the_rest(answer)
        watch([line.view(time.monotonic()) for _, line in sorted(self._members.items())])
        return [future.result() for future in futures]

    # -- lines -------------------------------------------------------------------------------------------------------

    def _lines(self) -> list[_Line]:
        return [*self._members.values(), *self._witnesses, *self._strangers]

    def _listen(self, answer: Call) -> None:
        """Take what members say, waiting for it for a moment."""
        door, lines = self._door.fileno(), {line.socket.fileno(): line for line in self._lines() if not line.done}
        poll = select.poll()  # for file descriptors of any number
        for number in (door, *lines):
            poll.register(number, select.POLLIN)
        readable = [number for number, _ in poll.poll(1000 * LOOK_S)]
        now = time.monotonic()
        if now - self._looked_s > 1.0 + LOOK_S:
            self._forgive(now - self._looked_s)
        self._looked_s = now
        for number in readable:
            if number == door:
                self._open()
            elif not lines[number].done:
                self._read(lines[number], answer)
        for line in [line for line in self._strangers if now - line.came_s > GREET_S]:
            self._drop(line, TimeoutError("it does not say who it is"))

    def _open(self) -> None:
        with suppress(OSError):  # who called has gone, or there are too many
            link, _ = self._door.accept()
            link.settimeout(SILENT_S)  # for it to take what is sent
            self._strangers.append(_Line(link))
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _forgive(self, seconds: float) -> None:
        """This process did not run for so long: it cannot know who was silent meanwhile."""
        for pulse in [line.pulse for line in self._members.values()] + [pulse for _, pulse in self._awaited.values()]:
            pulse.forgive(seconds)
        for line in self._strangers:
            line.came_s += seconds
        self._begun_s += seconds
        self._ended_s += seconds if self._ended_s else 0.0

    def _hear_the_rest(self, answer: Call) -> None:
        """What members said last may not be read yet, though their results are here."""
        until = time.monotonic() + BLAME_S
        while time.monotonic() < until and not all(line.done for line in self._members.values()):
            self._listen(answer)

    def _read(self, line: _Line, answer: Call) -> None:
        try:
            content = line.socket.recv(_PIECE)
            if not content:
                raise ConnectionError("it hung up")
            for kind, body in line.frames.feed(content):
                self._take(line, kind, body)
        except (OSError, ValueError) as error:
            self._drop(line, error)
        while line.questions:
            question = pickle.loads(line.questions.pop(0))  # noqa: S301 - from our own member, which has the token
            reply = pickle.dumps(answer(line.rank, question), pickle.HIGHEST_PROTOCOL)
            self._send(line, frame(ANSWER, reply))

    def _send(self, line: _Line, content: bytes) -> None:
        try:
            line.socket.sendall(content)
        except OSError as error:
            self._drop(line, error)

    def _drop(self, line: _Line, error: Exception) -> None:
        """Nothing is said on this line any more."""
        line.socket.close()
        ended, line.done = line.done, True
        if line in self._strangers:
            self._strangers.remove(line)
        elif line in self._witnesses:
            self._witnesses.remove(line)
        elif not ended:
            self._blame(GangBroken(f"the line to member {line.rank} broke: {error}"), line.rank)

    def _take(self, line: _Line, kind: bytes, body: bytes) -> None:
        line.pulse.beat(time.monotonic())
        if kind == HELLO:
            if not hmac.compare_digest(body[:TOKEN_BYTES], self.token):
                raise ValueError("a stranger")
            self._welcome(line, json.loads(body[TOKEN_BYTES:]))
        elif line.rank < 0:
            raise ValueError("no member")
        elif line in self._witnesses:
            state, ticks = json.loads(body)
            self._members[line.rank].pulse.saw(Look(State(state), ticks), time.monotonic())
        elif kind == BEAT:
            line.told = json.loads(body)
        elif kind == DONE:
            line.done = True
        elif kind == ASK:
            line.questions.append(body)

    def _welcome(self, line: _Line, hello: dict[str, Any]) -> None:
        rank = int(hello["rank"])
        if hello["witness"] != (rank in self._members):
            raise ValueError("a witness of nobody, or a second member of a rank")
        line.rank = rank
        self._strangers.remove(line)
        if hello["witness"]:
            self._witnesses.append(line)
            return
        line.place, line.frames.trusted = str(hello["place"]), True
        line.address = (str(hello["host"]), int(hello["port"]))
        process = Process(*hello["process"]) if hello["process"] else None
        line.seen = process is not None and process.is_here()
        line.pulse = Pulse(process if line.seen else None, time.monotonic())
        self._members[rank] = line
        if len(self._members) == self.size:
            peers = [self._members[rank].address for rank in range(self.size)]
            for member in self._members.values():
                self._send(member, frame(TABLE, json.dumps({"peers": peers, "seen": member.seen}).encode()))

    # -- who is lost -------------------------------------------------------------------------------------------------

    def _blame(self, error: BaseException, rank: int | None = None) -> None:
        """Remember the first sign that something is wrong: what follows may name the cause."""
        if rank is not None and not isinstance(error, MemberLost):
            error = self._lost(rank, "its line broke", error)
        if self._suspect is None or isinstance(self._suspect[1], GangBroken):
            self._suspect = (time.monotonic() if self._suspect is None else self._suspect[0], error)

    def _check_futures(self, futures: Sequence["Future[Any]"]) -> None:
        """Raises the error that ended the gang, once it is known whose it is."""
        for rank, future in enumerate(futures):
            error = future.exception() if future.done() and not future.cancelled() else None
            if error is None:
                continue
            if isinstance(error, WorkerLost):
                raise self._lost(rank, error.message, error) from error
            if not isinstance(error, GangBroken):
                if isinstance(error, ShardwiseError):
                    error.context = {"member": rank, **error.context}
                raise error
            self._blame(error)
        if self._suspect is not None and time.monotonic() - self._suspect[0] > BLAME_S:
            found = self._suspect[1]
            if isinstance(found, GangBroken) and not found.hint:
                found.hint = "No member is lost: look at the network between the workers, and at their firewalls."
            raise found

    def _check_coming(self) -> None:
        """Raises the error of who does not come: it is lost if its process is or others came, else there is no room."""
        now = time.monotonic()
        missing = [rank for rank in range(self.size) if rank not in self._members]
        for rank in missing:
            why = self._why_not(rank, now)
            if why:
                raise self._lost(rank, f"{why}, and it has not come yet")
        if missing and now - self._begun_s > COME_S:
            if self._members or self._awaited:
                raise self._lost(missing[0], f"it did not come in {COME_S:.0f} s")
            what = f"of {self.size} members {', '.join(map(str, missing))} did not come in {COME_S:.0f} s"
            raise NoRoom(what, hint="Give fewer --workers, or see whether the workers reach this machine.")

    def _why_not(self, rank: int, now: float) -> str:
        """Why a member that has not come is lost, as its process shows."""
        pid = self._pid(rank)
        if pid is None:
            return ""
        if rank not in self._awaited or self._awaited[rank][0] != pid:
            process = Process.of(pid)
            if process is None:  # beats alone would count, and there are none yet
                return ""
            self._awaited[rank] = pid, Pulse(process, now)
        return self._awaited[rank][1].lost(now)

    def _check_silence(self, futures: Sequence["Future[Any]"]) -> None:
        now = time.monotonic()
        for line in self._members.values():
            why = "" if futures[line.rank].done() else line.pulse.lost(now, ended=line.done)
            if why:
                raise self._lost(line.rank, why)

    def _check_answers(self, futures: Sequence["Future[Any]"]) -> None:
        """Work that has ended has an answer, which an engine may give with those of the others alone."""
        late = [rank for rank, future in enumerate(futures) if not future.done()]
        if not late or len(self._members) < self.size or not all(line.done for line in self._members.values()):
            return
        self._ended_s = self._ended_s or time.monotonic()
        if time.monotonic() - self._ended_s > ANSWER_S:
            raise self._lost(late[0], f"its answer did not come in {ANSWER_S:.0f} s after its work had ended")

    def _silent_s(self, rank: int) -> float:
        """Since a member has said something; of one that has not come, since it was called."""
        now = time.monotonic()
        if rank in self._members:
            return self._members[rank].pulse.silent_s(now)
        return self._awaited[rank][1].silent_s(now) if rank in self._awaited else now - self._begun_s

    def _lost(self, rank: int, why: str, cause: BaseException | None = None) -> MemberLost:
        place = f"process {self._awaited[rank][0]}" if rank in self._awaited else "a place that is not known"
        place = self._members[rank].place if rank in self._members else place
        error = MemberLost(f"member {rank} of {self.size} ({place}) is lost: {why}", member=rank)
        error.__cause__ = cause
        return error
