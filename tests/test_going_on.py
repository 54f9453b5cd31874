"""Runs that have ended and are asked again: by the same command after Ctrl-C, or with more memory."""

import json
import signal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.test_tuning import config, records, run

from shardwise.choosing import Ensemble
from shardwise.core.candidate import Candidate
from shardwise.core.errors import OverBudget, WorkerLost
from shardwise.core.events import Event, Events, RunOpened, Said, Scored
from shardwise.history import read_history
from shardwise.testing.tables import people
from shardwise.train.fitting import Fitting, Sizes
from shardwise.train.ladder import Ladder, Rung
from shardwise.train.result import FoldResult, TrialResult
from shardwise.train.trainer import FitTask, FitUnit
from shardwise.workflow import train

pytestmark = pytest.mark.usefixtures("few_families")
LITTLE, MUCH = "4GB", "6GB"
MIDDLE_BYTES = 5 * 10**9
ALL: dict[str, Any] = {"families": (), "sampler": "rl", "pruner": "none", "trials": 4}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "people.parquet"
    pq.write_table(people(400), path)
    return path


def stop_at(trial: int) -> Any:
    def stop(event: Event) -> None:
        if isinstance(event, Scored) and event.trial == trial:
            signal.raise_signal(signal.SIGINT)

    return stop


def codes(result: Any) -> set[str]:
    return {finding["code"] for finding in result.findings}


def test_a_run_that_the_user_stopped_goes_on_by_the_same_command(data: Path) -> None:
    heard: list[Event] = []
    for trial in (1, 5):
        stopped = train(config(data, run="stopped"), Events([stop_at(trial), heard.append]))
        assert stopped.cut
        assert stopped.trials < 9
    assert any(isinstance(event, Said) and "the same command goes on" in event.text for event in heard)
    whole = run(data, run="stopped")
    assert (whole.trials, whole.cut) == (9, False)
    assert whole.package_hash == run(data, run="direct").package_hash
    assert run(data, run="stopped") == whole


def test_a_run_that_the_user_stopped_has_its_deadline_when_it_goes_on(data: Path) -> None:
    def opened(event: Event) -> None:
        if isinstance(event, RunOpened):
            finished.append(event.finished)

    finished: list[bool] = []
    train(config(data, run="timed", time="10m"), Events([opened, stop_at(2)]))
    train(config(data, run="timed", time="10m"), Events([opened]))
    train(config(data, run="timed", time="10m"), Events([opened]))
    assert finished == [False, False, True]


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """With little memory half of the rows are learned; (family, share) of each fit."""

    def make(self: Fitting, sizes: Sizes) -> Ladder:
        share = 0.5 if self._run.memory_bytes < MIDDLE_BYTES else 1.0
        return Ladder(rungs=(Rung(number=0, share=share), Rung(number=1, share=share / 2)))

    def fit(self: FitTask, unit: FitUnit, earlier: FoldResult | None) -> FoldResult:
        found.append((unit.candidate.family, unit.rung.share))
        return fitted(self, unit, earlier)

    found: list[tuple[str, float]] = []
    fitted = FitTask._fit
    monkeypatch.setattr(Fitting, "_make_ladder", make)
    monkeypatch.setattr(FitTask, "_fit", fit)
    return found


@pytest.mark.parametrize("how", [ALL, {}], ids=["all", "asha"])
def test_with_more_memory_what_was_sampled_is_learned_anew(
    data: Path, fits: list[tuple[str, float]], how: dict[str, Any]
) -> None:
    sampled = run(data, run="one", memory=LITTLE, **how)
    assert "sampled" in codes(sampled)
    assert run(data, run="one", memory=LITTLE, **how) == sampled
    assert run(data, run="one", memory="2GB", **how) == sampled
    fits.clear()
    whole = run(data, run="one", memory=MUCH, **how)
    assert {family for family, _ in fits} == {"trees"}  # others have left no rows out
    assert "sampled" not in codes(whole)
    direct = run(data, run="two", memory=MUCH, **how)
    assert whole.package_hash == direct.package_hash
    fits.clear()
    assert run(data, run="one", memory=MUCH, **how) == whole
    assert not fits
    tried = [
        [(trial["params"], trial["score"], trial["rung"], trial["best_so_far"]) for trial in found.trials]
        for found in (read_history(data.parent / "runs", name) for name in ("one", "two"))
    ]
    assert tried[0] == tried[1]


def test_models_of_more_rows_are_others_although_they_lie_in_the_same_place() -> None:
    keys = set()
    for share in (1.0, 0.5):
        fold = FoldResult(trial=1, fold=0, loss=0.5, seconds=1.0, folder="unit", share=share)
        trial = TrialResult(number=1, candidate=Candidate(family="trees"), folds=(fold,), complete=True)
        keys.add(Ensemble(((trial, fold, 1.0),), 0.5).team.key)
    assert len(keys) == 2


def test_what_no_time_is_left_for_stays_and_is_told(data: Path, fits: list[tuple[str, float]]) -> None:
    how = {**ALL, "time": "20s", "run": "one"}
    sampled = run(data, memory=LITTLE, **how)
    fits.clear()
    (data.parent / "runs" / "one" / "clock.json").write_text(json.dumps({"used_s": 25.0}))
    late = run(data, memory=MUCH, **how)
    assert not fits
    assert late.package_hash == sampled.package_hash
    (told,) = [finding for finding in late.findings if finding["code"] == "sampled"]
    assert "50.0% of the rows, as there was less memory" in told["text"]
    assert told["hint"] == "Give more --time."
    longer = run(data, memory=MUCH, **{**how, "time": "+25s"})
    assert "sampled" not in codes(longer)
    assert longer.package_hash == run(data, memory=MUCH, **{**how, "run": "two"}).package_hash


def test_with_more_memory_what_was_given_up_is_tried_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(self: FitTask, unit: FitUnit, earlier: FoldResult | None) -> FoldResult:
        if unit.trial == 1 and self.memory_bytes < MIDDLE_BYTES:
            raise OverBudget("1 GB are allowed")
        return fitted(self, unit, earlier)

    fitted = FitTask._fit
    monkeypatch.setattr(FitTask, "_fit", fit)
    some = run(data, run="one", memory=LITTLE, **ALL)
    assert some.trials == 3
    assert run(data, run="one", memory=LITTLE, **ALL) == some
    whole = run(data, run="one", memory=MUCH, **ALL)
    assert (whole.trials, codes(whole) & {"sampled", "failed_trials"}) == (4, set())
    assert whole.package_hash == run(data, run="two", memory=MUCH, **ALL).package_hash


def test_what_fails_with_more_memory_leaves_what_there_was(
    data: Path, fits: list[tuple[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(self: FitTask, unit: FitUnit, earlier: FoldResult | None) -> FoldResult:
        if self.memory_bytes > MIDDLE_BYTES and unit.candidate.family == "trees":
            raise WorkerLost("the worker died")
        return fitted(self, unit, earlier)

    sampled = run(data, run="one", memory=LITTLE, **ALL)
    assert {share for _, share in fits} == {0.5}
    fitted = FitTask._fit
    monkeypatch.setattr(FitTask, "_fit", fit)
    again = run(data, run="one", memory=MUCH, **ALL)
    assert again.package_hash == sampled.package_hash
    assert codes(again) & {"sampled", "failed_trials"} == {"sampled"}
    assert [record["short_bytes"] for record in records(data, "one", "finished")] == [4 * 10**9, 6 * 10**9]
