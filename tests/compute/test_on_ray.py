import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.serve.same_parts import assert_same_predictions

from shardwise.compute.base import Executor, stream
from shardwise.core.errors import ConfigError, OverBudget, WorkerLost
from shardwise.testing.exchanges import assert_same_files
from shardwise.testing.executors import ExecutorConformance, WorkerConformance, beat, double

ray = pytest.importorskip("ray", reason="Ray is not installed")

from shardwise.compute.endpoints import check_ray  # noqa: E402
from shardwise.compute.engines import worker_memory_bytes  # noqa: E402
from shardwise.compute.gang.on_ray import RayLauncher  # noqa: E402
from shardwise.compute.on_ray import RayExecutor  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # Ray's own


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    """A session of Ray in this process, which says that it has a GPU; executors use it and leave it open."""
    ray.init(
        address="local", num_cpus=3, num_gpus=1, include_dashboard=False, object_store_memory=2**27,
        _node_ip_address="127.0.0.1", log_to_driver=False, logging_level="ERROR",
    )  # fmt: skip
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def executor(session: None) -> Iterator[Executor]:
    with RayExecutor(2) as executor:
        yield executor


class TestRay(ExecutorConformance, WorkerConformance):
    @pytest.fixture
    def closable(self, session: None) -> Iterator[Executor]:
        with RayExecutor(1) as executor:
            yield executor


def pid_of(_item: int) -> int:
    return os.getpid()


def threads_of(_item: int) -> tuple[str | None, int]:
    import pyarrow

    return os.environ.get("OMP_NUM_THREADS"), pyarrow.cpu_count()


def test_workers_live_long_and_keep_to_their_threads(session: None) -> None:
    with RayExecutor(1) as executor:
        assert len({outcome.unwrap() for outcome in stream(executor, pid_of, range(5))}) == 1
        assert executor.submit(threads_of, 0).result() == (str(executor.threads), executor.threads)
    assert ray.is_initialized()


def test_workers_that_there_is_no_room_for_keep_no_task_waiting(session: None) -> None:
    with RayExecutor(9) as executor:  # the session has three CPUs
        assert [outcome.unwrap() for outcome in stream(executor, double, range(12), ordered=True)] == [*range(0, 24, 2)]


def test_idle_workers_are_given_back_and_started_again(session: None) -> None:
    with RayExecutor(1) as executor:
        before = executor.submit(pid_of, 0).result()
        executor.retire()
        assert executor.submit(pid_of, 0).result() != before


def test_partitions_have_the_bytes_of_one_process(session: None, tmp_path: Path) -> None:
    assert_same_files("ray", tmp_path)


def test_predictions_have_the_bytes_of_one_process(executor: Executor, tmp_path: Path) -> None:
    assert_same_predictions(executor, tmp_path)


def test_the_memory_of_a_cpu(session: None) -> None:
    assert (worker_memory_bytes("ray", ray.get_runtime_context().gcs_address) or 0) > 10**8
    assert worker_memory_bytes("ray", None) is None
    assert worker_memory_bytes("spark", "local[2]") is None


def test_the_address_of_another_cluster_is_refused(session: None) -> None:
    its = ray.get_runtime_context().gcs_address
    port = its.rpartition(":")[2]
    for same in (its, f"localhost:{port}", "auto", "ray://127.0.0.1:10001"):
        RayExecutor(1, address=same).close()
    for other in ("127.0.0.1:1", f"192.0.2.1:{port}"):
        with pytest.raises(ConfigError, match=f"--address {other} was given, but .* connected to Ray at {its} already"):
            RayExecutor(1, address=other)


def seen_gpus(_item: int) -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_workers_ask_for_the_gpu_that_they_see(session: None) -> None:
    with RayExecutor(gpu=True) as executor:
        assert executor.slots == 1  # of three CPUs
        assert executor.submit(seen_gpus, 0).result() == "0"
    launcher = RayLauncher(gpu=True)
    assert launcher.room() == 1
    (future,) = launcher.launch([(seen_gpus, 0)])
    assert future.result() == "0"
    launcher.close()


def test_gpus_may_be_asked_for_where_the_cluster_has_some(session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with RayExecutor(gpu=None) as executor:
        assert executor.slots == 1
        assert executor.submit(seen_gpus, 0).result() == "0"
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 3.0})
    with RayExecutor(gpu=None) as executor:
        assert (executor.slots, executor.resources) == (3, {"CPU": 1.0})


def test_a_cluster_that_is_there_may_be_ray(session: None) -> None:
    check_ray(ray.get_runtime_context().gcs_address)


def test_a_cluster_without_gpus_is_told(session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 3.0})
    with pytest.raises(ConfigError, match="--device cuda needs a GPU, and the cluster of Ray has none"):
        RayExecutor(1, gpu=True)


def test_a_worker_killed_from_outside_is_replaced(session: None, tmp_path: Path) -> None:
    with RayExecutor(1) as executor:
        pid = executor.submit(pid_of, 0).result()
        running = executor.submit(beat, str(tmp_path / "beats"))
        while not (tmp_path / "beats").exists():
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerLost, match="the worker died"):
            running.result()
        assert executor.submit(pid_of, 0).result() != pid


def test_a_worker_that_is_shed_is_over_budget(session: None, tmp_path: Path) -> None:
    with RayExecutor(1) as executor:
        running = executor.submit(beat, str(tmp_path / "beats"))
        while not (tmp_path / "beats").exists():
            time.sleep(0.01)
        executor.shed(3_000_000, 2_000_000)
        with pytest.raises(OverBudget, match="2 MB of memory are allowed"):
            running.result()
        assert executor.submit(double, 2).result() == 4


def test_where_nobody_listens_is_said() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        assert_refused(address, f"nobody listens at {address} for ray")


def test_what_is_not_ray_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        assert_refused(address, f"what listens at {address} is not ray")


def test_what_is_no_address_is_said() -> None:
    assert_refused("nowhere", "'nowhere' is no address of ray. Write it as HOST:PORT")


def assert_refused(address: str, told: str) -> None:
    """In a process that has no session of Ray."""
    code = f"from shardwise.compute.on_ray import RayExecutor; RayExecutor(1, address={address!r})"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "ConfigError" in answer.stderr
    assert told in answer.stderr
