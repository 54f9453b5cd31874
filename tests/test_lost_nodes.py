"""A machine of a cluster is lost in the middle of a run, and the run ends with the same package."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from shardwise.testing.tables import people

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # the engines' own

ALONE = ("--families", "linear", "--trials", "4")
TOGETHER = ("--parallel", "data", "--families", "linear", "--trials", "4")
MASTER = "local-cluster[2,1,1024]"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    pq.write_table(people(1_200).drop_columns(["spent", "visits"]), folder / "part.parquet", row_group_size=600)
    return folder / "part.parquet"


def begin(data: Path, run: str, *options: str) -> "subprocess.Popen[str]":
    words = ["train", data.name, "--target", "bought", "--folds", "2", "--run", run, "--json", *options]
    environment = {**os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    return subprocess.Popen(
        [sys.executable, "-m", "shardwise", *words], cwd=data.parent, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def ended(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """Its package's hash, and what it said."""
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    return str(json.loads(output)["package_hash"]), errors


def disturbed(data: Path, run: str, lose: Callable[["subprocess.Popen[str]"], None], *options: str) -> tuple[str, str]:
    """The same, of a run that loses a machine once the first of its models is there."""
    process = begin(data, run, *options)
    models = data.parent / "runs" / run / "models"
    try:
        while not any(models.glob("*/result.json")):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.02)
        lose(process)
        assert process.poll() is None, "it had ended before the machine was lost"
        return ended(process)
    finally:
        process.kill()


@pytest.fixture(scope="module")
def expected(data: Path) -> Callable[[tuple[str, ...]], str]:
    """The hash of one process."""
    found: dict[tuple[str, ...], str] = {}

    def of(options: tuple[str, ...]) -> str:
        if options not in found:
            found[options] = ended(begin(data, f"here-{len(found)}", "--workers", "1", *options))[0]
        return found[options]

    return of


Expected = Callable[[tuple[str, ...]], str]


def test_a_node_of_ray(data: Path, expected: Expected) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    with two_nodes() as (address, lose):
        words = (*ALONE, "--engine", "ray", "--address", address, "--workers", "2")
        assert disturbed(data, "ray", lambda _: lose(), *words)[0] == expected(ALONE)


def test_an_executor_of_spark(data: Path, expected: Expected) -> None:
    pytest.importorskip("pyspark", reason="pyspark is not installed")
    if shutil.which("java") is None:
        pytest.skip("there is no Java")
    words = (*TOGETHER, "--engine", "spark", "--address", MASTER, "--workers", "2")
    assert disturbed(data, "spark", kill_executor, *words)[0] == expected(TOGETHER)


@contextlib.contextmanager
def two_nodes() -> Iterator[tuple[str, Callable[[], None]]]:
    """The address of a cluster of two nodes with a CPU each, and what kills the second one."""
    from ray.cluster_utils import Cluster

    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
    node = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(True, head_node_args={**node, "include_dashboard": False, "_system_config": quick})
    try:
        second = cluster.add_node(**node)
        yield cluster.address, lambda: cluster.remove_node(second, allow_graceful=False)
    finally:
        cluster.shutdown()


def kill_executor(process: "subprocess.Popen[str]") -> None:
    """The newest of Spark's executors that run below the process."""
    below = psutil.Process(process.pid).children(recursive=True)
    executors = [each for each in below if "CoarseGrainedExecutorBackend" in words_of(each)]
    os.kill(max(executors, key=lambda each: each.create_time()).pid, signal.SIGKILL)


def words_of(process: psutil.Process) -> str:
    """The command line, empty of one that has ended meanwhile."""
    with contextlib.suppress(psutil.NoSuchProcess):  # also of a zombie
        return " ".join(process.cmdline())
    return ""
