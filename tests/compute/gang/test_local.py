from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shardwise.compute.gang import desk
from shardwise.compute.gang.base import Gang, GangBroken, Member
from shardwise.compute.gang.elastic import Elastic
from shardwise.compute.gang.local import process_gang
from shardwise.testing.gangs import GangConformance, who


class TestProcesses(GangConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def gang(cls) -> Iterator[Gang]:
        with process_gang(3) as gang:
            yield gang


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
