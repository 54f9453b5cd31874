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
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from shardwise.store.journal import SqliteJournal
from shardwise.testing.tables import people

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # the engines' own

BESIDE = ("--families", "linear", "--trials", "4")
TREES = ("--parallel", "data", "--families", "trees", "--trials", "2", "--config", "quick.yaml")
MASTER = "local-cluster[2,1,1024]"
DATA = {BESIDE: "few.parquet", TREES: "many.parquet"}  # members have 16,384 rows at least
ROUNDING = 1e-4  # of a loss of trees, which fewer members add up in another order


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    few, many = people(1_200).drop_columns(["spent", "visits"]), people(90_000).select(["age", "income", "bought"])
    pq.write_table(few, folder / "few.parquet", row_group_size=600)
    pq.write_table(many, folder / "many.parquet", row_group_size=45_000)
    (folder / "quick.yaml").write_text("params:\n  trees: {n_estimators: 30}\n")
    return folder


def words_of_run(run: str, mode: tuple[str, ...], *options: str) -> list[str]:
    return ["train", DATA[mode], "--target", "bought", "--folds", "2", "--run", run, "--json", *mode, *options]


def begin(folder: Path, *command: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    return subprocess.Popen(
        [sys.executable, *command], cwd=folder, env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def lose_in_the_middle(folder: Path, run: str, process: "subprocess.Popen[str]", lose: Callable[[], None]) -> None:
    """Lose a machine once the first of a run's models is there, before it has ended."""
    models = folder / "runs" / run / "models"
    while not any(models.glob("*/result.json")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    lose()
    with SqliteJournal(folder / "runs" / run / "journal.db", read_only=True) as journal:
        assert not any(record["kind"] == "finished" for record in journal.read()), "it ended before"


Result = dict[str, Any]
Expected = Callable[[tuple[str, ...]], Result]


@pytest.fixture(scope="module")
def expected(folder: Path) -> Expected:
    """What one process comes to."""
    found: dict[tuple[str, ...], Result] = {}

    def of(mode: tuple[str, ...]) -> Result:
        if mode not in found:
            process = begin(folder, "-m", "shardwise", *words_of_run(f"here-{len(found)}", mode, "--workers", "1"))
            found[mode] = ended(process)
        return found[mode]

    return of


def ended(process: "subprocess.Popen[str]") -> Result:
    output, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    return dict(json.loads(output))


def check_same(found: Result, wanted: Result, mode: tuple[str, ...]) -> None:
    """Of linear models the same bytes; of trees what is promised of any number of members."""
    if mode is not TREES:
        assert found["package_hash"] == wanted["package_hash"]
    assert found["valid_score"] == pytest.approx(wanted["valid_score"], rel=ROUNDING)
    assert found["score"]["value"] == pytest.approx(wanted["score"]["value"], rel=ROUNDING)


# -- Ray: a node of two is killed -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """With one node of one CPU."""
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
    cluster = Cluster(True, head_node_args={**NODE, "include_dashboard": False, "_system_config": quick})
    yield cluster
    cluster.shutdown()


NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


@pytest.mark.parametrize("mode", [BESIDE, TREES], ids=["side by side", "gang"])
def test_a_node_of_ray(folder: Path, expected: Expected, cluster: Any, mode: tuple[str, ...]) -> None:
    second, run = cluster.add_node(**NODE), f"ray-{list(DATA).index(mode)}"
    options = ("--engine", "ray", "--address", cluster.address, "--workers", "2")
    process = begin(folder, "-m", "shardwise", *words_of_run(run, mode, *options))
    try:
        lose_in_the_middle(folder, run, process, lambda: cluster.remove_node(second, allow_graceful=False))
        check_same(ended(process), expected(mode), mode)
    finally:
        process.kill()


# -- Spark: an executor of two is killed -------------------------------------------------------------------------------

# Spark starts once, and the runs come one after the other, each when it is asked for
SPARK = """
import json, sys
from shardwise.cli import run
from shardwise.compute.on_spark import SparkExecutor
with SparkExecutor(2, address=sys.argv[1]):
    for line in sys.stdin:
        assert run(json.loads(line)) == 0
        sys.stdout.flush()
"""


@pytest.fixture(scope="module")
def spark(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    pytest.importorskip("pyspark", reason="pyspark is not installed")
    if shutil.which("java") is None:
        pytest.skip("there is no Java")
    process = subprocess.Popen(
        [sys.executable, "-c", SPARK, MASTER], cwd=folder, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    yield process
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize("mode", [BESIDE, TREES], ids=["side by side", "gang"])
def test_an_executor_of_spark(
    folder: Path, expected: Expected, spark: "subprocess.Popen[str]", mode: tuple[str, ...]
) -> None:
    run = f"spark-{list(DATA).index(mode)}"
    assert spark.stdin is not None
    assert spark.stdout is not None
    options = ("--engine", "spark", "--address", MASTER, "--workers", "2")
    spark.stdin.write(json.dumps(words_of_run(run, mode, *options)) + "\n")
    spark.stdin.flush()
    lose_in_the_middle(folder, run, spark, lambda: kill_executor(spark))
    check_same(dict(json.loads(spark.stdout.readline())), expected(mode), mode)


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
