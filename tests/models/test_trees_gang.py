"""LightGBM's network among the members of a gang: whose fault an error is."""

import json
import socket
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest

from shardwise.compute.gang.base import GangBroken
from shardwise.models import trees_gang
from shardwise.models.trees_gang import Together


class Pair:
    """What `network` needs of a member of two."""

    size = 2

    def address(self) -> str:
        return "127.0.0.1"

    def gather(self, part: bytes) -> list[bytes]:
        return [part, part]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Socket recv error, Connection reset by peer (code: 104)", GangBroken),
        ("Check failed: (num_data) > (0)", lgb.basic.LightGBMError),
    ],
)
def test_a_connection_that_breaks_is_no_fault_of_the_member_that_sees_it(
    monkeypatch: pytest.MonkeyPatch, message: str, expected: type[Exception]
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(trees_gang, "call", lambda name, *_: calls.append(name))
    member: Any = Pair()
    with pytest.raises(expected), Together(member).network(1):
        raise lgb.basic.LightGBMError(message)
    assert calls == ["LGBM_NetworkInit", "LGBM_NetworkFree"]


def test_a_port_that_is_taken_meanwhile_breaks_the_gang_and_the_next_one_begins() -> None:
    class Late(Pair):
        def gather(self, part: bytes) -> list[bytes]:
            _, port = json.loads(part)
            taken.append(socket.create_server((self.address(), port)))
            return [part, json.dumps([self.address(), port - 1]).encode()]

    taken: list[socket.socket] = []
    member: Any = Late()
    with pytest.raises(GangBroken, match="Binding port"), Together(member).network(1):
        pytest.fail("nobody can listen there")
    taken[0].close()
    x = np.arange(100.0)
    booster = lgb.train({"verbosity": -1, "num_threads": 1}, lgb.Dataset(x[:, None], x), 2)
    assert booster.num_trees() == 2
