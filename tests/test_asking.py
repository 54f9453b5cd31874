"""What a search asks for when its time is short: the best trial's way to its end, and what was journalled before.

Time passes by boosting rounds alone here: each takes a second, and nothing else any.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.test_tuning import QUICK, records, run

from shardwise import asking, workflow
from shardwise.climbing import Climbing
from shardwise.compute.clock import Deadline
from shardwise.history import read_history
from shardwise.searching import Search
from shardwise.testing.tables import people
from shardwise.train.result import TrialResult, rank
from shardwise.train.run import Run
from shardwise.train.trainer import FitTask, FitUnit
from shardwise.tune.step import Result, Step
from shardwise.tune.study import Study
from shardwise.workflow import TrainResult

SLOW = {"trees": {"n_estimators": 400, "early_stopping_rounds": 20, "patience": 0.0, "learning_rate": 0.05}}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "people.parquet"
    pq.write_table(people(400), path)
    return path


@dataclass
class Rounds:
    """Seconds of a run, of which each round takes one."""

    limit_s: float = 0.0
    used_s: float = 0.0


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Rounds:
    def fit(self: FitTask, unit: FitUnit) -> dict[str, Any]:
        result = dict(usual(self, unit))
        clock.used_s += max(1, result["steps"])
        return {**result, "seconds": float(max(1, result["steps"]))}

    def remaining_s(self: Deadline) -> float:
        return clock.limit_s - clock.used_s if self.limit_s is not None else left_s(self)

    clock, usual, left_s = Rounds(), FitTask.__call__, Deadline.remaining_s
    monkeypatch.setattr(FitTask, "__call__", fit)
    monkeypatch.setattr(Deadline, "remaining_s", remaining_s)
    monkeypatch.setattr(asking, "reserve_s", lambda *_args, **_named: 0.0)
    return clock


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[Search]:
    """What each run has found when it ends."""

    def conclude(run: Run, search: Search) -> TrainResult:
        found.append(search)
        return usual(run, search)

    found, usual = list[Search](), workflow.conclude
    monkeypatch.setattr(workflow, "conclude", conclude)
    return found


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, float]]:
    """What the study is told, in order: (trial, rung, loss)."""

    def tell(self: Study, step: Step, result: Result) -> None:
        found.append((step.number, step.rung, result.loss))
        usual(self, step, result)

    found, usual = list[tuple[int, int, float]](), Study.tell
    monkeypatch.setattr(Study, "tell", tell)
    return found


def searched(data: Path, **changes: Any) -> TrainResult:
    """A run of under half a minute, so that it stays in this process."""
    asked = {"params": SLOW, "sampler": "random", "metric": "log_loss", **changes}
    return run(data, **({**asked, "trials": None} if "time" in asked else asked))


def best(search: Search) -> TrialResult:
    return next(trial for trial in rank(search.trials) if trial.complete)


def losses(search: Search) -> dict[int, float]:
    return {trial.number: trial.loss for trial in search.trials}


@pytest.mark.parametrize(("limit_s", "rungs"), [(400, "rounds"), (600, "rounds"), (700, "partitions")])
def test_the_best_trial_is_trained_to_its_end_before_the_time_is_up(
    data: Path, rounds: Rounds, searches: list[Search], limit_s: float, rungs: str
) -> None:
    rounds.limit_s = limit_s
    assert searched(data, run="one", time="20s", rungs=rungs).cut
    assert best(searches[0]).candidate.family == "trees"
    assert not any(fold.rests or fold.cut for fold in best(searches[0]).folds)
    history = read_history(data.parent / "runs", "one")
    assert [trial["trial"] for trial in history.trials if trial["best_so_far"]][-1] == best(searches[0]).number


def test_the_clock_cuts_the_sequence_and_changes_nothing_in_it(
    data: Path, rounds: Rounds, searches: list[Search], told: list[tuple[int, int, float]]
) -> None:
    sequences = []
    for name, times in (("short", ((500, "20s"), (900, "21s"))), ("direct", ((1300, "20s"),))):
        rounds.used_s = 0.0
        for limit_s, time in times:
            rounds.limit_s = limit_s
            searched(data, run=name, time=time)
            sequences.append(list(told))
            told.clear()
    short, longer, direct = sequences
    assert 5 < len(short) < len(longer) < len(direct)
    assert short == direct[: len(short)]
    assert longer == direct[: len(longer)]
    assert best(searches[1]).loss <= best(searches[0]).loss
    journalled = [json.dumps(record, sort_keys=True) for record in records(data, "short", "trial")]
    assert len(set(journalled)) == len(journalled)  # what was gone through again is not told again


def test_as_many_trials_give_the_same_bytes_whatever_was_done_aside_before(data: Path, rounds: Rounds) -> None:
    rounds.limit_s = 600
    searched(data, run="timed", time="20s")
    timed = [(record["number"], record["rung"]) for record in records(data, "timed", "trial")]
    for trials in (7, 4):
        again = searched(data, run="timed", trials=trials)
        direct = searched(data, run=f"direct{trials}", trials=trials)
        assert (again.package_hash, again.cut) == (direct.package_hash, False)
        asked = {(record["number"], record["rung"]) for record in records(data, f"direct{trials}", "trial")}
    assert set(timed) - asked  # there was something to leave out


@pytest.fixture(params=["climbs", "stays"])
def before_it_goes_on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def patch() -> None:
        if request.param == "stays":
            monkeypatch.setattr(Climbing, "best", lambda _self, _left_s: None)

    return patch


def test_a_search_that_goes_on_keeps_what_was_found_further_up(
    data: Path, rounds: Rounds, searches: list[Search], told: list[tuple[int, int, float]],
    before_it_goes_on: Callable[[], None],
) -> None:  # fmt: skip
    """Whether or not it is the best of the longer search, which is trained to its end in any case."""
    first = searched(data, run="one", trials=6)
    top = {trial: rung for trial, rung, _ in told}
    told.clear()
    rounds.limit_s, rounds.used_s = 40, 0.0  # for little more than what is journalled
    before_it_goes_on()
    second = searched(data, run="one", time="20s")
    winner = best(searches[0]).number
    assert max(rung for trial, rung, _ in told if trial == winner) < top[winner]  # the sequence has not come to it
    assert losses(searches[1])[winner] == losses(searches[0])[winner]
    assert second.valid_score <= first.valid_score
    assert second.trials >= first.trials


def test_without_time_the_journal_is_not_gone_through_and_nothing_is_lost(
    data: Path, rounds: Rounds, searches: list[Search], told: list[tuple[int, int, float]]
) -> None:
    space = {"trees": {"objective": {"values": [None, "l1"], "default": None}}}  # l1 is not for two classes
    how: dict[str, Any] = {"run": "one", "space": space, "pruner": "none", "params": QUICK}
    first = searched(data, trials=14, **how)
    told.clear()
    second = searched(data, time="20s", **how)
    assert len(told) == 2  # the baseline, and a first real model
    assert second.cut
    assert losses(searches[1]) == losses(searches[0])
    failed = [next(f for f in each.findings if f["code"] == "failed_trials") for each in (first, second)]
    assert failed[0]["evidence"] == failed[1]["evidence"]


def test_what_is_cut_on_a_higher_rung_counts_where_it_is_better(
    data: Path, monkeypatch: pytest.MonkeyPatch, searches: list[Search]
) -> None:
    """On partitions a promoted trial begins anew."""

    def fit(self: FitTask, unit: FitUnit) -> dict[str, Any]:
        result = dict(usual(self, unit))
        if unit.share < 0.2 or unit.trial == 0:
            return result
        return {**result, "cut": True, "loss": result["loss"] + worse}

    usual = FitTask.__call__
    monkeypatch.setattr(FitTask, "__call__", fit)
    for name, worse in (("worse", 1.0), ("better", -1.0)):
        searched(data, run=name, trials=6, rungs="partitions")
        told = {(record["number"], record["rung"]): record["loss"] for record in records(data, name, "trial")}
        expected = {number: told[number, int(worse < 0)] for number, rung in told if rung == 1}
        assert expected
        scores = {trial["trial"]: trial["score"] for trial in read_history(data.parent / "runs", name).trials}
        for number, loss in expected.items():
            assert losses(searches[-1])[number] == scores[number] == loss


def test_a_fold_that_has_ended_on_a_rung_is_not_trained_again_above(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(self: FitTask, unit: FitUnit) -> dict[str, Any]:
        result = dict(usual(self, unit))
        fitted.append((unit.trial, unit.number))
        if not result["rests"]:
            ended.setdefault((unit.trial, unit.number), (result["rounds"], len(fitted)))
        return result

    fitted, ended, usual = list[tuple[int, int]](), dict[tuple[int, int], tuple[int, int]](), FitTask.__call__
    monkeypatch.setattr(FitTask, "__call__", fit)
    searched(data, run="one", trials=10, folds=3)
    for fold, (_, when) in ended.items():
        assert fold not in fitted[when:]
    carried = 0
    for record in records(data, "one", "trial"):
        for number, fold in enumerate(record["folds"]):
            if record["rung"] and not fold["steps"]:
                assert fold["rounds"] == ended[record["number"], number][0]
                carried += 1
    assert carried
