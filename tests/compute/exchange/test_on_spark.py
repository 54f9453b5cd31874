import shutil
from collections.abc import Iterator
from functools import partial

import pytest

from shardwise.compute.engines import Asked
from shardwise.testing.exchanges import ExchangeConformance, Run

if shutil.which("java") is None:
    pytest.skip("there is no Java", allow_module_level=True)
pytest.importorskip("pyspark", reason="pyspark is not installed")

from shardwise.compute.exchange.on_spark import TRIES, spark_exchange
from shardwise.compute.on_spark import SparkExecutor

pytestmark = pytest.mark.filterwarnings("default")  # the engine's own


class TestSpark(ExchangeConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def exchange(cls) -> Iterator[Run]:
        with SparkExecutor(2, tries=TRIES):  # its session is used, and left open
            yield partial(spark_exchange, asked=Asked(workers=2))
