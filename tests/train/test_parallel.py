"""Fits by members of a gang against fits by one, and what becomes of them when a member is lost."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shardwise.compute.gang import desk
from shardwise.compute.gang.base import Gang, Member
from shardwise.compute.gang.desk import StarGang
from shardwise.compute.gang.local import ProcessLauncher
from shardwise.core.errors import Pruned
from shardwise.core.events import WorkerView
from shardwise.core.target import Task
from shardwise.data.rows import BinnedRows, DiskRows
from shardwise.models import sgd, trees, trees_gang, trees_resume
from shardwise.models.base import FitRun, Model
from shardwise.models.families import FAMILIES, build
from shardwise.models.losses import task_loss
from shardwise.models.neural.model import has_torch
from shardwise.models.trees_soft import Update
from shardwise.plan.gangs import SLICES, Choice
from shardwise.stats import anomalies
from shardwise.testing.models import FEATURES, Pair, on_disk, tiny_table, tiny_target
from shardwise.train import parallel
from shardwise.train.parallel import Job, Room, SharedFits

PARAMS: dict[str, dict[str, Any]] = {
    "linear": {"epochs": 3, "batch_rows": 500},
    "svm": {"epochs": 3, "batch_rows": 500, "kernel": "rbf", "n_components": 32},
    "neural": {"epochs": 3, "width": 16, "members": 2, "batch_rows": 512, "knots": 4},
    "trees": {"n_estimators": 24, "num_leaves": 7, "learning_rate": 0.2},
    "forest": {"n_estimators": 24, "num_leaves": 15},
    "adaboost": {"n_estimators": 8, "subsample": 0.7},
}
ROOM = Room(threads=2, memory_bytes=2**62, shared=True)
MEMORY = {"svm": 400_000}  # of a member: too little to keep the columns of all rows
ROWS = {"bins": 45_000, "floats": 9000}


@pytest.fixture(autouse=True)
def small_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees_gang, "LEAST_ROWS", 1024)


@pytest.fixture(scope="module")
def launcher() -> Iterator[ProcessLauncher]:
    launcher = ProcessLauncher(3, threads=1)
    yield launcher
    launcher.close()


@pytest.fixture(scope="module")
def gang(launcher: ProcessLauncher) -> Gang:
    return StarGang(launcher)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


def rows_of(folder: Path, task: Task, reads: str) -> Pair:
    """Sorted by the target, so that members see unlike rows; two partitions and an empty one."""
    place = folder / f"{task}-{reads}"
    table = tiny_table(task, ROWS[reads])
    order = np.argsort(table.y, kind="stable")
    if not place.exists():
        return on_disk(place, type(table)(table.X[order], table.y[order], None, table.folds), reads=reads)
    kind = BinnedRows if reads == "bins" else DiskRows
    return kind(place, FEATURES, (0,)), kind(place, FEATURES, (1,))


@dataclass(frozen=True, kw_only=True)
class QuickJob(Job):
    """Writes a checkpoint after every few rounds."""

    def __call__(self, member: Member) -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch:  # the process lives on
            patch.setattr(sgd, "KEEP_S", 0.0)
            patch.setattr(sgd, "ROUND_ROWS", 4000)
            patch.setattr(trees_resume, "KEEP_S", 0.0)
            patch.setattr(trees_resume, "KEEP_SHARE", 1e9)
            patch.setattr(trees, "SEGMENT_ROUNDS", 5)
            return super().__call__(member)


class Lost(Exception):
    """The whole machine."""


def job(folder: Path, family: str, task: Task, **params: Any) -> Job:
    train, valid = rows_of(folder, task, FAMILIES[family].traits.reads)
    return Job(
        family=family, params={**PARAMS[family], **params}, target=tiny_target(task), features=FEATURES, train=train,
        valid=valid, seed=3, threads=1, memory_bytes=MEMORY.get(family, 2**62), slices=SLICES, checkpoint=None,
        device="cpu", out=folder / "out",
    )  # fmt: skip


def together(gang: Gang, size: int, job: Job, run: FitRun | None = None) -> tuple[Model, bool]:
    choice = Choice(size=size, families=frozenset(FAMILIES), text="")
    return SharedFits(lambda: gang, choice, ROOM).fit(job, run or FitRun(seed=3))


def alone(job: Job) -> Model:
    model = build(job.family, job.target, job.features, job.params)
    model.fit(job.train, job.valid, FitRun(seed=job.seed, slices=job.slices))
    return model


def answer(model: Model, task: Task) -> np.ndarray:
    return model.predict(tiny_table(task, 300, seed=9).X)


def needs(family: str) -> None:
    if family == "neural" and not has_torch():
        pytest.skip("the extra torch is not installed")


@pytest.mark.parametrize("task", [Task.MULTICLASS, Task.REGRESSION])
@pytest.mark.parametrize("family", ["linear", "svm", "neural"])
def test_any_number_of_members_learns_the_same_bits(gang: Gang, folder: Path, family: str, task: Task) -> None:
    needs(family)
    wanted = job(folder, family, task)
    expected = answer(alone(wanted), task)
    for size in (2, 3):
        np.testing.assert_array_equal(answer(together(gang, size, wanted)[0], task), expected)


@pytest.mark.parametrize(
    ("family", "task", "params"),
    [
        ("forest", Task.MULTICLASS, {"n_estimators": 3}),
        ("forest", Task.REGRESSION, {"n_estimators": 6, "extra_trees": True, "subsample": 1.0}),
        ("adaboost", Task.BINARY, {}),
    ],
)
def test_any_number_of_members_grows_the_same_trees_of_exact_gradients(
    gang: Gang, folder: Path, family: str, task: Task, params: dict[str, Any]
) -> None:
    wanted = job(folder, family, task, **params)
    expected = answer(alone(wanted), task)
    for size in (2, 3):
        np.testing.assert_array_equal(answer(together(gang, size, wanted)[0], task), expected)


def test_one_goes_on_with_the_forest_that_three_have_begun(
    gang: Gang, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "SEGMENT_ROUNDS", 5)
    plain = job(folder, "forest", Task.REGRESSION, n_estimators=12)
    begun = QuickJob(**{**vars(plain), "checkpoint": tmp_path / "kept"})

    def report(step: int, _loss: float) -> bool:
        if step == 7:
            raise Lost
        return True

    with pytest.raises(Lost):
        together(gang, 3, begun, FitRun(seed=3, report=report))
    assert (tmp_path / "kept").exists()
    model = build("forest", plain.target, plain.features, plain.params)
    model.fit(plain.train, plain.valid, FitRun(seed=3, slices=SLICES, checkpoint=tmp_path / "kept"))
    np.testing.assert_array_equal(answer(model, Task.REGRESSION), answer(alone(plain), Task.REGRESSION))


@pytest.mark.parametrize("params", [{}, {"subsample": 0.7, "feature_fraction": 0.6}], ids=["all", "sampled"])
@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS, Task.REGRESSION, Task.COUNT])
def test_members_grow_the_trees_of_one(gang: Gang, folder: Path, task: Task, params: dict[str, Any]) -> None:
    wanted = job(folder, "trees", task, **params)
    one = alone(wanted)
    chunk = rows_of(folder, task, "floats")[1].in_memory(2**40)
    for size in (2, 3):
        model, _ = together(gang, size, wanted)
        assert model.rounds == one.rounds  # type: ignore[attr-defined]
        losses = [task_loss(wanted.target, chunk.y, each.predict(chunk.X), None) for each in (one, model)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize("family", ["linear", "svm", "neural", "trees", "forest"])
def test_a_fit_that_loses_members_ends_as_if_nothing_had_happened(
    gang: Gang, launcher: ProcessLauncher, folder: Path, family: str, tmp_path: Path
) -> None:
    needs(family)
    plain = job(folder, family, Task.BINARY)
    quick = QuickJob(**{**vars(plain), "checkpoint": tmp_path / "kept"})
    calm, steps = answer(together(gang, 2, QuickJob(**vars(plain)))[0], Task.BINARY), list[int]()
    kills = {2: 0, 3: 1} if FAMILIES[family].traits.reads != "bins" else {7: 0, 16: 1}

    def report(step: int, _loss: float) -> bool:
        steps.append(step)
        if step in kills:
            os.kill(launcher.pids()[kills[step]], signal.SIGKILL)
        return True

    notes: list[str] = []
    model, _ = together(gang, 2, quick, FitRun(seed=3, report=report, note=notes.append))
    np.testing.assert_array_equal(answer(model, Task.BINARY), calm)
    assert steps == sorted(set(steps))  # each step is told once
    assert len([note for note in notes if "is lost" in note and "with 2" in note]) == 2
    assert not (tmp_path / "kept").exists()


@dataclass(frozen=True, kw_only=True)
class WithinJob(Job):
    """Writes a checkpoint after each batch of a network, and asks before each whether there is time."""

    def __call__(self, member: Member) -> dict[str, Any]:
        from shardwise.models.neural import within

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(within, "EVERY_S", 0.0)
            patch.setattr(within, "SHARE", 1e9)
            patch.setattr(parallel, "GO_ON_S", 0.0)
            return super().__call__(member)


def test_members_lost_within_an_epoch_are_gone_on_without_from_there(
    gang: Gang, launcher: ProcessLauncher, folder: Path, tmp_path: Path
) -> None:
    needs("neural")
    plain = job(folder, "neural", Task.BINARY)
    asked, killed, steps, notes = list[int](), list[int](), list[int](), list[str]()

    def go_on() -> bool:
        asked.append(launcher.pids()[-1])
        if len(asked) in (7, 10):  # of 18 batches
            assert (tmp_path / "kept" / "within.safetensors").exists()
            os.kill(asked[-1], signal.SIGKILL)
            killed.append(asked[-1])
        return True

    run = FitRun(seed=3, go_on=go_on, report=lambda step, _: steps.append(step) or True, note=notes.append)
    model, _ = together(gang, 2, WithinJob(**{**vars(plain), "checkpoint": tmp_path / "kept"}), run)
    np.testing.assert_array_equal(answer(model, Task.BINARY), answer(alone(plain), Task.BINARY))
    assert len(set(killed)) == 2
    assert [note.rpartition(" with ")[2] for note in notes] == ["2.", "1."]
    assert steps == [1, 2, 3]
    assert not (tmp_path / "kept").exists()


def test_who_grows_trees_together_prints_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    launcher = ProcessLauncher(2, threads=1)  # which inherits what is captured here
    try:
        together(StarGang(launcher), 2, job(folder, "trees", Task.BINARY))
    finally:
        launcher.close()
    assert capfd.readouterr() == ("", "")


def test_who_grows_trees_together_tells_by_how_many_rows(gang: Gang, folder: Path) -> None:
    wanted, ended = job(folder, "trees", Task.BINARY, n_estimators=12), list[WorkerView]()
    choice = Choice(size=2, families=frozenset(FAMILIES), text="")
    model, _ = SharedFits(lambda: gang, choice, ROOM, ended=ended.extend).fit(wanted, FitRun(seed=3))
    assert len(ended) == 2
    assert sum(worker.rows for worker in ended) == 12 * wanted.train.n_rows
    assert model.rounds == 12  # type: ignore[attr-defined]


@dataclass(frozen=True, kw_only=True)
class LopsidedJob(Job):
    """The second member works longer on each round of trees than the first one."""

    def __call__(self, member: Member) -> dict[str, Any]:
        plain = trees.update_for

        def heavy(rows: BinnedRows, task: Task) -> Update:
            update = plain(rows, task)
            return lambda booster: sum(range(3_000_000)) < 0 or update(booster)  # some 50 ms of work

        with pytest.MonkeyPatch.context() as patch:
            if member.rank == 1:
                patch.setattr(trees, "update_for", heavy)
            return super().__call__(member)


def test_who_waits_for_another_while_trees_grow_is_seen(gang: Gang, folder: Path) -> None:
    wanted, ended = job(folder, "trees", Task.BINARY, n_estimators=30), list[WorkerView]()
    choice = Choice(size=2, families=frozenset(FAMILIES), text="")
    SharedFits(lambda: gang, choice, ROOM, ended=ended.extend).fit(LopsidedJob(**vars(wanted)), FitRun(seed=3))
    fast, slow = ended
    assert fast.wait_s - slow.wait_s > 0.3
    assert slow.work_s > fast.work_s
    assert anomalies.waited_for(ended, 0.1) == 1


def test_a_worker_that_stands_still_is_named_while_it_does(
    gang: Gang, launcher: ProcessLauncher, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "VIEW_S", 0.7)
    monkeypatch.setattr(anomalies, "STRAGGLES", 2)
    wanted = job(folder, "linear", Task.BINARY)
    calm = answer(together(gang, 2, wanted)[0], Task.BINARY)
    stopped, told, noticed = list[int](), list[anomalies.Anomaly](), list[anomalies.Anomaly]()

    def report(step: int, _loss: float) -> bool:
        if step == 2:
            stopped.append(launcher.pids()[1])
            os.kill(stopped[0], signal.SIGSTOP)
        return True

    def tell(anomaly: anomalies.Anomaly) -> None:
        told.append(anomaly)
        if f":{stopped[0]})" in anomaly.text:  # a machine that is busy may slow the other one too
            os.kill(stopped[0], signal.SIGCONT)

    choice = Choice(size=2, families=frozenset(FAMILIES), text="")
    shared = SharedFits(lambda: gang, choice, ROOM, tell=tell)
    model, _ = shared.fit(wanted, FitRun(seed=3, report=report, notice=noticed.append))
    assert {anomaly.kind for anomaly in told} == {anomalies.STRAGGLER}
    assert f":{stopped[0]})" in told[-1].text
    assert noticed == told
    np.testing.assert_array_equal(answer(model, Task.BINARY), calm)


def test_what_members_notice_is_told(gang: Gang, folder: Path) -> None:
    noticed, noticed_alone = list[anomalies.Anomaly](), list[anomalies.Anomaly]()
    wild = job(folder, "linear", Task.COUNT, learning_rate=10.0, batch_rows=64)
    together(gang, 2, wild, FitRun(seed=3, notice=noticed.append))
    model = build(wild.family, wild.target, wild.features, wild.params)
    model.fit(wild.train, wild.valid, FitRun(seed=3, slices=SLICES, notice=noticed_alone.append))
    assert noticed_alone
    assert [each for each in noticed if each.kind != anomalies.STRAGGLER] == noticed_alone


@dataclass(frozen=True, kw_only=True)
class CrampedJob(Job):
    """The second member has no memory for more than 40 rows at once."""

    def __call__(self, member: Member) -> dict[str, Any]:
        import torch

        from shardwise.models.neural.training import Training

        learn = Training._sum

        def cramped(self: Training, batch: Any) -> torch.Tensor:
            if len(batch) > 40:
                raise torch.OutOfMemoryError("out of memory")
            return learn(self, batch)

        with pytest.MonkeyPatch.context() as patch:
            if member.rank == 1:
                patch.setattr(Training, "_sum", cramped)
            return super().__call__(member)


def test_a_member_short_of_memory_says_so_and_learns_the_same(gang: Gang, folder: Path) -> None:
    needs("neural")
    plain = job(folder, "neural", Task.BINARY, dropout=0.0, epochs=1)
    notes: list[str] = []
    model, _ = together(gang, 2, CrampedJob(**vars(plain)), FitRun(seed=3, note=notes.append))
    assert [note for note in notes if "ran out of memory with 64 rows at once" in note] == notes
    assert len(notes) == 1
    np.testing.assert_allclose(answer(model, Task.BINARY), answer(alone(plain), Task.BINARY), atol=5e-3)


@pytest.mark.parametrize("family", ["linear", "trees"])
def test_a_pruned_trial_keeps_what_it_has(gang: Gang, folder: Path, family: str) -> None:
    def report(step: int, _loss: float) -> bool:
        if step == 2:
            raise Pruned
        return True

    model, pruned = together(gang, 2, job(folder, family, Task.BINARY), FitRun(seed=3, report=report))
    assert pruned
    assert np.isfinite(answer(model, Task.BINARY)).all()


def test_time_that_is_up_ends_all_members(gang: Gang, folder: Path) -> None:
    needs("neural")
    wanted = job(folder, "neural", Task.BINARY, epochs=1_000)
    model, pruned = together(gang, 2, wanted, FitRun(seed=3, go_on=iter([True] * 3 + [False] * 1000).__next__))
    assert not pruned
    assert np.isfinite(answer(model, Task.BINARY)).all()


@pytest.mark.parametrize("family", ["linear", "trees"])
def test_time_that_is_up_ends_all_members_where_nothing_is_scored(gang: Gang, folder: Path, family: str) -> None:
    many = {"linear": {"epochs": 3000}, "trees": {"n_estimators": 20_000}}[family]
    wanted = job(folder, family, Task.BINARY, **many)
    place, kind = (folder / "binary-bins", BinnedRows) if family == "trees" else (folder / "binary-floats", DiskRows)
    whole = replace(wanted, valid=kind(place, FEATURES, ()))
    model, pruned = together(gang, 2, whole, FitRun(seed=3, go_on=iter([True, False]).__next__))
    assert not pruned
    assert np.isfinite(answer(model, Task.BINARY)).all()
    if family == "trees":
        assert 0 < model.rounds < 20_000  # type: ignore[attr-defined]
