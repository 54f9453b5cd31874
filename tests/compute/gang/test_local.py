from collections.abc import Iterator

import pytest

from shardwise.compute.gang.base import Gang
from shardwise.compute.gang.local import process_gang
from shardwise.testing.gangs import GangConformance


class TestProcesses(GangConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def gang(cls) -> Iterator[Gang]:
        with process_gang(3) as gang:
            yield gang
