"""`shardwise plan` and `shardwise.plan`: exit codes, the first line, JSON, accuracy, bad input."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import shardwise
from shardwise.cli import run
from shardwise.testing.tables import people

DROP = "id,weight,spent,visits"
STAGES = ["open", "profile", "leaks", "recipe", "select", "encode", "train", "ensemble", "test", "package", "report"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pq.write_table(people(600), "people.parquet")
    return tmp_path


def plan(*more: str) -> int:
    return run(["plan", "people.parquet", "--target", "bought", "--drop", DROP, "--folds", "2", "--trials", "2", *more])


def test_the_first_line_says_that_it_fits(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("--out", "model", "--run", "r", "--strict", "--register", "model") == 0  # as the train that follows
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("fits: ")
    shown = [line.split()[0] for line in lines if line]
    assert [name for name in STAGES if name not in shown] == []
    assert [count for count in ("1", "2", "4", "8", "32") if count not in shown] == []


def test_a_ceiling_that_is_too_low_names_the_least_that_works(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("--memory", "50MB") == 1
    shown = capsys.readouterr().out
    assert shown.startswith("does not fit: memory")
    assert "the least that works is about" in shown
    assert plan("--memory", "50MB", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] is False
    assert found["row_share"] == 0.0
    assert found["least_memory_bytes"] > 50 * 10**6


def test_json_has_ranges_for_each_stage(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("--json", "--workers", "1") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] is True
    assert [stage["stage"] for stage in found["stages"]] == STAGES
    for stage in (*found["stages"], found):
        assert stage["time_s"].keys() == stage["memory_bytes"].keys() == {"low", "value", "high"}
        assert stage["time_s"]["low"] <= stage["time_s"]["value"] <= stage["time_s"]["high"]
    assert [each["workers"] for each in found["on_workers"]] == [1, 2, 4, 8, 32]
    assert found["workers"] == 1


def test_workers_that_fit_a_model_together_are_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    together = ["--parallel", "data", "--families", "linear", "--workers", "2"]
    assert plan("--json", "--engine", "ray", *together) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["members"] == 2
    assert found["member_bytes"] > 10**8
    assert "fitted by 2 workers, as asked. Each of them needs about" in found["told"][0]
    assert [each["members"] for each in found["on_workers"]] == [1, 2, 4, 8, 8]


def test_networks_in_parts_are_told_with_what_each_worker_needs(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = ["--parallel", "tensor:2", "--families", "neural"]
    assert plan("--workers", "2", *parts) == 0
    shown = capsys.readouterr().out
    assert "lie in 2 parts on 2 workers (tensor), as asked" in shown
    assert "each worker" in shown
    assert plan("--workers", "3", *parts) == 2
    assert "of 3 worker(s)" in capsys.readouterr().err
    assert plan("--workers", "2", "--memory", "1GB", *parts) == 1
    assert "memory of the workers: each of 2 needs" in capsys.readouterr().out


def test_too_little_disk_does_not_fit(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("--disk", "10KB") == 1
    assert capsys.readouterr().out.startswith("does not fit: disk")


def test_python_says_the_same(place: Path) -> None:
    found = shardwise.plan("people.parquet", "bought", drop=DROP.split(","), folds=2, trials=2)
    assert found.fits
    assert found.whole.trials == 2
    assert found.to_json()["fits"] is True


def test_accuracy_compares_past_runs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--accuracy"]) == 0
    assert "no run with a prediction" in capsys.readouterr().out
    train = ["train", "people.parquet", "--target", "bought", "--drop", DROP, "--folds", "2", "--trials", "2"]
    assert run([*train, "--run", "one"]) == 0
    damaged = place / "runs" / "damaged"
    damaged.mkdir()
    (damaged / "journal.db").write_bytes(b"nonsense" * 1000)
    capsys.readouterr()
    assert run(["plan", "--accuracy", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["run"] for each in found["runs"]] == ["one"]
    assert found["time_s"]["runs"] == 1
    assert "damaged" in found["refused"][0]
    assert run(["plan", "--accuracy"]) == 0
    shown = capsys.readouterr().out
    assert "one" in shown
    assert "median ratio" in shown


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["people.parquet", "--target", "bougth"], "'bought'"),
        (["people.parquet"], "target"),
        ([], "data"),
        (["nothing.parquet", "--target", "bought"], "nothing.parquet"),
        (["people.parquet", "--target", "bought", "--memory", "much"], "2GB"),
        (["people.parquet", "--target", "bought", "--families", "threes"], "'trees'"),
        (["people.parquet", "--target", "bought", "--task", "binary", "--metric", "rmse"], "roc_auc"),
    ],
)
def test_bad_input_is_told(place: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", *words]) == 2
    assert told in capsys.readouterr().err


def test_unreadable_data_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken.parquet").write_bytes(b"PAR1 and then nonsense")
    assert run(["plan", "broken.parquet", "--target", "bought"]) == 2
    assert "broken.parquet" in capsys.readouterr().err
