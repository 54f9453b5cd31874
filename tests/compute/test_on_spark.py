import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from tests.serve.same_parts import assert_same_predictions

from shardwise.compute.base import Executor
from shardwise.core.errors import ConfigError
from shardwise.testing.executors import ExecutorConformance, WorkerConformance

if shutil.which("java") is None:
    pytest.skip("there is no Java", allow_module_level=True)
pytest.importorskip("pyspark", reason="pyspark is not installed")

from shardwise.compute import on_spark
from shardwise.compute.endpoints import check_spark
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


def test_what_is_not_spark_is_said() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(ConfigError, match=r"what listens at .* is not spark"),
    ):
        connect(f"spark://127.0.0.1:{other.getsockname()[1]}")


def test_one_of_several_masters_suffices(executor: SparkExecutor) -> None:
    """The driver of a session answers as a master does."""
    conf = executor.context.getConf()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
        check_spark(f"{nobody},{conf.get('spark.driver.host')}:{conf.get('spark.driver.port')}")
        with pytest.raises(ConfigError, match=f"nobody listens at {nobody} .*; nobody listens at {nobody} "):
            check_spark(f"{nobody},{nobody}")


def test_what_spark_says_of_a_master_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_spark, "check_spark", lambda _: None)
    builder = MagicMock()
    why = "java.lang.IllegalStateException: Cannot call methods on a stopped SparkContext."
    builder.master().appName().config().getOrCreate.side_effect = RuntimeError(why)
    with pytest.raises(ConfigError, match="the master spark://a:7077 does not take the application"):
        on_spark._start(MagicMock(builder=builder), "spark://a:7077", 1)


def test_the_address_of_another_master_is_refused(executor: SparkExecutor) -> None:
    SparkExecutor(1, address=executor.context.master).close()
    with pytest.raises(ConfigError, match=r"--address spark://a:7077 was given, but .* session of Spark .* local\["):
        SparkExecutor(1, address="spark://a:7077")


def test_threads_and_memory_are_those_that_settings_give_a_task(
    executor: SparkExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert executor.worker_bytes() is None  # all is on this machine
    settings = {"spark.task.cpus": "2", "spark.executor.cores": "4", "spark.executor.pyspark.memory": "3g"}
    context = MagicMock(master="spark://a:7077", defaultParallelism=8, _jvm=executor.context._jvm)
    context.getConf.return_value = settings
    session_class = MagicMock()
    session_class.getActiveSession.return_value = MagicMock(sparkContext=context)
    monkeypatch.setattr(on_spark, "library", lambda *_: MagicMock(SparkSession=session_class))
    with SparkExecutor() as elsewhere:
        assert (elsewhere.slots, elsewhere.threads, elsewhere.worker_bytes()) == (4, 2, 3 * 2**29)


def test_what_is_no_master_is_said() -> None:
    with pytest.raises(ConfigError, match="'nowhere' is no master of Spark") as caught:
        connect("nowhere")
    assert "spark://10.0.0.1:7077" in caught.value.hint


def connect(master: str) -> None:
    from pyspark.sql import SparkSession

    on_spark._start(SparkSession, master, 1)
