"""Who calls the desk and is no member, who does not come, and who ends its work and does not answer."""

import json
import os
import resource
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest

from shardwise.compute.gang import desk as desks
from shardwise.compute.gang import pulse as pulses
from shardwise.compute.gang.base import Member, NoRoom
from shardwise.compute.gang.desk import Desk, StarGang, refuse
from shardwise.compute.gang.elastic import Elastic
from shardwise.compute.gang.lines import frame
from shardwise.compute.gang.local import ProcessLauncher
from shardwise.compute.gang.wire import BEAT, HELLO
from shardwise.core.errors import MemberLost
from shardwise.testing.gangs import NAMED_S, who

STATED = {"rank": 0, "port": 1, "place": "elsewhere", "host": "127.0.0.1", "process": None}
SAID = [
    b"", b"GET / HTTP/1.1\r\n\r\n", frame(BEAT, b"[]"), frame(HELLO, b"[]"), frame(HELLO, b""),
    frame(HELLO, "{\"token\": \"\u00e9\"}".encode("latin-1")), frame(HELLO, b"[" * 4000), HELLO + b"\xff" * 8,
    *[frame(HELLO, bytes(16) + json.dumps({**STATED, "witness": witness}).encode()) for witness in (False, True)],
]  # fmt: skip


def call(address: tuple[str, int], said: bytes) -> socket.socket:
    line = socket.create_connection(address)
    line.sendall(said)
    return line


class Besieged(ProcessLauncher):
    """Strangers talk to the desk before the members do, and one breaks off."""

    def __init__(self) -> None:
        super().__init__(2, threads=1)
        self.strangers: list[socket.socket] = []

    def launch(self, messages: list[tuple[Callable[[Any], Any], Any]]) -> "list[Future[Any]]":
        self.strangers = [call(messages[0][1].desk, said) for said in SAID]
        with call(messages[0][1].desk, b"h") as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # hang up at once
        return super().launch(messages)


def test_strangers_are_not_let_in() -> None:
    launcher = Besieged()
    with StarGang(launcher) as gang:
        assert [found[:2] for found in gang.run(who, 2)] == [(0, 2), (1, 2)]
        assert len(launcher.strangers) == len(SAID)
    for stranger in launcher.strangers:
        stranger.close()


def test_who_does_not_say_who_it_is_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "GREET_S", 0.0)
    with Desk("127.0.0.1", 1, lambda _rank: None) as desk, call(desk.address, b"h") as line:
        for _ in range(3):
            desk._listen(refuse)
        line.settimeout(10.0)
        assert line.recv(1) == b""


def test_the_desk_hears_whatever_the_number_of_its_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = 1500
    if hard < 2 * many:
        pytest.skip("this user may not open many files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * many), hard))
    try:
        with ExitStack() as stack:
            for _ in range(many):
                stack.callback(os.close, os.dup(0))
            desk = stack.enter_context(Desk("127.0.0.1", 1, lambda _rank: None))
            hello = desk.token + json.dumps({**STATED, "witness": False}).encode()
            line = stack.enter_context(call(desk.address, frame(HELLO, hello)))
            assert line.fileno() > many
            desk._listen(refuse)
            desk._listen(refuse)
            line.settimeout(10.0)
            assert line.recv(1) == b"t"  # the table of members
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Absent:
    """Starts nothing; of the members some call."""

    host = "127.0.0.1"

    def __init__(self, ranks: Sequence[int]) -> None:
        self._ranks = ranks
        self.lines: list[socket.socket] = []

    def room(self) -> int:
        return 3

    def launch(self, messages: list[tuple[Callable[[Any], Any], Any]]) -> "list[Future[Any]]":
        for _, seat in [messages[rank] for rank in self._ranks]:
            hello = seat.token + json.dumps({**STATED, "rank": seat.rank, "witness": False}).encode()
            self.lines.append(call(seat.desk, frame(HELLO, hello)))
        return [Future() for _ in messages]

    def pid(self, _rank: int) -> None:
        return None

    def end(self) -> None:
        for line in self.lines:
            line.close()

    def close(self) -> None: ...


def test_who_does_not_come_where_others_do_is_lost_else_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "COME_S", 0.3)
    with pytest.raises(MemberLost, match=r"member 1 of 3 .* did not come") as caught:
        StarGang(Absent([0, 2])).run(who, 3)
    assert caught.value.context["member"] == 1
    assert float(str(caught.value.context["silent_s"])) >= 0.3
    with pytest.raises(NoRoom, match="of 3 members 0, 1, 2 did not come"):
        StarGang(Absent([])).run(who, 3)


@pytest.fixture(scope="module")
def launcher() -> Iterator[ProcessLauncher]:
    launcher = ProcessLauncher(2, threads=1)
    yield launcher
    launcher.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulses, "STOPPED_S", 1.0)
    monkeypatch.setattr(pulses, "_LOOK_AFTER_S", 0.5)


@pytest.mark.usefixtures("impatient")
def test_a_process_that_stands_still_before_it_comes_is_named_and_another_takes_its_place(
    launcher: ProcessLauncher,
) -> None:
    gang, told = StarGang(launcher), list[str]()
    pid = gang.run(who, 2)[1][2]
    os.kill(pid, signal.SIGSTOP)
    began_s = time.monotonic()
    found = Elastic(gang, told.append).run(who, 2)
    assert found[:2] == (0, 2)
    assert time.monotonic() - began_s < NAMED_S + 20
    assert len(told) == 1
    assert f"of 2 (process {pid}) is lost: it has been silent for" in told[0]
    assert "its process is stopped, and it has not come yet (named " in told[0]
    assert " s after it was heard last). Going on" in told[0]


@dataclass(frozen=True)
class Answer:
    """What stands still while it is pickled, after the work of its member has ended."""

    stops: bool

    def __reduce__(self) -> NoReturn:
        if self.stops:
            os.kill(os.getpid(), signal.SIGSTOP)
        while True:
            time.sleep(60)


@dataclass(frozen=True)
class Ends:
    """One member's answer does not come."""

    stops: bool

    def __call__(self, member: Member) -> Answer | None:
        member.barrier()
        return Answer(self.stops) if member.rank == 1 else None


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("stops", "why"), [(True, "its process is stopped"), (False, "its answer did not come in")])
def test_a_member_that_does_not_answer_after_its_work_is_lost(
    launcher: ProcessLauncher, monkeypatch: pytest.MonkeyPatch, *, stops: bool, why: str
) -> None:
    monkeypatch.setattr(desks, "ANSWER_S", 60.0 if stops else 1.0)
    gang = StarGang(launcher)
    with pytest.raises(MemberLost, match=rf"member 1 of 2 .*{why}"):
        gang.run(Ends(stops), 2)
    assert len(gang.run(who, 2)) == 2
