import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from shardwise.models.neural.turns import take_gpu  # noqa: E402


class Placed:
    """A member that knows who is where."""

    def __init__(self, rank: int, hosts: list[str]) -> None:
        self.rank = rank
        self._hosts = hosts

    def address(self) -> str:
        return self._hosts[self.rank]

    def gather(self, content: bytes) -> list[bytes]:
        assert content.decode() == self._hosts[self.rank]
        return [host.encode() for host in self._hosts]


def test_members_of_a_machine_take_its_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = list[int]()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for rank in range(5):
        take_gpu(Placed(rank, ["a", "a", "b", "a", "b"]))  # type: ignore[arg-type]
    assert taken == [0, 1, 0, 0, 1]
