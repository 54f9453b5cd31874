"""Members' connections to each other, and what is exchanged over them.

Every pair of members has a TCP connection. A message is a head (number of the exchange, bytes) and a body. The number
tells when members are out of step. Sums go the way of a reduce-scatter and an all-gather (Thakur, Rabenseifner & Gropp
2005): each member adds up one piece of the array for all, so that a member sends and receives twice the array,
whatever the number of members; small arrays are sent whole, which takes one exchange instead of two.
"""

import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from shardwise.compute.gang.asleep import Asleep
from shardwise.compute.gang.base import GangBroken, share_of
from shardwise.core.errors import TaskFailed

SMALL_BYTES = 16_384  # arrays up to this are sent whole
_HEAD = struct.Struct("<IIQ")  # number of the exchange, what is done in it, bytes of the body
_PIECE = 2**20  # bytes handed to the kernel at once
Buffer = bytes | bytearray | memoryview
_Step = tuple[int, int]
_GATHER, _BROADCAST, _SUM, _BARRIER = range(4)


@dataclass
class Clock:
    """Seconds spent talking and waiting, and rows that were worked on; `waits_s` is since when it waits now, or 0.
    While a library talks by itself, `asleep` counts how long its thread sleeps."""

    rows: int = 0
    talk_s: float = 0.0
    wait_s: float = 0.0
    waits_s: float = 0.0
    asleep: Asleep | None = None
    began_s: float = field(default_factory=time.monotonic)

    def told(self) -> list[float]:
        """`[rows, work_s, talk_s, wait_s]`, what it waits for now included; may be asked from any thread."""
        now, since, asleep = time.monotonic(), self.waits_s, self.asleep
        wait_s = self.wait_s + (now - since if since else 0.0) + (asleep.seconds() if asleep is not None else 0.0)
        work_s = now - self.began_s - self.talk_s - wait_s
        return [self.rows, round(work_s, 3), round(self.talk_s, 3), round(wait_s, 3)]

    @contextmanager
    def elsewhere(self, least: Callable[[float], float]) -> Iterator[None]:
        """Inside of it this thread's sleep is waiting; in the end `least(own seconds)` of it, what all slept, is talk.

        Who is waited for sleeps least: while what is sent is on its way, and no longer.
        """
        asleep = self.asleep = Asleep()
        try:
            yield
        finally:
            slept_s, self.asleep = asleep.seconds(), None
            self.wait_s += slept_s
        talk_s = least(slept_s)
        self.wait_s, self.talk_s = self.wait_s - talk_s, self.talk_s + talk_s


class _Sending:
    def __init__(self, head: bytes, body: memoryview) -> None:
        small = len(body) <= SMALL_BYTES
        self.parts = [memoryview(head + bytes(body))] if small else [memoryview(head), body]

    def push(self, link: socket.socket) -> bool:
        """Hand over what the kernel takes; True when all is gone."""
        while self.parts:
            try:
                sent = link.send(self.parts[0][:_PIECE])
            except BlockingIOError:
                return False
            self.parts[0] = self.parts[0][sent:]
            if not self.parts[0]:
                self.parts.pop(0)
        return True


class _Receiving:
    def __init__(self, step: _Step) -> None:
        self.step = step
        self.head = memoryview(bytearray(_HEAD.size))
        self.body: memoryview | None = None
        self.left = self.head

    def pull(self, link: socket.socket) -> bool:
        """Take what is there; True when all has come."""
        while True:
            while self.left:
                try:
                    got = link.recv_into(self.left)
                except BlockingIOError:
                    return False
                if not got:
                    raise ConnectionResetError
                self.left = self.left[got:]
            if self.body is not None:
                return True
            *step, size = _HEAD.unpack(self.head)
            if tuple(step) != self.step:
                raise TaskFailed(f"members are out of step: exchange {tuple(step)} came in the place of {self.step}")
            self.body = self.left = memoryview(bytearray(size))


class Mesh:
    """Exchanges between one member and its peers; `links` has a connected socket for each other rank."""

    def __init__(self, rank: int, size: int, links: Mapping[int, socket.socket]) -> None:
        self.rank, self.size = rank, size
        self.clock = Clock()
        self._links = dict(links)
        self._number = 0
        for link in self._links.values():
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link.setblocking(False)

    def hang_up(self) -> None:
        """End an exchange that a thread waits in: it raises `GangBroken`. Called from any thread."""
        for link in self._links.values():
            with suppress(OSError):  # it is closed already
                link.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connections."""
        for link in self._links.values():
            link.close()

    def exchange(self, kind: int, out: Mapping[int, Buffer], sources: Iterable[int]) -> dict[int, memoryview]:
        """Send to peers and receive from peers, all at once. Raises `GangBroken` when one is gone."""
        began = time.monotonic()
        self._number = (self._number + 1) % 2**32
        step = (self._number, kind)
        sending = {rank: _Sending(_HEAD.pack(*step, len(body)), memoryview(body)) for rank, body in out.items()}
        receiving = {rank: _Receiving(step) for rank in sources}
        got: dict[int, memoryview] = {}
        wait_s = self._transfer(sending, receiving, got)
        self.clock.talk_s += time.monotonic() - began - wait_s
        return got

    def _transfer(
        self, sending: dict[int, _Sending], receiving: dict[int, _Receiving], got: dict[int, memoryview]
    ) -> float:
        """Do it; the seconds in which nothing could be done."""
        wait_s = 0.0
        while True:
            self._move(sending, receiving, got)
            if not sending and not receiving:
                return wait_s
            began = self.clock.waits_s = time.monotonic()
            self._wait(sending, receiving)
            waited_s = time.monotonic() - began
            self.clock.waits_s = 0.0
            self.clock.wait_s += waited_s
            wait_s += waited_s

    def _move(self, sending: dict[int, _Sending], receiving: dict[int, _Receiving], got: dict[int, memoryview]) -> None:
        rank = self.rank
        try:
            for rank, outgoing in list(sending.items()):
                if outgoing.push(self._links[rank]):
                    del sending[rank]
            for rank, incoming in list(receiving.items()):
                if incoming.pull(self._links[rank]):
                    assert incoming.body is not None
                    got[rank] = incoming.body
                    del receiving[rank]
        except OSError as error:
            raise GangBroken(f"the connection of member {self.rank} to member {rank} is gone") from error

    def _wait(self, sending: Mapping[int, object], receiving: Mapping[int, object]) -> None:
        poll = select.poll()
        for rank in {*sending, *receiving}:
            mask = (select.POLLOUT if rank in sending else 0) | (select.POLLIN if rank in receiving else 0)
            poll.register(self._links[rank], mask)
        poll.poll()

    # -- collectives ------------------------------------------------------------------------------------------------

    def barrier(self) -> None:
        """Wait until all are here."""
        self.gather(b"", _BARRIER)

    def gather(self, content: bytes, kind: int = _GATHER) -> list[Buffer]:
        """What each member gave, by rank."""
        got = self.exchange(kind, dict.fromkeys(self._links, content), self._links)
        return [content if rank == self.rank else got[rank] for rank in range(self.size)]

    def broadcast(self, content: bytes | None) -> bytes:
        """What rank 0 gave."""
        if self.rank == 0:
            if content is None:
                raise TaskFailed("member 0 has nothing to broadcast")
            self.exchange(_BROADCAST, dict.fromkeys(self._links, content), ())
            return content
        return bytes(self.exchange(_BROADCAST, {}, (0,))[0])

    def all_reduce(self, values: np.ndarray) -> np.ndarray:
        """The sum over members in the order of their ranks."""
        flat = np.ascontiguousarray(values).reshape(-1)
        return self._summed([flat], [1] * self.size, _in_order).reshape(values.shape)

    def sum_slices(self, slices: Mapping[int, np.ndarray], total: int) -> np.ndarray:
        """The sum over slices in the order of a binary tree; see `base.Member`."""
        if total < self.size or total & (total - 1):
            raise TaskFailed(
                f"{total} slices were asked for by {self.size} members",
                hint="Give a power of two, and a slice for each member.",
            )
        mine = share_of(self.rank, self.size, total)
        if sorted(slices) != list(mine):
            raise TaskFailed(f"member {self.rank} of {self.size} has the slices {sorted(slices)}, not {list(mine)}")
        spans = [_nodes(share_of(rank, self.size, total), 0, total) for rank in range(self.size)]
        flat = {i: np.ascontiguousarray(values).reshape(-1) for i, values in slices.items()}
        nodes = [_added({(i, i + 1): flat[i] for i in range(*span)}, *span) for span in spans[self.rank]]
        order = [span for of_member in spans for span in of_member]

        def join(parts: list[np.ndarray]) -> np.ndarray:
            return _added(dict(zip(order, parts, strict=True)), 0, total)

        return self._summed(nodes, [len(of_member) for of_member in spans], join).reshape(slices[mine[0]].shape)

    def _summed(self, mine: list[np.ndarray], counts: list[int], join: "_Join") -> np.ndarray:
        """`join` of the arrays of all members, `counts` of them by rank, piece by piece."""
        length, cell = len(mine[0]), mine[0].dtype
        if self.size == 1:
            return join(mine)
        if length * cell.itemsize <= SMALL_BYTES:
            got = self.gather(_bytes_of(mine), _SUM)
            return join([row for body, count in zip(got, counts, strict=True) for row in _rows(body, count, cell)])
        ends = [length * rank // self.size for rank in range(self.size + 1)]
        pieces = [slice(ends[rank], ends[rank + 1]) for rank in range(self.size)]
        out = {rank: _bytes_of([row[pieces[rank]] for row in mine]) for rank in self._links}
        parts: dict[int, Buffer] = dict(self.exchange(_SUM, out, self._links))
        parts[self.rank] = _bytes_of([row[pieces[self.rank]] for row in mine])
        piece = join([row for rank, count in enumerate(counts) for row in _rows(parts[rank], count, cell)])
        total = np.empty(length, cell)
        for rank, body in enumerate(self.gather(piece.tobytes(), _SUM)):
            total[pieces[rank]] = np.frombuffer(body, cell)
        return total


_Join = Callable[[list[np.ndarray]], np.ndarray]
_Span = tuple[int, int]


def _in_order(rows: list[np.ndarray]) -> np.ndarray:
    total = rows[0].copy()
    for row in rows[1:]:
        total += row
    return total


def _bytes_of(rows: list[np.ndarray]) -> bytes:
    return b"".join([row.tobytes() for row in rows])


def _rows(body: Buffer, count: int, cell: np.dtype) -> Sequence[np.ndarray]:
    flat = np.frombuffer(body, cell)
    return np.split(flat, count) if count > 1 else [flat]


def tree_sum(slices: Mapping[int, np.ndarray], total: int) -> np.ndarray:
    """What `sum_slices` gives, where one worker has all slices."""
    return _added({(i, i + 1): values for i, values in slices.items()}, 0, total)


@cache
def _nodes(mine: range, start: int, stop: int) -> tuple[_Span, ...]:
    """The fewest nodes of the tree over `start` to `stop` whose leaves are those of `mine`, in order.

    >>> _nodes(range(1, 4), 0, 4)
    ((1, 2), (2, 4))
    """
    if mine.start <= start and stop <= mine.stop:
        return ((start, stop),)
    if mine.stop <= start or stop <= mine.start:
        return ()
    middle = (start + stop) // 2
    return (*_nodes(mine, start, middle), *_nodes(mine, middle, stop))


def _added(known: Mapping[_Span, np.ndarray], start: int, stop: int) -> np.ndarray:
    """The node of the tree over `start` to `stop`, from nodes that are known."""
    if (start, stop) in known:
        return known[start, stop]
    middle = (start + stop) // 2
    total: np.ndarray = _added(known, start, middle) + _added(known, middle, stop)
    return total
