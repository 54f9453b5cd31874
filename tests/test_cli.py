"""The command line: verbs, exit codes, what goes to which stream."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest

import shardwise
from shardwise.cli import run
from shardwise.cli.last_resort import LastResort
from shardwise.cli.train import print_result
from shardwise.compute.clock import Interrupts
from shardwise.core.events import RunOpened
from shardwise.testing.tables import people
from shardwise.workflow import TrainResult

DROP = "id,weight,spent,visits"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pq.write_table(people(400), "people.parquet")
    return tmp_path


def train(*more: str) -> int:
    return run(["train", "people.parquet", "--target", "bought", "--drop", DROP, "--folds", "2", *more])


def test_train_then_evaluate_then_predict(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--trials", "2", "--out", "model", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["package"] == "model"
    assert result["metric"] == "roc_auc"

    pq.write_table(people(300, seed=1), "new.parquet")
    assert run(["evaluate", "model", "new.parquet", "--json", "--slices", "city"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["rows"] == 300
    assert {"value", "low", "high"} <= scores["metrics"]["roc_auc"].keys()
    assert {part["column"] for part in scores["slices"]} == {"city"}

    assert run(["predict", "model", "new.parquet", "--out", "scores.csv", "--keep", "id,city"]) == 0
    table = arrow_csv.read_csv("scores.csv")
    assert table.column_names == ["id", "city", "prediction", "probability_no", "probability_yes"]
    assert table["id"].to_pylist() == list(range(300))
    direct = shardwise.load("model").predict(people(300, seed=1).combine_chunks().to_batches()[0])
    np.testing.assert_array_equal(table["probability_yes"].to_numpy(), direct[:, 1])

    words = ["predict", "model", "new.parquet", "--out", "likely", "--keep", "id", "--min-probability", "0.6"]
    likely = [row for row, probability in enumerate(direct[:, 1]) if probability >= 0.6]
    assert run([*words, "--dtype", "float32", "--workers", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"rows": len(likely), "out": "likely"}
    assert pq.read_table("likely")["id"].to_pylist() == likely
    assert run([*words, "--top-k", "1"]) == 2
    assert "Leave out --top-k" in capsys.readouterr().err


def test_people_get_lines_and_next_steps(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--trials", "2") == 0
    shown = capsys.readouterr()
    assert "95 % interval" in shown.out
    assert "shardwise predict" in shown.out
    assert "trial 1" in shown.err
    package = next(Path("runs").glob("*/package"))
    assert run(["evaluate", str(package), "people.parquet", "--slices", "city"]) == 0
    assert "city = Oslo" in capsys.readouterr().out


def test_profile_is_readable_and_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["profile", "people.parquet", "--target", "bought"]) == 0
    assert "income" in capsys.readouterr().out
    assert run(["profile", "people.parquet", "--json", "--workers", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 400
    assert run(["profile", "people.parquet", "--target", "bough"]) == 2
    assert "'bought'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["trian"], 2, "'train'"),
        (["train", "people.parquet", "--targte", "bought"], 2, "--target"),
        (["train", "people.parquet"], 2, "'target' is missing"),
        (["train", "nothing.parquet", "--target", "y"], 2, "no such file"),
        (["train", "people.parquet", "--target", "bought", "--trials", "many"], 2, "'many'"),
        (["train", "people.parquet", "--target", "bought", "--type", "age"], 2, "--type"),
        (["train", "people.parquet", "--target", "bought", "--config", "none.yaml"], 2, "no such file"),
        (["predict", "nothing", "people.parquet", "--out", "x.parquet"], 2, "no such folder"),
        (["predict", "nothing", "people.parquet"], 2, "--out"),
    ],
)
def test_bad_input_is_one_paragraph_and_code_2(
    place: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, told: str
) -> None:
    assert run(words) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    last = shown.err.strip().splitlines()[-1]
    assert last.startswith("shardwise: ")
    assert told in last
    assert "Traceback" not in shown.err
    assert [path.name for path in place.iterdir() if path.name != "runs"] == ["people.parquet"]


def test_strict_answers_no_with_code_1(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = people(400)
    pq.write_table(table.append_column("paid", table["bought"]), "people.parquet")
    assert train("--strict") == 1
    assert "'paid'" in capsys.readouterr().err


def test_options_of_a_file_and_of_the_command_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.yaml").write_text(f"target: bought\ndrop: [{DROP}]\nfolds: 2\ntrials: 3\n", encoding="utf8")
    assert run(["train", "people.parquet", "--config", "config.yaml", "--trials", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trials"] == 1


@pytest.mark.slow
def test_ctrl_c_stops_cleanly_with_the_best_so_far(place: Path) -> None:
    words = ["train", "people.parquet", "--target", "bought", "--drop", DROP, "--time", "5m", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "shardwise", *words, "--out", "model"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    began = time.monotonic()
    while not Path("model/manifest.json").exists() and time.monotonic() - began < 60:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out)["cut"] is True
    shardwise.load("model")


def test_a_command_keeps_the_signal_that_stops_its_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> SimpleNamespace:
        with (interrupts := Interrupts()):
            signal.raise_signal(signal.SIGTERM)
        interrupts.pass_on()
        came.append("to the end")
        return SimpleNamespace(to_json=dict)

    came: list[object] = []
    monkeypatch.setattr("shardwise.api._profile", stopped)
    before = signal.signal(signal.SIGTERM, lambda *_: came.append("signal"))
    try:
        shardwise.profile("people.parquet")
        assert came == ["signal", "to the end"]
        assert run(["profile", "people.parquet", "--json"]) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == ["signal", "to the end", "to the end"]


def test_a_run_whose_time_went_by_before_its_first_model_gets_it_when_it_is_started_again(place: Path) -> None:
    words = [sys.executable, "-m", "shardwise", "train", "people.parquet", "--target", "bought", "--time", "0.1s"]
    first, second = (
        subprocess.run([*words, "--run", "late", "--json"], capture_output=True, timeout=100) for _ in range(2)
    )
    assert (first.returncode, first.stdout) == (3, b"")
    assert second.returncode == 0, second.stderr
    assert b"the first model is still trained" in second.stderr
    assert b"Give more --time, or the same command again" in first.stderr
    shardwise.load(json.loads(second.stdout)["package"])


def test_the_last_resort_ends_a_process_that_is_late(place: Path) -> None:
    """In a process of its own, since that is what it ends."""
    assert train("--trials", "1", "--out", "model") == 0
    script = (
        "import time; from shardwise.cli.last_resort import LastResort\n"
        "from shardwise.core.events import FirstModel, RunOpened, Scored\n"
        "with LastResort('{out}', as_json=True) as end:\n"
        "    end(FirstModel(seconds=12.0))\n"
        "    end(Scored(trial=0, candidate='c', metric='roc_auc', score=0.5, best=True))\n"
        "    end(RunOpened(name='r', folder='.', used_s=5.0, limit_s=5.1, memory_bytes=None)); time.sleep(60)"
    )
    codes = {"model": 0, "missing": 3}
    for out, code in codes.items():
        done = subprocess.run([sys.executable, "-c", script.format(out=out)], capture_output=True, timeout=50)
        assert done.returncode == code
        assert b"Give 12s or more --time" in done.stderr  # the package has the baseline
        if code == 0:
            assert b"the baseline alone" in done.stderr
            facts = json.loads(done.stdout)
            assert (facts["cut"], facts["score"], facts["trials"], facts["valid_score"]) == (True, {}, 1, 0.5)
    told = script.format(out="model").replace("as_json=True", "as_json=False")
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, timeout=50)
    assert done.stdout == b"time was up; the best package so far is model (that of the run so far)\n"
    unlimited = LastResort(None, as_json=False)
    unlimited(RunOpened(name="", folder="", used_s=0, limit_s=None, memory_bytes=None))
    assert unlimited._guard is None


def test_a_score_that_few_rows_leave_undefined_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    told = {"run": "r", "package": "p", "package_hash": "h", "report": "", "task": "binary", "metric": "roc_auc",
            "valid_score": 0.5, "rows": 30, "trials": 1, "seconds": 1.0, "peak_memory_bytes": 1, "cut": False,
            "findings": []}  # fmt: skip
    for score, words in (
        ({}, "not measured"),
        ({"value": None, "low": None, "high": None}, "not defined on the sealed rows"),
        ({"value": 0.5, "low": None, "high": None}, "0.5 (no interval: too few rows), on sealed rows"),
        ({"value": 0.5, "low": 0.4, "high": 0.6}, "0.5 (95 % interval 0.4 to 0.6), on sealed rows"),
    ):
        print_result(TrainResult(**told, score=score))
        assert f"test roc_auc  {words}\n" in capsys.readouterr().out


def test_the_last_resort_leaves_a_run_alone_that_has_ended() -> None:
    end = LastResort(None, as_json=False)
    end(RunOpened(name="r", folder=".", used_s=9.0, limit_s=1.0, memory_bytes=None, again=True, finished=True))
    assert end._guard is None
