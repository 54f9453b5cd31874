"""The main job end to end, on tiny tables: what a run promises whatever happens to it."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import shardwise
from shardwise.core.config import RunConfig
from shardwise.core.errors import (
    AnswerIsNo,
    ConfigError,
    DataError,
    OverBudget,
    SchemaError,
    ShardwiseError,
    TargetError,
)
from shardwise.core.events import Event, Events, RunOpened, Said, Scored, StageStarted
from shardwise.core.target import Target, Task
from shardwise.data.profile import Profile
from shardwise.store.files import hash_folder
from shardwise.testing.tables import people
from shardwise.train.prepare import class_weights
from shardwise.train.sealed import FEW_GROUPS
from shardwise.workflow import TrainResult, train

DROP = ("id", "weight", "spent", "visits")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    table = people(600)
    for part in range(3):
        pq.write_table(table.slice(part * 200, 200), folder / f"part-{part}.parquet")
    return folder


def config(data: Path, **changes: Any) -> RunConfig:
    asked = {"trials": 3, "folds": 2, "drop": DROP, "runs_folder": str(data.parent / "runs"), "target": "bought"}
    return RunConfig.from_mapping({"data": str(data), **asked, **changes})


def run(data: Path, **changes: Any) -> TrainResult:
    return train(config(data, **changes))


def test_a_run_ends_with_a_package_that_predicts_and_a_report(data: Path) -> None:
    result = run(data)
    assert result.score["low"] <= result.score["value"] <= result.score["high"]
    assert result.score["value"] > 0.85
    assert (result.rows, result.trials, result.cut) == (600, 3, False)
    assert "<h1" in Path(result.report).read_text(encoding="utf8")
    answer = shardwise.load(result.package).answer(people(50, seed=1).combine_chunks().to_batches()[0])
    assert set(answer.column("prediction").to_pylist()) == {"yes", "no"}
    total = np.add(answer.column("probability_no").to_numpy(), answer.column("probability_yes").to_numpy())
    np.testing.assert_allclose(total, 1.0)


@pytest.mark.parametrize(
    ("target", "task", "more"),
    [
        ("city", Task.MULTICLASS, {}),
        ("spent", Task.REGRESSION, {"weight": "weight"}),
        ("visits", Task.COUNT, {"task": "count"}),
        ("spent", Task.QUANTILE, {"task": "quantile", "quantile": 0.9}),
        ("bought", Task.BINARY, {"class_weight": "balanced"}),
        ("bought", Task.BINARY, {"group": "household"}),
        ("bought", Task.BINARY, {"time_column": "since"}),
        ("bought", Task.BINARY, {"key": ("id",), "metric": "log_loss"}),
    ],
)
def test_every_task_and_split_ends_with_a_finite_score(
    data: Path, target: str, task: Task, more: dict[str, Any]
) -> None:
    drop = [name for name in (*DROP, "bought", "household") if name not in (target, *_named(more))]
    result = run(data, target=target, trials=2, drop=drop, **more)
    assert result.task == task.value
    assert np.isfinite([result.score["value"], result.valid_score]).all()
    shardwise.load(result.package)


def _named(more: dict[str, Any]) -> list[str]:
    return [name for value in more.values() for name in ([value] if isinstance(value, str) else list(np.ravel(value)))]


def test_without_a_sealed_test_every_row_trains_and_the_finding_says_so(data: Path) -> None:
    result = run(data, test_share=0)
    assert result.score == {}
    assert np.isfinite(result.valid_score)
    assert "no_test" in [finding["code"] for finding in result.findings]
    assert "No row was sealed" in Path(result.report).read_text(encoding="utf8")
    lineage = shardwise.load(result.package).package.manifest.lineage
    assert lineage["split"]["shares"]["test"] == 0


def test_a_report_is_left_out_when_none_is_asked_for(data: Path) -> None:
    result = run(data, report=False, run="bare")
    assert result.report == ""
    assert not (data.parent / "runs" / "bare" / "report.html").exists()
    assert result.package_hash == run(data).package_hash


def test_folds_may_be_given(data: Path) -> None:
    table = people(400)
    path = data.parent / "dealt.parquet"
    pq.write_table(table.append_column("part", pa.array(np.arange(400) % 5 - 1)), path)
    result = run(path, fold_column="part", folds=4)
    assert result.score["low"] <= result.score["value"] <= result.score["high"]
    assert "part" not in shardwise.load(result.package).columns
    with pytest.raises(DataError, match="holds 3"):
        run(path, fold_column="part", folds=3)


def test_a_metric_that_no_fold_defines_is_an_error(data: Path) -> None:
    table = people(60)
    path = data.parent / "apart.parquet"
    pq.write_table(table.append_column("part", pa.array([int(v == "yes") for v in table["bought"].to_pylist()])), path)
    with pytest.raises(DataError, match="log_loss"):
        run(path, fold_column="part", folds=2)


def test_a_fold_without_a_class_is_told_and_does_not_count(data: Path) -> None:
    table = people(300)
    bought = np.array(table["bought"].to_pylist()) == "yes"
    part = np.arange(300) % 3
    part[bought & (part == 1)] = 0  # no "yes" in fold 1
    part[::7] = -1
    path = data.parent / "absent.parquet"
    pq.write_table(table.append_column("part", pa.array(part)), path)
    result = run(path, fold_column="part", folds=3, trials=2)
    assert 0.5 < result.valid_score <= 1.0
    told = next(finding for finding in result.findings if finding["code"] == "class_absent")
    assert told["text"] == "Fold 1 has no row of yes."


def test_a_single_group_is_refused_before_anything_is_trained(data: Path) -> None:
    table = people(100)
    path = data.parent / "one.parquet"
    pq.write_table(table.append_column("shop", pa.array(["all"] * 100)), path)
    for seed in range(3):  # in a fold, or in the test
        with pytest.raises(DataError, match=r"'shop'.*too few different values.*--group"):
            run(path, group="shop", seed=seed)


def test_groups_of_very_different_sizes_are_told(data: Path) -> None:
    table = people(300)
    path = data.parent / "lumpy.parquet"
    pq.write_table(table.append_column("shop", pa.array([str(i % 30) if i % 2 else "all" for i in range(300)])), path)
    heard: list[Event] = []
    result = train(config(path, group="shop", trials=1), events=Events([heard.append]))
    found = {finding["code"]: finding for finding in result.findings}
    assert "uneven_fold" in found
    told = found["few_groups"]
    assert told["evidence"]["worth"] < FEW_GROUPS
    assert f"{told['evidence']['count']:,} groups, worth " in told["text"]
    said = [event for event in heard if isinstance(event, Said) and told["text"] in event.text]
    assert [event.level for event in said] == ["warning"]


def test_weights_of_classes_may_be_under_keys_that_are_no_strings() -> None:
    target = Target(column="y", task=Task.BINARY, classes=(0, 1))
    assert class_weights(target, Profile(pa.schema([])), {1: 5}) == {"0": 1.0, "1": 5.0}


def test_the_same_bytes_on_one_worker_or_two_and_in_any_folder(data: Path) -> None:
    hashes = {
        run(data, workers=workers, run=f"w{workers}", out=str(data.parent / f"out{workers}")).package_hash
        for workers in (1, 2)
    }
    assert len(hashes) == 1
    assert len({hash_folder(data.parent / f"out{workers}") for workers in (1, 2)}) == 1


def test_another_seed_gives_another_package(data: Path) -> None:
    assert run(data).package_hash != run(data, seed=1).package_hash


def test_a_finished_run_answers_at_once_and_more_trials_go_on_with_it(data: Path) -> None:
    first = run(data)
    heard: list[Event] = []
    again = train(config(data), Events([heard.append]))
    assert again == first
    assert any(isinstance(event, Said) and "finished" in event.text for event in heard)
    heard.clear()
    longer = train(config(data, trials=4), Events([heard.append]))
    assert longer.run == first.run
    assert [event.trial for event in heard if isinstance(event, Scored)] == [0, 1, 2, 3]
    direct = run(data, trials=4, run="direct")
    assert longer.package_hash == direct.package_hash


def test_a_run_that_was_stopped_goes_on_and_ends_with_the_same_bytes(data: Path) -> None:
    whole = run(data, run="whole")

    class Stop(Exception):
        pass

    for moment in range(3):

        def stop(event: Event, moment: int = moment) -> None:
            if isinstance(event, Scored) and event.trial == moment:
                raise Stop

        with pytest.raises(Stop):
            train(config(data, run="stopped"), Events([stop]))
    assert run(data, run="stopped").package_hash == whole.package_hash


KILLED = """
import sys
from shardwise.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(data: Path, tmp_path: Path) -> None:
    whole = run(data, run="whole")
    words = ["train", str(data), "--target", "bought", "--trials", "3", "--folds", "2", "--run", "killed",
             "--drop", ",".join(DROP)]  # fmt: skip
    moments = random.Random(0)
    runs = data.parent / "runs"
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, *words], cwd=data.parent, start_new_session=True, stderr=subprocess.DEVNULL
        )
        began = time.monotonic()
        while not (runs / "killed").exists() and process.poll() is None and time.monotonic() - began < 30:
            time.sleep(0.02)
        time.sleep(moments.uniform(0.0, 1.5))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        package = runs / "killed" / "package"
        if package.exists():
            shardwise.load(package)
    assert run(data, run="killed").package_hash == whole.package_hash


def test_time_cuts_and_a_loadable_model_is_left(data: Path) -> None:
    result = run(data, trials=None, time="4s")
    assert result.cut
    shardwise.load(result.package)
    longer = run(data, trials=None, time="+1s")  # too little to train anything again
    assert longer.run == result.run
    assert longer.trials >= result.trials
    assert longer.valid_score >= result.valid_score


def test_strict_stops_on_a_leak_and_names_it(data: Path) -> None:
    table = people(600)
    leaky = table.append_column("paid", table["bought"])
    path = data.parent / "leaky.parquet"
    pq.write_table(leaky, path)
    with pytest.raises(AnswerIsNo, match="paid"):
        run(path, strict=True)
    result = run(path, drop=(*DROP, "paid"), strict=True, trials=1)
    assert result.score


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"target": "bougth"}, TargetError, "'bought'"),
        ({"group": "hosehold"}, SchemaError, "'household'"),
        ({"drop": ("bought",)}, TargetError, "something else"),
        ({"metric": "rmse"}, ConfigError, "roc_auc"),
        ({"families": ("tree",)}, ConfigError, "trees"),
        ({"task": "regression"}, TargetError, "numbers"),
        ({"engine": "cloud"}, ConfigError, "local"),
        ({"target": "spent", "class_weight": "balanced", "drop": ()}, TargetError, "weight column"),
    ],
)
def test_bad_input_is_one_paragraph_that_says_what_next(
    data: Path, changes: dict[str, Any], error: type[ShardwiseError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        run(data, **changes)
    assert "\n" not in str(caught.value)


def test_a_runs_name_is_not_taken_over_by_another_question_or_other_data(data: Path) -> None:
    run(data, run="mine", trials=1)
    with pytest.raises(ConfigError, match="--run"):
        run(data, run="mine", trials=1, seed=5)
    pq.write_table(people(200, seed=9), data / "part-0.parquet")
    with pytest.raises(ConfigError, match="data has changed"):
        run(data, run="mine", trials=1)


def test_bad_input_leaves_no_folder_behind(data: Path) -> None:
    with pytest.raises(TargetError):
        run(data, target="nothing", run="bad")
    assert not (data.parent / "runs" / "bad").exists()


def test_a_ceiling_too_small_for_anything_is_refused_before_anything_is_read(data: Path) -> None:
    started: list[Event] = []
    with pytest.raises(OverBudget, match=r"100 MB.*too little") as refused:
        train(config(data, memory="100MB"), Events([started.append]))
    assert "Give at least" in refused.value.hint
    assert not [event for event in started if isinstance(event, StageStarted)]


@pytest.mark.parametrize("gone", [False, True])
def test_a_file_that_changes_or_goes_during_a_run_is_named(data: Path, gone: bool) -> None:
    def meddle(event: Event) -> None:
        if isinstance(event, StageStarted) and event.stage == "encode":
            (data / "part-1.parquet").unlink()
            if not gone:
                pq.write_table(people(200, seed=9), data / "part-1.parquet")

    with pytest.raises(DataError, match=r"changed|no such file") as stopped:
        train(config(data), Events([meddle]))
    assert "part-1.parquet" in str(stopped.value)


def test_rows_without_a_label_are_left_out_and_told(data: Path) -> None:
    table = people(300).drop_columns(["bought"])
    pq.write_table(table, data / "part-9.parquet")
    result = run(data, trials=1)
    told = {finding["code"]: finding["text"] for finding in result.findings}
    assert "300 of 900" in told["unlabelled"]
    assert "part-9" in told["missing_column"]


def test_networks_are_trained_with_torch_and_answer_without(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the extra torch is not installed")
    quick = {"neural": {"epochs": 3, "width": 16, "members": 2}}
    result = run(data, families=("neural",), trials=2, params=quick, device="cpu")
    again = run(data, families=("neural",), trials=2, params=quick, workers=2, run="again")
    assert again.package_hash == result.package_hash
    assert [path.name for path in Path(result.package).rglob("*.safetensors")]
    assert not list((data.parent / "runs").rglob("*.part"))
    code = (
        "import sys; import shardwise; import pyarrow.parquet as pq; "
        f"print(len(shardwise.load({str(result.package)!r}).predict(pq.read_table({str(data)!r}))), "
        "'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["600", "False"]


def test_a_run_that_has_ended_and_is_asked_again_says_so(data: Path) -> None:
    def opened(**changes: Any) -> bool:
        seen: list[Event] = []
        train(config(data, trials=2, run="ended", **changes), Events([seen.append]))
        return next(event.finished for event in seen if isinstance(event, RunOpened))

    assert [opened(time="25s"), opened(time="25s"), opened(time="26s")] == [False, True, False]
