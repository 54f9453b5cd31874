"""LightGBM's network among the members of a gang: whose fault an error is."""

from typing import Any

import lightgbm as lgb
import pytest

from shardwise.compute.gang.base import GangBroken
from shardwise.models import trees_gang
from shardwise.models.trees_gang import network


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
    with pytest.raises(expected), network(member, 1):
        raise lgb.basic.LightGBMError(message)
    assert calls == ["LGBM_NetworkInit", "LGBM_NetworkFree"]
