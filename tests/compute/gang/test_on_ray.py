from collections.abc import Iterator

import pytest

from shardwise.compute.gang.base import Gang
from shardwise.testing.gangs import GangConformance

pytest.importorskip("ray", reason="Ray is not installed")

from shardwise.compute.gang.on_ray import ray_gang

pytestmark = pytest.mark.filterwarnings("default")  # Ray's own


@pytest.mark.slow
class TestRay(GangConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def gang(cls) -> Iterator[Gang]:
        with ray_gang(3) as gang:
            yield gang
