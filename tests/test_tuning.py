"""A search end to end: the same bytes whatever happens, a history that goes on, and what is told of failures."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import shardwise
from shardwise.cli import run as cli
from shardwise.core.config import RunConfig
from shardwise.core.errors import ConfigError, OverBudget, ShardwiseError, TaskFailed, WorkerLost
from shardwise.core.events import Event, Events, Said, Scored
from shardwise.history import history_of, read_history
from shardwise.models.linear import Linear
from shardwise.report.trials import render_history
from shardwise.store.journal import SqliteJournal
from shardwise.testing.tables import people
from shardwise.train.result import FoldResult
from shardwise.train.trainer import FitTask, FitUnit
from shardwise.tune.archive import Archive, of_runs
from shardwise.tune.samplers import optuna_tpe
from shardwise.tuning import grouped
from shardwise.workflow import TrainResult, train

DROP = ("id", "weight", "spent", "visits")
QUICK = {"trees": {"n_estimators": 60, "early_stopping_rounds": 10, "patience": 0.0}}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "people.parquet"
    pq.write_table(people(400), path)
    return path


def config(data: Path, **changes: Any) -> RunConfig:
    asked = {
        "trials": 9, "folds": 2, "drop": DROP, "runs_folder": str(data.parent / "runs"), "target": "bought",
        "families": ("trees",), "params": QUICK, "sampler": "gp", "pruner": "asha", "report": False,
    }  # fmt: skip
    return RunConfig.from_mapping({"data": str(data), **asked, **changes})


def run(data: Path, **changes: Any) -> TrainResult:
    return train(config(data, **changes))


def records(data: Path, name: str, kind: str) -> list[dict[str, Any]]:
    with SqliteJournal(data.parent / "runs" / name / "journal.db", read_only=True) as journal:
        return [dict(record) for record in journal.read() if record["kind"] == kind]


@pytest.mark.parametrize(
    ("sampler", "pruner", "rungs"),
    [("gp", "asha", "rounds"), ("rl", "hyperband", "rounds"), ("gp", "asha", "partitions")],
)
def test_the_same_bytes_on_one_worker_or_two_and_after_being_stopped(
    data: Path, sampler: str, pruner: str, rungs: str
) -> None:
    how = {"sampler": sampler, "pruner": pruner, "rungs": rungs, "trials": 12}
    hashes = {run(data, **how, workers=workers, run=f"w{workers}").package_hash for workers in (1, 2)}

    class Stop(Exception):
        pass

    for moment in (1, 5, 8):

        def stop(event: Event, moment: int = moment) -> None:
            if isinstance(event, Scored) and event.trial == moment:
                raise Stop

        with pytest.raises(Stop):
            train(config(data, **how, run="stopped"), Events([stop]))
    hashes.add(run(data, **how, run="stopped").package_hash)
    assert len(hashes) == 1
    histories = [read_history(data.parent / "runs", name).trials for name in ("w1", "w2", "stopped")]
    tried = [[(t["params"], t["score"], t["rung"]) for t in trials] for trials in histories]
    assert tried[0] == tried[1] == tried[2]
    assert len(tried[0]) == 12


NETWORK = {"neural": {"epochs": 3, "width": 8, "members": 2, "knots": 4, "batch_rows": 64}}
POPULATION = {
    "families": ("neural",), "params": NETWORK, "sampler": "pbt", "pruner": "none", "folds": None, "valid_share": 0.3,
}  # fmt: skip


def test_a_population_ends_with_the_same_bytes_on_workers_after_stops_and_when_it_is_longer(data: Path) -> None:
    pytest.importorskip("torch", reason="the extra torch is not installed")

    class Stop(Exception):
        pass

    def stop(before: Iterator[int], event: Event) -> None:
        if isinstance(event, Scored) and next(before, None) is None:
            raise Stop

    for last in (3, 8):  # in the first leg of the members, and in the second one
        with pytest.raises(Stop):
            train(config(data, **POPULATION, trials=5, run="stopped"), Events([partial(stop, iter(range(last)))]))
    run(data, **POPULATION, trials=5, run="stopped")  # a smaller population, which then grows
    stopped = run(data, **POPULATION, trials=9, run="stopped", workers=1)
    direct = run(data, **POPULATION, trials=9, run="direct", workers=2)
    assert stopped.package_hash == direct.package_hash
    trials, again = (read_history(data.parent / "runs", name).trials for name in ("stopped", "direct"))
    told = [[(t["params"], t["score"], t["rung"], t["from"]) for t in each] for each in (trials, again)]
    assert told[0] == told[1]
    assert [trial["rung"] for trial in trials if trial["family"] == "neural"] == [2] * 8


def test_a_population_tells_who_came_from_whom_and_does_each_leg_once(data: Path) -> None:
    pytest.importorskip("torch", reason="the extra torch is not installed")
    result = run(data, **POPULATION, trials=9, run="once")
    assert run(data, **POPULATION, trials=9, run="once").package_hash == result.package_hash
    legs = [(r["number"], r["rung"]) for r in records(data, "once", "trial") if r["family"] == "neural"]
    assert sorted(legs) == [(trial, leg) for trial in range(1, 9) for leg in range(3)]
    moves = next(finding for finding in result.findings if finding["code"] == "population")["evidence"]["moves"]
    told = {(trial["trial"], each["rung"], each["trial"])
            for trial in read_history(data.parent / "runs", "once").trials for each in trial["from"]}  # fmt: skip
    assert told == {(move["trial"], move["leg"], move["source"]) for move in moves} != set()
    steps = [fold["steps"] for r in records(data, "once", "trial") for fold in r["folds"] if r["family"] == "neural"]
    assert sum(steps) == 8 * 3  # epochs: those of eight trainings
    rests = list((data.parent / "runs" / "once" / "models").glob("*/rest"))
    assert 0 < len(rests) <= 8  # of the last legs that rested
    past = of_runs(data.parent / "runs")[0].tasks[0]
    copied = {move["trial"] for move in moves}
    assert len(past.trials) == 9 - len(copied)


def test_more_trials_go_on_with_a_search_and_end_as_if_asked_for_at_once(data: Path) -> None:
    run(data, run="long")
    longer = run(data, run="long", trials=15)
    assert longer.package_hash == run(data, run="direct", trials=15).package_hash


def test_trials_are_given_up_and_the_best_is_trained_to_its_end(data: Path) -> None:
    run(data, run="a", trials=14)
    rungs = [trial["rung"] for trial in read_history(data.parent / "runs", "a").trials if trial["family"] == "trees"]
    assert rungs.count(0) >= len(rungs) / 4  # they rest on the lowest rung
    best = [trial for trial in read_history(data.parent / "runs", "a").trials if trial["best_so_far"]][-1]
    assert best["rung"] > 0


KILLED = "import sys; from shardwise.cli import main; main(sys.argv[1:])"


@pytest.mark.slow
def test_a_killed_search_goes_on_and_ends_with_the_same_bytes(data: Path) -> None:
    whole = run(data, run="whole")
    words = [
        "tune", str(data), "--target", "bought", "--trials", "9", "--folds", "2", "--run", "killed", "--drop",
        ",".join(DROP), "--families", "trees", "--sampler", "gp", "--pruner", "asha",
        *(part for name, value in QUICK["trees"].items() for part in ("--param", f"trees.{name}={value}")),
    ]  # fmt: skip
    moments = random.Random(1)
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, *words], cwd=data.parent, start_new_session=True,
            stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(2.0 + 3.0 * moments.random())
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert run(data, run="killed").package_hash == whole.package_hash


def test_all_proposals_failing_is_told_with_the_reasons(data: Path) -> None:
    heard: list[Event] = []
    space = {"trees": {"target_transform": ["log1p"]}}  # not for two classes
    with pytest.raises(ConfigError, match="target_transform"):  # no point of the space can be built
        train(config(data, space=space), Events([heard.append]))
    mixed = {"trees": {"objective": {"values": [None, "l1"], "default": None}}}  # l1 is not for two classes
    result = train(
        config(data, space=mixed, trials=16, sampler="random", pruner="none", run="mixed"), Events([heard.append])
    )
    told = [finding for finding in result.findings if finding["code"] == "failed_trials"]
    assert "objective='l1'" in told[0]["text"]
    assert any(isinstance(event, Said) and "failed" in event.text for event in heard)
    history = read_history(data.parent / "runs", "mixed").trials
    assert any(trial["failed"] for trial in history)
    assert not all(trial["failed"] for trial in history)


def test_a_candidate_on_which_a_library_fails_is_told_and_left_out(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*_: Any) -> None:
        raise FloatingPointError("overflow\nin a library")

    monkeypatch.setattr(Linear, "fit", fit)
    result = run(data, families=("trees", "linear"), trials=4, sampler="random", pruner="none")
    (told,) = [finding for finding in result.findings if finding["code"] == "failed_trials"]
    assert re.fullmatch(r"1 trial\(s\) failed: FloatingPointError: overflow \(test_tuning.py, line \d+\)", told["text"])
    assert told["evidence"]["trials"] == [2]
    assert result.trials == 3
    with pytest.raises(TaskFailed, match=r"all trials failed: FloatingPointError: overflow"):
        run(data, families=("linear",), params={}, run="linear", trials=3, sampler="random", pruner="none")


@pytest.mark.parametrize(
    "error", [WorkerLost("the worker died (signal 9, Killed)"), OverBudget("a worker was ended: 1 GB are allowed")]
)
def test_a_candidate_that_takes_its_workers_or_all_memory_is_left_out(
    data: Path, monkeypatch: pytest.MonkeyPatch, error: ShardwiseError
) -> None:
    fitted, tries, bad = FitTask._fit, [], {1}

    def fit(self: FitTask, unit: FitUnit, earlier: FoldResult | None) -> FoldResult:
        if unit.trial in bad:
            tries.append(unit.trial)
            raise error
        return fitted(self, unit, earlier)

    how: dict[str, Any] = {"trials": 4, "sampler": "random", "pruner": "none"}
    monkeypatch.setattr(FitTask, "_fit", fit)
    result = run(data, **how, run="one")
    (told,) = [finding for finding in result.findings if finding["code"] == "failed_trials"]
    assert told["text"].count(f"{type(error).__name__}: {error.message}") == 1
    assert told["evidence"]["trials"] == [1]
    assert result.trials == 3
    assert shardwise.load(result.package).package.manifest.members[0].family == "trees"
    assert len(tries) == (3 * 2 if isinstance(error, WorkerLost) else 5 + 1)  # on two folds: tries, or rungs
    bad.update(range(1, 4))
    with pytest.raises(type(error), match=rf"all trials failed: .*{re.escape(error.message)} \(\d times\)") as caught:
        run(data, **how, run="all")
    bad.clear()
    assert run(data, **how, run="all").trials == 4  # the same command tries them again
    assert caught.value.hint


def test_partial_trials_are_shown_as_such_and_never_the_best(data: Path) -> None:
    run(data, run="rounds", trials=12)
    run(data, run="parts", trials=10, rungs="partitions", sampler="random")
    for name in ("rounds", "parts"):
        found = read_history(data.parent / "runs", name)
        partial_ones = [trial for trial in found.trials if not trial["whole"]]
        assert partial_ones
        assert not any(trial["best_so_far"] for trial in partial_ones)
        whole = [trial["score"] for trial in found.trials if trial["whole"] and trial["score"] is not None]
        lines = list(render_history(found.run, found.metric, found.trials))
        assert f"{max(whole):.6g}" in lines[-1]
        first = partial_ones[0]
        told = f"{first['rounds']} rounds" if name == "rounds" else f"{first['share']:.0%} of parts"
        assert any(told in line for line in lines)


def test_a_low_rung_with_a_lower_loss_than_all_whole_trials_is_not_the_best() -> None:
    def trial(number: int, loss: float, rung: int, *, rests: bool) -> dict[str, Any]:
        return {"kind": "trial", "number": number, "family": "trees", "params": {}, "loss": loss, "rung": rung,
                "cost_s": 0.0, "failed": "", "folds": [], "rests": rests, "share": 1 / 9 if rests else 1.0}  # fmt: skip

    records = [{"kind": "task", "metric": "rmse"}, trial(0, 0.5, 2, rests=False), trial(1, 0.1, 0, rests=True),
               trial(2, 0.4, 2, rests=False)]  # fmt: skip
    found = history_of("one", records)
    assert [each["best_so_far"] for each in found.trials] == [True, False, True]
    lines = list(render_history("one", "rmse", found.trials))
    assert "trial 2" in lines[-1]
    assert "11% of parts" in lines[3]


def test_reasons_are_grouped_the_most_frequent_first() -> None:
    reasons = [(n, reason) for n, reason in enumerate(["a", "b", "b", "c", "d", "e"])]
    assert grouped(reasons) == "b (2 times), a, c and 2 other reasons"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampler": "tep"}, "'tpe'"),
        ({"pruner": "ash"}, "'asha'"),
        ({"sampler": "pbt"}, "which trees do not"),
        ({"sampler": "pbt", "families": ("neural",)}, "--pruner asha"),
        ({"space": {"trees": {"num_leaves": [9, 3]}}}, "no point"),
        ({"space": {"trees": {"num_leafs": [3, 9]}}}, "'num_leaves'"),
        ({"space": {"linear": {"l1": [0.1, 0.2]}}}, "--families trees,linear"),
        (
            {"space": {"trees": {"max_depth": {"low": 2, "high": 4, "when": {"categorcal": ["native"]}}}}},
            "'categorical'",
        ),
        ({"space": {"trees": [3, 9]}}, "by family"),
        ({"space": [3, 9]}, "by family"),
        ({"params": {"trees": 3}}, "by family"),
        ({"metric": "roc_acu"}, "'roc_auc'"),
        ({"metric": "rmse", "task": "binary"}, "roc_auc"),
        ({"sampler": "meta", "archive": "nowhere.json"}, r"nowhere.json|no such file"),
        ({"sampler": "random", "per_second": True}, "seconds"),
    ],
)
def test_what_cannot_be_searched_is_refused(data: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError if "archive" not in changes else shardwise.ShardwiseError, match=words):
        run(data, **changes)
    if words != "'num_leaves'" and "archive" not in changes:  # wrong before anything is known of the data
        assert not (data.parent / "runs").exists()


def test_a_sampler_whose_extra_is_missing_is_refused_before_anything_is_trained(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optuna_tpe, "find_spec", lambda name: None)
    for sampler, module in (("tpe", "optuna"), ("cma", "cmaes")):
        with pytest.raises(ConfigError, match=rf"{module}.*--sampler rl"):
            run(data, sampler=sampler)
    assert not (data.parent / "runs").exists()


def test_meta_learning_keeps_the_past_that_it_began_with(data: Path) -> None:
    how = {"sampler": "meta", "pruner": "none", "trials": 10, "run": "meta"}
    run(data, run="earlier", sampler="random", pruner="none", trials=14)
    with pytest.raises(KeyboardInterrupt):
        train(config(data, **how), Events([_interrupt_at(8)]))
    known = records(data, "meta", "archive")
    run(data, run="later", sampler="random", pruner="none", trials=12, seed=3)  # the past is longer now
    run(data, **how)
    assert records(data, "meta", "archive") == known
    found = read_history(data.parent / "runs", "meta")
    expected = [trial["expected"] for trial in found.trials]
    assert expected[:-1] == [None] * (len(expected) - 1)  # of the portfolio nothing is expected
    assert 0.0 <= expected[-1] < 0.5
    assert "expected among the best" in list(render_history(found.run, found.metric, found.trials))[-2]
    assert of_runs(data.parent / "runs")[0].of("trees").tasks


def _interrupt_at(trial: int) -> Any:
    def stop(event: Event) -> None:
        if isinstance(event, Scored) and event.trial == trial:
            raise KeyboardInterrupt

    return stop


def test_the_command_line_tunes_shows_and_exports(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(data.parent)
    words = [
        "tune", str(data), "--target", "bought", "--drop", ",".join(DROP), "--folds", "2", "--trials", "11", "--run",
        "mine", "--families", "trees", "--param", "trees.n_estimators=40", "--sampler", "rl", "--space",
        "trees.num_leaves=[4, 15]",
    ]  # fmt: skip
    assert cli(["tune", "--history"]) == 2
    assert "no run" in capsys.readouterr().err
    assert cli(words) == 0
    assert "shardwise tune --history --run mine" in capsys.readouterr().out
    assert cli(["tune", "--history", "--run", "mine"]) == 0
    shown = capsys.readouterr().out
    assert "11 trials" in shown
    assert "best: trial" in shown
    assert cli(["tune", "--history", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["run"], found["metric"], len(found["trials"])) == ("mine", "roc_auc", 11)
    proposed = [trial["params"]["num_leaves"] for trial in found["trials"][9:]]
    assert proposed
    assert all(4 <= leaves <= 15 for leaves in proposed)
    assert cli(["tune", "--export", "past.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"] == 1
    assert len(Archive.from_json(json.loads(Path("past.json").read_text())).tasks) == 1
    assert cli(["tune", "--history", "--run", "mien"]) == 2
    assert "'mine'" in capsys.readouterr().err


def test_python_tunes_too_and_a_config_file_wins_over_what_is_usual(data: Path, tmp_path: Path) -> None:
    result = shardwise.tune(
        str(data), "bought", drop=DROP, folds=2, trials=3, families=("trees",), params=QUICK, report=False,
        runs_folder=str(tmp_path / "runs"), sampler="random",
    )  # fmt: skip
    assert result.trials == 3
    assert shardwise.load(result.package).package.manifest.lineage["trial"] >= 0


def test_a_param_that_is_held_and_not_there_is_refused(data: Path) -> None:
    with pytest.raises(ConfigError, match="'num_leaves'"):
        run(data, params={"trees": {"num_leafs": 3}}, run="none")


@pytest.mark.parametrize("given", [{"families": ("rnnn",)}, {"params": {"rnnn": {"epochs": 2}}}, {"sampler": "rll"}])
def test_an_unknown_name_is_refused_before_a_run_is_opened(tmp_path: Path, given: dict[str, Any]) -> None:
    asked = RunConfig(data=("none.parquet",), target="y", runs_folder=str(tmp_path / "runs"), **given)
    with pytest.raises(ConfigError, match="there is no") as caught:
        train(asked)
    assert "Did you mean 'r" in caught.value.hint
    assert not (tmp_path / "runs").exists()
