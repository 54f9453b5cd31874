import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from shardwise.compute.engines import Asked
from shardwise.testing.exchanges import ExchangeConformance, Run, assert_same_files

if shutil.which("java") is None:
    pytest.skip("there is no Java", allow_module_level=True)
pytest.importorskip("pyspark", reason="pyspark is not installed")

from shardwise.compute.exchange.on_spark import TRIES, spark_exchange
from shardwise.compute.on_spark import SparkExecutor

pytestmark = pytest.mark.filterwarnings("default")  # the engine's own


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    """A session of this process, which is used and left open."""
    with SparkExecutor(2, tries=TRIES):
        yield


class TestSpark(ExchangeConformance):
    @pytest.fixture
    def exchange(self) -> Run:
        return partial(spark_exchange, asked=Asked(workers=2))


def test_partitions_have_the_bytes_of_one_process(tmp_path: Path) -> None:
    assert_same_files("spark", tmp_path)
