"""The same package from every engine, through the command line."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from shardwise.models.neural.model import has_torch
from shardwise.store.journal import SqliteJournal
from shardwise.testing.tables import people

NEEDS = {"ray": "ray", "dask": "distributed", "spark": "pyspark"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    pq.write_table(people(900).drop_columns(["spent", "visits"]), folder / "part.parquet", row_group_size=300)
    return folder / "part.parquet"


@pytest.fixture(scope="module")
def expected(data: Path) -> str:
    return package_hash(data, "inline", "--workers", "1")


def train(data: Path, run: str, *options: str) -> "subprocess.CompletedProcess[str]":
    arguments = ["train", data.name, "--target", "bought", "--trials", "3", "--folds", "2", "--run", run, "--json"]
    return command(data, *arguments, *options)


def command(data: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "shardwise", *words], cwd=data.parent, capture_output=True, text=True)


def package_hash(data: Path, run: str, *options: str) -> str:
    """Standard output holds one JSON object and nothing else, whatever the engine prints."""
    answer = train(data, run, *options)
    assert answer.returncode == 0, answer.stderr
    return str(json.loads(answer.stdout)["package_hash"])


@pytest.mark.parametrize("workers", ["2", "4"])
def test_local_workers_give_the_same_package(data: Path, expected: str, workers: str) -> None:
    assert package_hash(data, f"local-{workers}", "--engine", "local", "--workers", workers) == expected
    assert seen_rows(data, f"local-{workers}") > 0


def seen_rows(data: Path, run: str) -> int:
    """Rows that workers side by side told of: those of all rounds."""
    with SqliteJournal(data.parent / "runs" / run / "journal.db", read_only=True) as journal:
        records = [record for record in journal.read() if record["kind"] == "workers" and not record["together"]]
    return sum(worker["rows"] for record in records for worker in record["workers"])


def skip_unless_installed(engine: str) -> None:
    if importlib.util.find_spec(NEEDS[engine]) is None or (engine == "spark" and shutil.which("java") is None):
        pytest.skip(f"{engine} is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("engine", NEEDS)
def test_an_engine_gives_the_same_package(data: Path, expected: str, engine: str) -> None:
    skip_unless_installed(engine)
    assert package_hash(data, engine, "--engine", engine, "--workers", "2") == expected
    assert seen_rows(data, engine) > 0


def test_an_engine_that_is_not_installed_partitions_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['ray'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    answer = command(data, "partition", data.name, "nowhere", "--by", "hash:city:3", "--engine", "ray")
    assert answer.returncode == 2
    assert "Run: pip install 'shardwise[ray]'." in answer.stderr
    assert not (data.parent / "nowhere").exists()


@pytest.mark.parametrize("engine", NEEDS)
def test_an_engine_that_is_not_installed_is_named(
    data: Path, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{NEEDS[engine]!r}] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    answer = train(data, f"without-{engine}", "--engine", engine)
    assert answer.returncode == 2
    assert f"Run: pip install 'shardwise[{engine}]'." in answer.stderr
    assert not (data.parent / "runs" / f"without-{engine}").exists()


LINEAR = ("--parallel", "data", "--families", "linear")


def test_several_workers_on_one_model_give_the_package_of_one(data: Path) -> None:
    one = package_hash(data, "linear-1", *LINEAR, "--workers", "1")
    assert package_hash(data, "linear-2", *LINEAR, "--workers", "2") == one


def test_a_network_in_parts_gives_a_package_like_any_other(data: Path) -> None:
    if not has_torch():
        pytest.skip("the extra torch is not installed")
    quick = data.parent / "quick.yaml"
    quick.write_text("params:\n  neural: {epochs: 2, width: 16, members: 2, knots: 4}\n")
    options = ("--config", str(quick), "--parallel", "tensor", "--families", "neural", "--workers", "2")
    answer = train(data, "parts", *options)
    assert answer.returncode == 0, answer.stderr
    assert "lie in 2 parts on 2 workers (tensor), as asked: a worker has at most" in answer.stderr
    package = json.loads(answer.stdout)["package"]
    told = command(data, "predict", package, data.name, "--out", "parts.parquet")
    assert told.returncode == 0, told.stderr
    assert pq.read_table(data.parent / "parts.parquet").num_rows == 900


def test_an_engine_that_cannot_start_workers_together_is_said(data: Path) -> None:
    answer = train(data, "together-on-dask", *LINEAR, "--engine", "dask")
    assert answer.returncode == 2
    assert "--engine dask cannot start workers together" in answer.stderr


def test_a_kind_of_parallel_that_is_not_known_is_said(data: Path) -> None:
    answer = train(data, "together-somehow", "--parallel", "dat")
    assert answer.returncode == 2
    assert "data" in answer.stderr
