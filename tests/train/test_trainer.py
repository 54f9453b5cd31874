"""A trial that climbs its rungs and is killed before each change of its folders: it ends as if nothing had happened."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from shardwise.core.candidate import Candidate
from shardwise.core.target import Task
from shardwise.models.base import FitRun
from shardwise.models.families import load_model
from shardwise.models.linear import Linear
from shardwise.split.base import Fold
from shardwise.store.files import hash_folder
from shardwise.testing.models import FEATURES, TRAIN, VALID, on_disk, tiny_table, tiny_target
from shardwise.train import trainer
from shardwise.train.ladder import Rung
from shardwise.train.passes import BINS, FLOATS
from shardwise.train.result import FoldResult
from shardwise.train.trainer import FitTask, FitUnit

RESTS = (7, 19, None)  # not where a fit begins its random numbers anew in any case
PARAMS = {"n_estimators": 30, "num_leaves": 4, "subsample": 0.6, "feature_fraction": 0.6, "patience": 0.0}
CHANGES = ("mkdir", "rename", "replace", "rmdir", "unlink")


class Killed(BaseException):
    """Nothing of the process happens any more."""


@dataclass
class Changes:
    """Changes of folders, of which none happens from number `last` on."""

    last: int
    names: list[str] = field(default_factory=list)

    @contextmanager
    def watched(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name in CHANGES:
                patch.setattr(os, name, self._watch(name, getattr(os, name)))
            yield

    def _watch(self, name: str, change: Any) -> Any:
        def watched(*args: Any, **named: Any) -> Any:
            self.names.append(name)
            if len(self.names) > self.last:
                raise Killed
            return change(*args, **named)

        return watched


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    for reads in (BINS, FLOATS):
        on_disk(folder / reads, tiny_table(Task.BINARY, 300), reads=reads)
    return folder


def task_in(models: Path) -> FitTask:
    return FitTask(
        models=models, features=FEATURES, target=tiny_target(Task.BINARY), metric="log_loss", seed=1, threads=1,
        memory_bytes=2**32,
    )  # fmt: skip


def unit_of(rows: Path, candidate: Candidate, **changes: Any) -> FitUnit:
    usual: dict[str, Any] = {"trial": 3, "number": 0, "key": "unit", "fold": Fold(train=(TRAIN,), valid=(VALID,))}
    return FitUnit(rows=rows, candidate=candidate, **{**usual, **changes})


def climbed(rows: Path, models: Path, changes: Changes) -> dict[str, str]:
    """Hashes of the models and predictions of all rungs; what is killed is done again."""
    task = task_in(models)
    found = {}
    for rung, rounds in enumerate(RESTS):
        unit = unit_of(
            rows, Candidate(family="trees", params=PARAMS), key=f"rung{rung}", lineage="trial", rounds=rounds,
            since=RESTS[rung - 1] or 0,
        )  # fmt: skip
        try:
            with changes.watched():
                task(unit)
        except Killed:
            task(unit)
        (models / unit.key / "result.json").unlink()  # it holds seconds
        found[unit.key] = hash_folder(models / unit.key)
    return found


def test_a_trial_that_is_killed_at_any_instant_ends_with_the_same_bytes(rows: Path, tmp_path: Path) -> None:
    whole = Changes(last=10**9)
    expected = climbed(rows, tmp_path / "whole", whole)
    assert {"rename", "rmdir", "unlink"} <= set(whole.names)
    for last in range(len(whole.names)):
        models = tmp_path / f"killed{last}"
        assert climbed(rows, models, Changes(last=last)) == expected, f"before {whole.names[last]}, the {last}th"


@pytest.mark.parametrize("most_s", [float("inf"), 0.0])
def test_a_fit_ends_when_its_own_time_is_up(rows: Path, tmp_path: Path, most_s: float) -> None:
    task = task_in(tmp_path)
    unit = unit_of(rows, Candidate(family="trees", params=PARAMS), most_s=most_s)
    result = task(unit)
    assert result["cut"] is (most_s == 0.0)
    assert (result["rounds"] == 1) is (most_s == 0.0)


def test_the_time_of_a_network_begins_when_pytorch_is_there(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Seen(Exception):
        pass

    def watch(deadline: float, **_: Any) -> None:
        raise Seen(deadline - now)

    now = 1000.0
    task = task_in(tmp_path)
    unit = unit_of(rows, Candidate(family="neural"), trial=0, most_s=5.0)

    def imported() -> None:
        nonlocal now
        now += 3.0

    monkeypatch.setattr(trainer, "prepare_torch", imported)
    monkeypatch.setattr(trainer.time, "monotonic", lambda: now)
    monkeypatch.setattr(trainer, "Watch", watch)
    with pytest.raises(Seen) as seen:
        task(unit)
    assert seen.value.args == (5.0,)
    assert now == 1003.0


def test_what_was_learned_in_a_hurry_counts_as_cut(rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(self: Linear, train: Any, valid: Any, run: FitRun) -> None:
        assert 0.0 < run.left_s() < 1000.0
        run.hurried()
        usual(self, train, valid, run)

    usual = Linear.fit
    task = task_in(tmp_path)
    unit = unit_of(rows, Candidate(family="linear"), most_s=1000.0)
    assert not task(unit)["cut"]
    monkeypatch.setattr(Linear, "fit", fit)
    assert task(replace(unit, key="again"))["cut"]


def test_rounds_are_those_that_the_model_keeps_whatever_it_is_stopped_by(rows: Path, tmp_path: Path) -> None:
    found = []
    for metric in (None, "roc_auc"):
        params = {**PARAMS, "n_estimators": 200, "stop_metric": metric}
        result = task_in(tmp_path / str(metric))(unit_of(rows, Candidate(family="trees", params=params)))
        model = load_model(tmp_path / str(metric) / result["folder"] / "model")
        assert result["rounds"] == model.rounds
        found.append(result["rounds"])
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("fit", "again"),
    [(("neural", 20.0), False), (("neural", 31.0), True), (("neural", float("inf")), True), (("trees", 20.0), True)],
)
def test_a_network_that_had_about_as_much_time_is_not_trained_again(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fit: tuple[str, float], again: bool
) -> None:
    """One that plans by its time counts as cut, and a run that goes on would train it anew, for less."""
    unit = unit_of(rows, Candidate(family=fit[0]), most_s=fit[1])
    before = FoldResult(trial=unit.trial, fold=unit.number, loss=0.4, seconds=20.0, cut=True, folder=unit.key)
    after = replace(before, loss=0.3)
    monkeypatch.setattr(FitTask, "_earlier", lambda *_: before)
    monkeypatch.setattr(FitTask, "_fit", lambda *_: after)
    assert task_in(tmp_path)(unit)["loss"] == (0.3 if again else 0.4)


def test_a_fit_on_some_of_the_rows_is_done_again_on_more_while_there_is_time(rows: Path, tmp_path: Path) -> None:
    task = replace(task_in(tmp_path), stop=tmp_path / "stop")
    some = unit_of(rows, Candidate(family="trees", params=PARAMS), trial=1, rung=Rung(number=0, share=0.5))
    sampled = task(some)
    more = replace(some, rung=Rung(number=0, share=1.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(FitTask, "_fit")
        assert task(replace(more, deadline=0.0)) == sampled
        (tmp_path / "stop").touch()
        assert task(more) == sampled
    (tmp_path / "stop").unlink()
    whole = task(more)
    assert (sampled["share"], whole["share"]) == (0.5, 1.0)
    assert whole["loss"] != sampled["loss"]
    assert task(some) == task(more) == whole  # with less memory it stands
    direct = task_in(tmp_path / "direct")(more)
    assert direct["loss"] == whole["loss"]
    linear = unit_of(rows, Candidate(family="linear", params={"epochs": 2}), key="linear")
    assert task(replace(linear, rung=some.rung)) == task(linear)  # which has left no rows out
