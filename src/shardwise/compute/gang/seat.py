"""What runs in a member: join the others, run the worker, beat all the while."""

import hmac
import json
import os
import pickle
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from shardwise.compute.gang.base import GangBroken, Member
from shardwise.compute.gang.lines import exactly, frame, receive
from shardwise.compute.gang.mesh import Mesh
from shardwise.compute.gang.pulse import Process
from shardwise.compute.gang.wire import ASK, BEAT, BEAT_S, DONE, HELLO, TABLE, TOKEN_BYTES
from shardwise.compute.gang.witness import witnessed

JOIN_S = 60.0  # for a peer to answer, when all have come to the desk
GREET_S = 5.0  # for who has begun to say who it is to have said it
_RANK_BYTES = 4
_SECONDS = struct.Struct("<d")
_CALLERS = 1024  # at once, strangers included


@dataclass(frozen=True)
class Seat:
    """A place in a gang: the task's item. `desk` is where the caller listens, `token` what members say to be let in."""

    rank: int
    size: int
    desk: tuple[str, int]
    token: bytes
    worker: Callable[[Member], Any]


def sit(seat: Seat) -> Any:
    """The task: be the member of this seat. Raises what the worker raises, `GangBroken` when others are lost."""
    try:
        line = socket.create_connection(seat.desk, JOIN_S)
    except OSError as error:
        raise GangBroken(f"the caller of the gang does not answer at {seat.desk[0]}:{seat.desk[1]}") from error
    with closing(line), _joined(seat, line) as member:
        return seat.worker(member)


@contextmanager
def _joined(seat: Seat, line: socket.socket) -> Iterator["SeatedMember"]:
    line.settimeout(None)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    host = line.getsockname()[0]
    with _Heart(line) as heart, socket.create_server((host, 0), family=line.family, backlog=_CALLERS) as door:
        process, place = Process.current(), f"{socket.gethostname()}:{os.getpid()}"
        mine = {"port": door.getsockname()[1], "place": place, "host": host, "process": process and astuple(process)}
        with heart.ending():
            try:
                heart.begin(_greeting(seat, mine))
                kind, table = receive(line)
            except OSError as error:
                raise GangBroken("the caller of the gang has ended it") from error
            assert kind == TABLE
            told = json.loads(table)
            unseen = None if told["seen"] else process
            with nullcontext() if unseen is None else witnessed(seat.desk, _greeting(seat), unseen):
                links = _links(seat, door, [(host, port) for host, port in told["peers"]])
                heart.mesh = Mesh(seat.rank, seat.size, links)
                try:
                    yield SeatedMember(heart.mesh, heart, host)
                finally:
                    heart.mesh.close()


def _greeting(seat: Seat, mine: Mapping[str, Any] | None = None) -> bytes:
    """A HELLO: the token, then what the caller needs to know of a member; of a witness (None) its member's rank."""
    return seat.token + json.dumps({"rank": seat.rank, "witness": mine is None, **(mine or {})}).encode()


def _links(seat: Seat, door: socket.socket, table: list[tuple[str, int]]) -> dict[int, socket.socket]:
    """Connected sockets by rank: each member calls those of lower ranks, and is called by those of higher ones."""
    links: dict[int, socket.socket] = {}
    greeting = seat.token + seat.rank.to_bytes(_RANK_BYTES, "little")
    try:
        for rank in range(seat.rank):
            links[rank] = socket.create_connection(table[rank], JOIN_S)
            links[rank].sendall(greeting)
        _answer_door(seat, door, links)
    except OSError as error:
        for link in links.values():
            link.close()
        raise GangBroken(f"member {seat.rank} cannot reach the others: {error}") from error
    return links


def _answer_door(seat: Seat, door: socket.socket, links: dict[int, socket.socket]) -> None:
    """Let in the members that call. All who call are heard at once: strangers may call too, and say nothing."""
    door.settimeout(GREET_S)
    unknown: set[socket.socket] = set()
    with selectors.DefaultSelector() as heard:
        heard.register(door, selectors.EVENT_READ, door)
        try:
            while len(links) < seat.size - 1:
                ready = [key.data for key, _ in heard.select(JOIN_S)]
                if not ready:
                    raise TimeoutError(f"others did not call in {JOIN_S:.0f} s")
                for link in unknown.intersection(ready):
                    heard.unregister(link)
                    unknown.remove(link)
                    rank = _rank_of(seat, link)
                    if rank is None:
                        link.close()
                    else:
                        links[rank] = link
                if door in ready:
                    link, _ = door.accept()
                    heard.register(link, selectors.EVENT_READ, link)
                    unknown.add(link)
        finally:
            for link in unknown:
                link.close()


def _rank_of(seat: Seat, link: socket.socket) -> int | None:
    """Which member this is that has begun to say so; None for a stranger."""
    link.settimeout(GREET_S)
    try:
        said = exactly(link, TOKEN_BYTES + _RANK_BYTES)
    except OSError:
        return None
    mine = hmac.compare_digest(said[:TOKEN_BYTES], seat.token)
    return int.from_bytes(said[TOKEN_BYTES:], "little") if mine else None


class _Heart:
    """Says on the line that this process lives, from a thread, and whatever else is said there."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self.mesh: Mesh | None = None
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def begin(self, hello: bytes) -> None:
        self.say(HELLO, hello)
        self._thread.start()

    def __enter__(self) -> "_Heart":
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def say(self, kind: bytes, body: bytes) -> None:
        with self._lock:
            self.line.sendall(frame(kind, body))

    def beat(self) -> None:
        told = [0.0, 0.0, 0.0, 0.0] if self.mesh is None else self.mesh.clock.told()
        self.say(BEAT, json.dumps(told).encode())

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Tells the caller at the end, also after an error, that it is no loss; what it was the answer tells."""
        try:
            yield
        finally:
            with suppress(OSError):
                self.beat()
                self.say(DONE, b"")

    def _beat(self) -> None:
        """Until the end; when the caller is gone, a worker that waits for a peer is woken by an error."""
        while not self._stopped.wait(BEAT_S):
            try:
                self.beat()
            except MemoryError:  # the worker has all that it may have, for a moment or until its own error
                continue
            except OSError:
                if self.mesh is not None:
                    self.mesh.hang_up()
                return


class SeatedMember:
    """A member that has joined; see `base.Member`."""

    def __init__(self, mesh: Mesh, heart: _Heart, host: str) -> None:
        self._mesh = mesh
        self._heart = heart
        self._host = host

    @property
    def rank(self) -> int:
        return self._mesh.rank

    @property
    def size(self) -> int:
        return self._mesh.size

    def all_reduce(self, values: np.ndarray) -> np.ndarray:
        return self._mesh.all_reduce(values)

    def sum_slices(self, slices: Mapping[int, np.ndarray], total: int) -> np.ndarray:
        return self._mesh.sum_slices(slices, total)

    def gather(self, content: bytes) -> list[bytes]:
        return [bytes(body) for body in self._mesh.gather(content)]

    def broadcast(self, content: bytes | None) -> bytes:
        return self._mesh.broadcast(content)

    def barrier(self) -> None:
        self._mesh.barrier()

    def address(self) -> str:
        return self._host

    def saw(self, rows: int) -> None:
        self._mesh.clock.rows += rows

    def elsewhere(self) -> AbstractContextManager[None]:
        return self._mesh.clock.elsewhere(self._least)

    def _least(self, seconds: float) -> float:
        """Of all members' seconds."""
        return float(min(_SECONDS.unpack(part)[0] for part in self._mesh.gather(_SECONDS.pack(seconds))))

    def call(self, question: Any) -> Any:
        return pickle.loads(self._asked(question))  # noqa: S301 - our caller's

    def ask(self, question: Any) -> Any:
        return pickle.loads(self.broadcast(self._asked(question) if self.rank == 0 else None))  # noqa: S301 - our own

    def _asked(self, question: Any) -> bytes:
        try:
            self._heart.say(ASK, pickle.dumps(question, pickle.HIGHEST_PROTOCOL))
            return receive(self._heart.line)[1]
        except OSError as error:
            raise GangBroken("the caller of the gang is gone") from error
