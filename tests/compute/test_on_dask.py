import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.serve.same_parts import assert_same_predictions

from shardwise.compute.base import Executor, stream
from shardwise.core.errors import ConfigError
from shardwise.testing.executors import ExecutorConformance, WorkerConformance

distributed = pytest.importorskip("distributed", reason="distributed is not installed")

from shardwise.compute.on_dask import DaskExecutor  # noqa: E402

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


# -- a cluster of somebody else's: one worker of two threads ----------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, host="127.0.0.1", dashboard_address=None, memory_limit=2 * 10**9
    ) as cluster:
        yield cluster


def begin_and_end(path: str) -> None:
    for word in ("begin", "end"):
        with open(path, "a") as file:
            file.write(f"{word} ")
        time.sleep(0.05)


def test_a_worker_has_one_task_at_a_time_with_all_its_threads(cluster: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    address = cluster.scheduler_address
    with DaskExecutor(2, address=address) as one, DaskExecutor(address=address) as other:
        assert (other.slots, other.threads, other.worker_bytes()) == (1, 2, 2 * 10**9)
        elsewhere = other.submit(begin_and_end, str(log))
        for outcome in stream(one, begin_and_end, [str(log)] * 4):
            outcome.unwrap()
        elsewhere.result()
    assert log.read_text().split() == ["begin", "end"] * 5


def state() -> tuple[object, ...]:
    from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

    return (
        os.getcwd(),
        [*sys.path],
        dict(os.environ),
        pa.cpu_count(),
        [pool["num_threads"] for pool in threadpool_info()],
    )


def state_of(_item: int) -> tuple[object, ...]:
    return state()


def test_workers_of_others_are_left_as_they_were(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = distributed.Client(cluster, set_as_default=False)
    with DaskExecutor(address=cluster.scheduler_address) as executor:
        executor.submit(state_of, 0).result()  # loads all that a task loads
        before = client.run(state)
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(tmp_path)
        meanwhile = executor.submit(state_of, 0).result()
        assert meanwhile[0] == str(tmp_path)
        assert str(tmp_path) in meanwhile[1]
    assert client.run(state) == before
    client.close()
