import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.serve.same_parts import assert_same_predictions

from shardwise.compute.base import Executor
from shardwise.core.errors import ConfigError
from shardwise.testing.executors import ExecutorConformance, WorkerConformance

pytest.importorskip("distributed", reason="distributed is not installed")

from shardwise.compute.on_dask import DaskExecutor

pytestmark = pytest.mark.filterwarnings("default")  # the engine's own


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with DaskExecutor(2) as executor:
        yield executor


class TestDask(ExecutorConformance, WorkerConformance):
    @pytest.fixture
    def closable(self) -> Iterator[Executor]:
        with DaskExecutor(1) as closable:
            yield closable


def test_predictions_have_the_bytes_of_one_process(executor: Executor, tmp_path: Path) -> None:
    assert_same_predictions(executor, tmp_path)


def test_a_scheduler_is_found_by_its_address(executor: DaskExecutor) -> None:
    assert executor._cluster is not None
    with DaskExecutor(1, address=executor._cluster.scheduler_address) as other:
        assert other.submit(abs, -3).result() == 3
    assert executor.submit(abs, -4).result() == 4


def test_where_nobody_listens_is_said() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"nobody listens at .* for dask"):
            DaskExecutor(address=address)


def test_what_is_not_dask_is_said() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(ConfigError, match=r"what listens at .* is not dask"),
    ):
        DaskExecutor(address=f"tcp://127.0.0.1:{other.getsockname()[1]}")
