import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shardwise.compute.gang import desk
from shardwise.compute.gang.base import Gang, GangBroken, Member
from shardwise.compute.gang.desk import StarGang
from shardwise.compute.gang.elastic import Elastic
from shardwise.compute.gang.lines import frame
from shardwise.compute.gang.local import ProcessLauncher, process_gang
from shardwise.compute.gang.wire import BEAT, HELLO
from shardwise.testing.gangs import GangConformance, who


class TestProcesses(GangConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def gang(cls) -> Iterator[Gang]:
        with process_gang(3) as gang:
            yield gang


class Besieged(ProcessLauncher):
    """Strangers talk to the desk before the members do."""

    def __init__(self) -> None:
        super().__init__(2, threads=1)
        self.strangers: list[socket.socket] = []

    def launch(self, messages: list[tuple[Callable[[Any], Any], Any]]) -> "list[Future[Any]]":
        hello = {"rank": 0, "port": 1, "place": "elsewhere", "token": "00" * 16, "host": "127.0.0.1", "witness": False}
        greetings = [frame(HELLO, json.dumps({**hello, "witness": witness}).encode()) for witness in (False, True)]
        for said in (b"GET / HTTP/1.1\r\n\r\n", b"", *greetings, frame(BEAT, b"[]")):
            self.strangers.append(socket.create_connection(messages[0][1].desk))
            self.strangers[-1].sendall(said)
        return super().launch(messages)


def test_strangers_are_not_let_in() -> None:
    launcher = Besieged()
    with StarGang(launcher) as gang:
        assert [found[:2] for found in gang.run(who, 2)] == [(0, 2), (1, 2)]
        assert len(launcher.strangers) == 5
    for stranger in launcher.strangers:
        stranger.close()


def test_the_process_of_a_member_lives_from_run_to_run() -> None:
    with process_gang(1) as gang:
        assert gang.run(who, 1) == gang.run(who, 1)


@dataclass(frozen=True)
class HangsUp:
    """One member's connections to the others break, once or for ever, while both live."""

    done: Path
    always: bool = False

    def __call__(self, member: Member) -> str:
        member.barrier()
        if member.rank == 1 and (self.always or not self.done.exists()):
            self.done.touch()
            member._mesh.hang_up()  # type: ignore[attr-defined]
        member.barrier()
        return "done"


def test_a_connection_between_two_that_live_is_a_loss_that_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "BLAME_S", 0.3)
    told: list[str] = []
    with process_gang(2, threads=1) as gang:
        assert Elastic(gang, told.append).run(HangsUp(tmp_path / "once"), 2) == "done"
        assert len(told) == 1
        assert "to member" in told[0]
        assert told[0].endswith("is gone. Going on from the last checkpoint with 2.")
        with pytest.raises(GangBroken, match="is gone") as caught:
            gang.run(HangsUp(tmp_path / "always", always=True), 2)
    assert "No member is lost: look at the network" in caught.value.hint
