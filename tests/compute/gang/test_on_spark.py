import shutil
from collections.abc import Iterator

import pytest

from shardwise.compute.gang.base import Gang
from shardwise.testing.gangs import GangConformance

if shutil.which("java") is None:
    pytest.skip("there is no Java", allow_module_level=True)
pytest.importorskip("pyspark", reason="pyspark is not installed")

from shardwise.compute.gang.on_spark import spark_gang

pytestmark = pytest.mark.filterwarnings("default")  # the engine's own


@pytest.mark.slow
class TestSpark(GangConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def gang(cls) -> Iterator[Gang]:
        with spark_gang(3) as gang:
            yield gang
