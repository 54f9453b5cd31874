"""What a package answers with: chosen under limits, told, the same bytes on any number of workers; and its student."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import shardwise
from shardwise import choosing, refitting, searching, workflow
from shardwise.cli import run as cli
from shardwise.core.candidate import Candidate
from shardwise.core.config import RunConfig
from shardwise.core.errors import ConfigError
from shardwise.core.events import Event, Events, Scored
from shardwise.distilling import LEAST_ROUNDS
from shardwise.store.files import folder_bytes
from shardwise.store.journal import SqliteJournal
from shardwise.testing.tables import people
from shardwise.train.result import FoldResult
from shardwise.train.trainer import FitTask, FitUnit
from shardwise.workflow import TrainResult, train

pytestmark = pytest.mark.usefixtures("few_families")
DROP = ("id", "weight", "spent", "visits")
QUICK = {"trees": {"n_estimators": 60, "early_stopping_rounds": 10, "patience": 0.0}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "people.parquet"
    pq.write_table(people(900), path)
    return path


def run(data: Path, tmp_path: Path, events: Events | None = None, **changes: Any) -> TrainResult:
    asked = {
        "trials": 5, "folds": 4, "drop": DROP, "runs_folder": str(tmp_path / "runs"), "target": "bought",
        "params": QUICK, "report": False, "data": str(data),
    }  # fmt: skip
    return train(RunConfig.from_mapping({**asked, **changes}), events)


def trials_in(tmp_path: Path, name: str) -> list[Any]:
    with SqliteJournal(tmp_path / "runs" / name / "journal.db", read_only=True) as journal:
        return [record for record in journal.read() if record["kind"] == "trial"]


def candidate_of(trial: Any) -> Candidate:
    return Candidate(family=trial["family"], params=trial["params"])


def trials_of(tmp_path: Path, name: str) -> int:
    """Candidates that were fitted on all folds, however often the run was gone on with."""
    return len({trial["number"] for trial in trials_in(tmp_path, name)})


def test_members_and_limits_are_told(data: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path, report=True)
    manifest = shardwise.load(result.package).package.manifest
    assert manifest.extra["ensemble"] == json.loads(json.dumps(result.ensemble))
    assert len(manifest.members) == result.ensemble["models"]
    kinds = [way["kind"] for way in result.ensemble["judged"]]
    assert kinds[0] == "single"
    assert result.ensemble["kind"] in kinds
    assert sum(member.weight for member in manifest.members) == pytest.approx(1.0)
    assert "answers with" in Path(result.report).read_text(encoding="utf8")


def test_of_a_member_that_keeps_a_few_models_those_that_were_not_cut_come_first() -> None:
    def folds(*told: tuple[int, bool]) -> list[FoldResult]:
        usual = {"trial": 1, "loss": 0.5, "seconds": 1.0, "predict_s": 0.1, "valid_rows": 10, "folder": "f"}
        return [FoldResult(fold=n, rounds=rounds, cut=cut, **usual) for n, (rounds, cut) in enumerate(told)]

    def order(each: list[FoldResult], place: int) -> list[int]:
        return sorted(range(len(each)), key=lambda number: choosing.preference(each, place, number))

    whole, cut = folds((9, False), (3, False), (5, False)), folds((1, True), (8, True), (2, False))
    assert [order(whole, place) for place in range(3)] == [[0, 1, 2], [1, 2, 0], [2, 0, 1]]  # each leaves others out
    assert [order(cut, place) for place in range(3)] == [[2, 1, 0]] * 3


@pytest.mark.parametrize(("better", "alone"), [(0.002, False), (0.05, True)])
def test_a_trial_without_all_folds_is_taken_alone_only_where_it_is_far_better(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, better: float, alone: bool
) -> None:
    def fit(self: FitTask, unit: FitUnit) -> dict[str, Any]:
        result = dict(usual(self, unit))
        if unit.trial != 4:
            losses.setdefault(unit.trial, []).append(result["loss"])
            return result
        late = {**result, "loss": math.nan, "folder": "", "cut": True}
        best = min(losses.values(), key=np.mean)
        return late if unit.number > 1 else {**result, "loss": best[unit.number] - better}

    losses: dict[int, list[float]] = {}
    usual = FitTask.__call__
    monkeypatch.setattr(FitTask, "__call__", fit)
    result = run(data, tmp_path, run="cut", distill=True)
    told = [finding["text"] for finding in result.findings if finding["code"] == "not_distilled"]
    assert (result.ensemble == {}) is alone
    assert [("before all folds" in text) for text in told] == [True] * alone


def test_a_trial_that_was_cut_keeps_the_limits_too(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(self: FitTask, unit: FitUnit) -> dict[str, Any]:
        result = dict(usual(self, unit))
        late = {**result, "loss": math.nan, "folder": "", "cut": True}
        return late if unit.trial and unit.number > 1 else result

    usual = FitTask.__call__
    monkeypatch.setattr(FitTask, "__call__", fit)
    whole = run(data, tmp_path, run="whole", families=("trees",), trials=2)
    assert len(list((Path(whole.package) / "models").iterdir())) == 2
    least = run(data, tmp_path, run="least", families=("trees",), trials=2, max_size="1KB")
    (told,) = [finding for finding in least.findings if finding["code"] == "limits"]
    assert "the one model that there is" in told["text"]
    asked = f"{math.ceil(told['evidence']['max_size']['least'] / 1000)}KB"
    small = run(data, tmp_path, run="small", families=("trees",), trials=2, max_size=asked)
    assert len(list((Path(small.package) / "models").iterdir())) == 1
    assert not [finding for finding in small.findings if finding["code"] == "limits"]


def test_a_student_for_which_there_was_no_time_is_none(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(self: FitTask, unit: FitUnit) -> dict[str, Any]:
        result = dict(usual(self, unit))
        return {**result, "loss": result["loss"] + 0.1, "cut": True} if unit.teacher else result

    usual = FitTask.__call__
    monkeypatch.setattr(FitTask, "__call__", fit)
    result = run(data, tmp_path, distill=True)
    assert result.ensemble["kind"] != "distilled"
    (told,) = (finding["text"] for finding in result.findings if finding["code"] == "not_distilled")
    assert re.search(r"time for \d+ rounds alone", told)


def test_calibration_and_coverage_are_learned_from_answers_that_have_not_seen_the_row(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    usual = workflow.out_of_fold
    monkeypatch.setattr(workflow, "out_of_fold", lambda *args: given.append(args) or usual(*args))
    result = run(data, tmp_path, seed=2)
    assert result.ensemble["kind"] != "single"
    ((*others, crossed),) = given
    seen = usual(*others).prediction
    assert crossed.shape == seen.shape
    assert not np.array_equal(crossed, seen)
    assert np.corrcoef(crossed[:, 1], seen[:, 1])[0, 1] > 0.95  # of the same rows, in the same order


def test_an_outlier_in_one_fold_alone_counts_little(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=1300)
    y = x + 0.1 * rng.normal(size=1300)
    y[700] = 1e5
    path = tmp_path / "orders.parquet"
    pq.write_table(pa.table({"x": x, "z": rng.normal(size=1300), "y": y}), path)
    result = run(path, tmp_path, target="y", drop=(), folds=2, trials=4)
    assert [finding["code"] for finding in result.findings].count("few_rows_decide") == 1
    assert result.ensemble["kind"]


def test_a_finished_run_that_goes_on_keeps_its_package_until_it_has_another(data: Path, tmp_path: Path) -> None:
    def seen(event: Event) -> None:
        if isinstance(event, Scored):
            there.append(shardwise.load(first.package).package.hash)

    there: list[str] = []
    first = run(data, tmp_path, run="longer", trials=4)
    longer = run(data, tmp_path, Events([seen]), run="longer", trials=6)
    assert there == [first.package_hash] * 6
    assert shardwise.load(longer.package).package.hash == longer.package_hash


@pytest.fixture
def models_of_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members keep their models of the folds: they are not trained anew on all rows."""
    for module in (refitting, searching):
        monkeypatch.setattr(module, "can_refit", lambda *_: False)


@pytest.mark.usefixtures("models_of_folds")
@pytest.mark.parametrize("task", ["bought", "visits"])
def test_a_small_package_is_asked_for_and_made(data: Path, tmp_path: Path, task: str) -> None:
    changes = {"target": task, "drop": tuple({*DROP} - {task}), "task": "count" if task == "visits" else None}
    whole = run(data, tmp_path, run="whole", max_size="50MB", **changes)
    models = folder_bytes(Path(whole.package) / "models")
    rest = folder_bytes(Path(whole.package)) - models
    asked = rest + models // 2
    small = run(data, tmp_path, run="whole", max_size=str(asked), **changes)  # the same trials, and another choice
    assert folder_bytes(Path(small.package)) <= asked
    assert trials_of(tmp_path, "whole") == whole.trials
    assert small.ensemble["models"] < whole.ensemble["models"]
    assert not [finding for finding in small.findings if finding["code"] == "limits"]


def test_limits_that_nothing_keeps_are_told(data: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path, max_size="1KB")
    finding = next(finding for finding in result.findings if finding["code"] == "limits")
    assert "--max-size 1 KB (asked for)" in finding["text"]
    missed = finding["evidence"]["max_size"]
    assert missed["default"] is False
    assert missed["beside_models"] < missed["least"] <= missed["takes"]
    assert "smallest possible" in finding["text"]
    assert f"Give --max-size {math.ceil(missed['least'] / 1000)}KB" in finding["hint"]
    assert "fewer columns" in finding["hint"]  # as the recipe and the profile alone take more
    assert result.ensemble["models"] == 1
    enough = run(data, tmp_path, max_size=f"{math.ceil(missed['least'] / 1000)}KB")
    assert not [finding for finding in enough.findings if finding["code"] == "limits"]
    shardwise.load(result.package)


@pytest.mark.usefixtures("models_of_folds")
def test_a_throughput_is_kept_by_arithmetic(data: Path, tmp_path: Path) -> None:
    counts = [run(data, tmp_path, min_throughput=rows).ensemble["models"] for rows in (0, 400_000, 1_200_000)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


@pytest.mark.parametrize(("target", "drawn"), [("bought", {}), ("spent", {"extra_trees": True})])
def test_members_are_trained_anew_on_all_rows(data: Path, tmp_path: Path, target: str, drawn: dict[str, Any]) -> None:
    asked: dict[str, Any] = {
        "target": target, "drop": tuple({*DROP} - {target}), "params": {"trees": {**QUICK["trees"], **drawn}},
        "bag_seeds": 3 if drawn else 1, "families": ("trees", "linear"),
    }  # fmt: skip
    result = run(data, tmp_path, run="one", report=True, **asked)
    assert '<td class="n">all</td>' in Path(result.report).read_text()
    taken = next(way for way in result.ensemble["judged"] if way["kind"] == result.ensemble["kind"])
    manifest = shardwise.load(result.package).package.manifest
    families = [member.family for member in manifest.members]
    assert result.ensemble["refitted_trials"]
    assert set(result.ensemble["refitted_trials"]) <= set(taken["trials"])
    asked_for = {trial["number"]: candidate_of(trial) for trial in trials_in(tmp_path, "one")}
    again = [asked_for[number] for number in result.ensemble["refitted_trials"]]
    seeds = [asked["bag_seeds"] if refitting.draws(each) else 1 for each in again if each.family == "trees"]
    assert families.count("trees") == sum(seeds)
    texts = {model.read_bytes() for model in Path(result.package).glob("models/*/model.txt.zst")}
    assert len(texts) == families.count("trees") >= asked["bag_seeds"]  # each seed grows others
    assert run(data, tmp_path, run="two", workers=2, **asked).package_hash == result.package_hash


def test_seeds_that_are_asked_for_and_not_there_are_told(data: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"params": {"trees": {**QUICK["trees"], "extra_trees": True}}, "bag_seeds": 2}
    result = run(data, tmp_path, run="some", families=("trees",), memory="2GB", **asked)
    (finding,) = [finding for finding in result.findings if finding["code"] == "bag_seeds"]
    assert finding["evidence"]["trained"] == 0
    assert "--memory" in finding["hint"]
    whole = run(data, tmp_path, run="whole", families=("trees",), **asked)
    assert not [finding for finding in whole.findings if finding["code"] == "bag_seeds"]
    once = run(data, tmp_path, run="whole", families=("trees",), **{**asked, "bag_seeds": 1})
    assert whole.ensemble["models"] == 2 * once.ensemble["models"]  # of the same trials
    assert trials_of(tmp_path, "whole") == whole.trials


def test_latencies_are_measured_once_in_a_run(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path, run="quick", max_latency="10s")
    journal = tmp_path / "runs" / "quick" / "journal.db"
    with SqliteJournal(journal, read_only=True) as opened:
        before = [record for record in opened.read() if record["kind"] == "latency"]
    assert {record["model"] for record in before} >= {"base"}
    assert min(record["seconds"] for record in before) > 0
    run(data, tmp_path, run="quick", max_latency="10s", trials=6)
    with SqliteJournal(journal, read_only=True) as opened:
        after = [record for record in opened.read() if record["kind"] == "latency"]
    assert after[: len(before)] == before
    assert len({record["model"] for record in after}) == len(after)
    nothing = run(data, tmp_path, run="impossible", max_latency="0.001ms")
    assert next(finding for finding in nothing.findings if finding["code"] == "limits")


@pytest.mark.parametrize("target", ["bought", "city"])
def test_a_student_answers_in_the_place_of_its_teachers(data: Path, tmp_path: Path, target: str) -> None:
    drop = tuple({*DROP} - {target})
    asked: dict[str, Any] = {"target": target, "drop": drop, "distill": True}
    result = run(data, tmp_path, run="student", **asked)
    student = result.ensemble["student"]
    assert (result.ensemble["kind"], result.ensemble["models"]) == ("distilled", 1)
    assert student["loses"] < 0.3
    assert next(finding for finding in result.findings if finding["code"] == "distilled")
    predictor = shardwise.load(result.package)
    assert len(predictor.package.members) == 1
    table = people(300, seed=3)
    scores = predictor.predict(table)
    np.testing.assert_array_equal(predictor.predict(table.slice(5, 1)), scores[5:6])


def test_a_student_of_noise_is_not_told_to_know_anything(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = {f"x{place}": rng.normal(size=600) for place in range(5)}
    pq.write_table(pa.table({**columns, "y": rng.integers(0, 2, 600)}), tmp_path / "noise.parquet")
    asked = {"data": str(tmp_path / "noise.parquet"), "target": "y", "families": ("trees",), "trials": 3, "folds": 3}
    result = shardwise.train(**asked, distill=True, runs_folder=tmp_path / "runs")
    assert result.ensemble["kind"] == "distilled"
    assert abs(result.valid_score - 0.5) < 0.1  # .70 by answers of models that had these labels


def test_a_student_keeps_the_limits_that_its_teachers_exceed(data: Path, tmp_path: Path) -> None:
    nothing = run(data, tmp_path, run="free", distill=True, max_size="1KB")
    missed = next(finding for finding in nothing.findings if finding["code"] == "limits")["evidence"]["max_size"]
    free = run(data, tmp_path, run="free", distill=True)
    asked = int(missed["beside_models"] + 0.6 * folder_bytes(Path(free.package) / "models"))
    small = run(data, tmp_path, run="free", distill=True, max_size=str(asked))
    assert small.ensemble["kind"] == "distilled"
    assert folder_bytes(Path(small.package)) <= asked
    assert small.ensemble["student"]["rounds"] < free.ensemble["student"]["rounds"]
    assert not [finding for finding in small.findings if finding["code"] == "limits"]


def test_the_limits_that_a_student_misses_are_told(data: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path, distill=True, max_size="1KB", max_latency="0.001ms")
    assert result.ensemble["kind"] == "distilled"
    (finding,) = (finding for finding in result.findings if finding["code"] == "limits")
    assert "has the student" in finding["text"]
    for option, name in (("--max-size 1 KB", "max_size"), ("--max-latency 1e-06s", "max_latency")):
        assert f"{option} (asked for)" in finding["text"]
        missed = finding["evidence"][name]
        assert missed["takes"] > missed["beside_models"] > missed["allowed"]


def test_a_throughput_that_nobody_asked_for_leaves_a_student_its_rounds(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = run(data, tmp_path, run="narrow", distill=True).ensemble["student"]["rounds"]
    assert free > LEAST_ROUNDS
    monkeypatch.setattr(choosing, "encode_s", lambda _: 1.0)  # as of many columns: it takes all the time by itself
    wide = run(data, tmp_path, run="wide", distill=True).ensemble["student"]["rounds"]
    assert wide == free
    asked = run(data, tmp_path, run="wide", distill=True, min_throughput=100_000)
    assert asked.ensemble["student"]["rounds"] == LEAST_ROUNDS
    (finding,) = (finding for finding in asked.findings if finding["code"] == "limits")
    assert "--min-throughput 100,000 (asked for)" in finding["text"]


def test_a_default_limit_is_not_told_as_if_it_had_been_asked_for(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "MAX_SIZE", "2KB")
    result = run(data, tmp_path, trials=2, max_size="2KB")
    finding = next(finding for finding in result.findings if finding["code"] == "limits")
    assert "the default" in finding["text"]
    assert "asked for" not in finding["text"]


def test_why_there_is_no_student_is_told(data: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path, distill=True, families=("linear",), params={}, trials=2)
    finding = next(finding for finding in result.findings if finding["code"] == "not_distilled")
    assert "no trees" in finding["text"]
    held = run(data, tmp_path, run="held", distill=True, folds=None, valid_share=0.2)
    finding = next(finding for finding in held.findings if finding["code"] == "not_distilled")
    assert "as numbers" in finding["text"] or "one model already" in finding["text"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [({"max_size": "much"}, "not a size"), ({"max_latency": "0s"}, "not a duration"),
     ({"min_throughput": -1}, "min_throughput is -1")],
)  # fmt: skip
def test_limits_that_cannot_be_meant_are_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RunConfig.from_mapping({"data": "x", "target": "y", **asked})


def test_the_command_line_says_what_answers(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", str(data), "--target", "bought", "--drop", ",".join(DROP), "--trials", "3", "--folds", "3"]
    limits = ["--max-size", "20MB", "--max-latency", "1s", "--min-throughput", "1000", "--distill"]
    assert cli([*words, *limits, "--param", "trees.n_estimators=20"]) == 0
    assert "answers  " in capsys.readouterr().out
