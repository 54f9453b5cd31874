"""Who calls a member while the others do."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from shardwise.compute.gang import seat as seats
from shardwise.compute.gang.base import GangBroken
from shardwise.compute.gang.seat import Seat, _links, sit
from shardwise.compute.gang.wire import TOKEN_BYTES
from shardwise.testing.gangs import who


def seat(rank: int, desk: tuple[str, int] = ("127.0.0.1", 1)) -> Seat:
    return Seat(rank, 2, desk, b"k" * TOKEN_BYTES, who)


def test_strangers_do_not_keep_members_from_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        door = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=16))
        address: tuple[str, int] = door.getsockname()
        strangers = [stack.enter_context(socket.create_connection(address)) for _ in range(4)]
        strangers[1].sendall(b"x" * (TOKEN_BYTES + 4))
        strangers[2].sendall(b"GET")
        strangers[2].close()
        monkeypatch.setattr(seats, "JOIN_S", 30.0)
        monkeypatch.setattr(seats, "GREET_S", 3600.0)  # one who says nothing is not waited for
        threads = stack.enter_context(ThreadPoolExecutor(1))
        higher = threads.submit(_links, seat(1), door, [address, address])
        links = _links(seat(0), door, [address, address])
        assert links.keys() == {1}
        assert higher.result().keys() == {0}
        for link in (*links.values(), *higher.result().values()):
            stack.enter_context(link)
        links[1].sendall(b"hello")
        assert higher.result()[0].recv(5) == b"hello"
        strangers[3].settimeout(30.0)
        assert strangers[3].recv(1) == b""


def test_a_caller_that_hangs_up_before_the_member_has_come_breaks_the_gang() -> None:
    with socket.create_server(("127.0.0.1", 0)) as desk, ThreadPoolExecutor(1) as threads:
        sitting = threads.submit(sit, seat(1, desk.getsockname()))
        line, _ = desk.accept()
        told = line.recv(4096)
        assert json.loads(told[told.index(b"{") :])["rank"] == 1
        line.close()
        with pytest.raises(GangBroken, match="has ended it"):
            sitting.result()
