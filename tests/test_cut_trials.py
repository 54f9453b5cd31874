"""Trials that were cut, left out or failed, and the search that goes on."""

import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.test_tuning import records, run

import shardwise
from shardwise import tuning
from shardwise.compute.clock import Deadline
from shardwise.core.candidate import Candidate
from shardwise.core.errors import ConfigError, ShardwiseError
from shardwise.history import history_of
from shardwise.models import catboost
from shardwise.models.base import FitRun
from shardwise.models.families import NETWORKS
from shardwise.models.linear import Linear
from shardwise.testing.tables import people
from shardwise.train.trainer import FitTask, FitUnit, failed_fit
from shardwise.tune.step import Step
from shardwise.tuning import Tuning

pytestmark = pytest.mark.usefixtures("few_families")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "people.parquet"
    pq.write_table(people(400), path)
    return path


def test_what_is_not_searched_may_be_cut_and_the_search_goes_on(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(self: Linear, train_rows: Any, valid: Any, run: FitRun) -> None:
        run.hurried()
        usual(self, train_rows, valid, run)

    usual, asked = Linear.fit, {"families": (), "sampler": "rl", "pruner": "none", "trials": 16}
    whole = run(data, run="whole", **asked)
    monkeypatch.setattr(Linear, "fit", fit)
    cut = run(data, run="cut", **asked)
    tried = [[record["params"] for record in records(data, name, "trial")] for name in ("whole", "cut")]
    assert tried[0] == tried[1]
    assert (len(tried[1]) > 14, whole.cut, cut.cut) == (True, False, True)


def test_what_there_is_no_time_for_is_left_out_until_a_longer_run(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")

    def with_network(*args: Any, **asked: Any) -> list[Candidate]:
        first, second, *rest = [each for each in usual(*args, **asked) if each.family not in NETWORKS]
        return [first, second, Candidate(family="neural", params={"members": 1, "epochs": 9, "width": 8}), *rest]

    def most_s(self: Tuning, step: Step, left_s: float) -> float:
        given = shares(self, step, left_s)
        assert (given < math.inf) is (step.candidate.family == "neural" and left_s < math.inf)
        return 1e-6 if step.candidate.family == "neural" else given

    def families() -> dict[int, str]:
        return {record["number"]: record["family"] for record in records(data, "short", "trial")}

    usual, shares, asked = tuning.portfolio, Tuning.most_s, {"families": (), "sampler": "rl", "pruner": "none"}
    monkeypatch.setattr(tuning, "portfolio", with_network)
    monkeypatch.setattr(Tuning, "most_s", most_s)
    assert run(data, run="short", trials=15, **asked).cut
    assert set(range(15)) - families().keys() == {2}  # and what is proposed from results comes after it
    monkeypatch.setattr(Tuning, "most_s", shares)
    assert not run(data, run="short", trials=16, **asked).cut
    assert (len(families()), families()[2]) == (16, "neural")


def test_a_model_that_was_cut_is_one_although_others_failed(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(self: FitTask, unit: FitUnit) -> dict[str, Any]:
        result = dict(usual(self, unit))
        if unit.trial == 1:
            return failed_fit(unit, ConfigError("no split")).to_json()
        return {**result, "cut": unit.trial > 1}

    usual = FitTask.__call__
    monkeypatch.setattr(FitTask, "__call__", fit)
    result = run(data, sampler="rl", pruner="none", trials=3)
    assert next(finding for finding in result.findings if finding["code"] == "failed_trials")
    assert shardwise.load(result.package).package.members[0].family == "trees"


def test_a_trial_without_all_its_folds_is_never_the_best_so_far() -> None:
    def trial(number: int, loss: float, folds: int) -> dict[str, Any]:
        each = {"rounds": 3, "seconds": 1.0}
        return {"kind": "trial", "number": number, "family": "trees", "params": {}, "rung": None, "loss": loss,
                "cost_s": 1.0, "failed": "", "folds": [each] * folds}  # fmt: skip

    history = history_of(
        "r", [{"kind": "task", "metric": "rmse"}, trial(0, 1.0, 5), trial(1, 0.5, 5), trial(2, 0.4, 1)]
    )
    assert [(each["best_so_far"], each["whole"]) for each in history.trials] == [
        (True, True),
        (True, True),
        (False, False),
    ]


def test_what_is_not_installed_is_told_before_a_run_is_opened(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catboost, "has_catboost", lambda: False)
    with pytest.raises(ConfigError, match="catboost"):
        run(data, families=("catboost",), run="none")
    assert not (data.parent / "runs" / "none").exists()
    with pytest.raises(ShardwiseError) as caught:
        run(data, sampler="meta", archive="shiped", pruner="none", run="meta")
    assert "Allowed: auto, shipped, none, or a file." in caught.value.hint


@pytest.mark.parametrize("time", ["1s", "30m"])
def test_a_time_that_is_too_short_for_a_model_is_told_with_what_one_takes(
    data: Path, monkeypatch: pytest.MonkeyPatch, time: str
) -> None:
    monkeypatch.setattr(Deadline, "remaining_s", lambda _self: -1.0)
    result = run(data, time=time, trials=None)
    assert result.cut
    (told,) = [finding for finding in result.findings if finding["code"] == "short_time"]
    assert told["text"].startswith(f"{'1s' if time == '1s' else '30m00s'} were too short for a model")
    assert told["evidence"]["models"] == 1
    assert told["evidence"]["least_s"] > 0
    assert ("one takes about" if time == "1s" else "longer than was expected") in told["hint"]
    shardwise.load(result.package)


def test_a_time_that_suffices_for_a_model_is_not_too_short(data: Path) -> None:
    result = run(data, time="10m", trials=2)
    assert not [finding for finding in result.findings if finding["code"] == "short_time"]
