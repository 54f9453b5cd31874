import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.serve.same_parts import assert_same_predictions

from shardwise.compute.base import Executor
from shardwise.core.errors import ConfigError
from shardwise.testing.executors import ExecutorConformance, WorkerConformance

if shutil.which("java") is None:
    pytest.skip("there is no Java", allow_module_level=True)
pytest.importorskip("pyspark", reason="pyspark is not installed")

from shardwise.compute.on_spark import SparkExecutor

pytestmark = pytest.mark.filterwarnings("default")  # the engine's own


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with SparkExecutor(2) as executor:
        yield executor


class TestSpark(ExecutorConformance, WorkerConformance):
    @pytest.fixture
    def closable(self, executor: Executor) -> Iterator[Executor]:
        with SparkExecutor(1) as closable:
            yield closable


def test_predictions_have_the_bytes_of_one_process(executor: Executor, tmp_path: Path) -> None:
    assert_same_predictions(executor, tmp_path)


def test_where_nobody_listens_is_said() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(ConfigError, match=r"nobody listens at .* for spark"):
            connect(f"spark://127.0.0.1:{free.getsockname()[1]}")


def test_what_is_no_master_is_said() -> None:
    with pytest.raises(ConfigError, match="'nowhere' is no master of Spark") as caught:
        connect("nowhere")
    assert "spark://10.0.0.1:7077" in caught.value.hint


def connect(master: str) -> None:
    from pyspark.sql import SparkSession

    from shardwise.compute import on_spark

    on_spark._start(SparkSession, master, 1)
