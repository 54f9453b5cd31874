"""Fits by members that have parts of a network against a fit by one process, and a member that is lost."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")

from shardwise.compute.gang.base import Gang
from shardwise.compute.gang.desk import StarGang
from shardwise.compute.gang.local import ProcessLauncher
from shardwise.core.errors import ConfigError, MemberLost, OverBudget
from shardwise.core.parallel import Split
from shardwise.core.target import Task
from shardwise.models.base import FitRun
from shardwise.models.design import Design
from shardwise.models.neural.model import Neural
from shardwise.models.neural.parts.training import PartedTraining
from shardwise.models.scaling import TargetScale
from shardwise.plan.gangs import Choice
from shardwise.plan.splits import parameters
from shardwise.testing.models import FEATURES, Pair, on_disk, tiny_table, tiny_target
from shardwise.train.parallel import Job, Room, SharedFits

PARAMS: dict[str, Any] = {
    "epochs": 3, "width": 16, "members": 2, "batch_rows": 96, "knots": 4, "embedding": 4, "dropout": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def launcher() -> Iterator[ProcessLauncher]:
    launcher = ProcessLauncher(2, threads=1)
    yield launcher
    launcher.close()


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return on_disk(tmp_path_factory.mktemp("rows"), tiny_table(Task.MULTICLASS))


def job_of(rows: Pair, split: Split, out: Path, checkpoint: Path | None = None) -> Job:
    return Job(
        family="neural", params=PARAMS, target=tiny_target(Task.MULTICLASS), features=FEATURES, train=rows[0],
        valid=rows[1], seed=3, threads=1, memory_bytes=2**62, slices=1, checkpoint=checkpoint, device="auto",
        out=out / "model", split=split,
    )  # fmt: skip


def shared_fits(gang: Gang, split: Split, memory_bytes: int = 2**62) -> SharedFits:
    choice = Choice(size=2, families=frozenset({"neural"}), text="", split=split)
    return SharedFits(lambda: gang, choice, Room(threads=2, memory_bytes=memory_bytes, shared=False))


def fit(launcher: ProcessLauncher, rows: Pair, split: Split, out: Path, **run: Any) -> Neural:
    job = job_of(rows, split, out, run.pop("checkpoint", None))
    model, _ = shared_fits(StarGang(launcher), split).fit(job, FitRun(seed=3, **run))
    assert isinstance(model, Neural)
    return model


def alone(rows: Pair, **run: Any) -> Neural:
    model = Neural(tiny_target(Task.MULTICLASS), FEATURES, **PARAMS)
    model.fit(*rows, FitRun(seed=3, **run))
    return model


def answer(model: Neural) -> np.ndarray:
    return model.predict(tiny_table(Task.MULTICLASS, 200, seed=9).X)


@pytest.mark.parametrize("kind", ["tensor", "pipeline", "embedding"])
def test_parts_learn_what_the_whole_learns(launcher: ProcessLauncher, rows: Pair, tmp_path: Path, kind: str) -> None:
    losses: list[float] = []

    def report(_step: int, loss: float) -> bool:
        losses.append(loss)
        return True

    model = fit(launcher, rows, Split(kind=kind, parts=2), tmp_path, report=report)
    expected = alone(rows)
    np.testing.assert_allclose(answer(model), answer(expected), atol=2e-3)
    assert losses[-1] < losses[0]


def test_a_lost_member_is_named_and_others_go_on_from_the_checkpoint(
    launcher: ProcessLauncher, rows: Pair, tmp_path: Path
) -> None:
    notes, steps, kept = list[str](), list[int](), tmp_path / "kept"
    split = Split(kind="tensor", parts=2)
    calm = fit(launcher, rows, split, tmp_path)

    def report(step: int, _loss: float) -> bool:
        steps.append(step)
        if step == 2:
            os.kill(launcher.pids()[1], signal.SIGKILL)
        if step == 3:
            for copy in ("one", "stages"):
                shutil.copytree(kept, tmp_path / copy)
        return True

    model = fit(launcher, rows, split, tmp_path, report=report, note=notes.append, checkpoint=kept)
    np.testing.assert_array_equal(answer(model), answer(calm))
    assert steps == [1, 2, 3]
    assert len(notes) == 1
    assert "is lost" in notes[0]
    assert "last checkpoint with 2" in notes[0]
    assert not kept.exists()
    one = alone(rows, checkpoint=tmp_path / "one")
    stages = fit(launcher, rows, Split(kind="pipeline", parts=2), tmp_path, checkpoint=tmp_path / "stages")
    for other in (one, stages):
        np.testing.assert_allclose(answer(other), answer(model), atol=2e-3)


def test_parts_are_trained_on_processors_alone() -> None:
    neural = Neural(tiny_target(Task.BINARY), FEATURES)
    training = PartedTraining(neural.params, neural.shape, Design(FEATURES, 8), TargetScale(), neural.target)
    assert training._chosen_device("auto").type == "cpu"
    with pytest.raises(ConfigError, match="cuda"):
        training._chosen_device("cuda")


class Dwindling:
    """A gang that has had room for two, of whom one is lost."""

    def __init__(self) -> None:
        self.workers = 2

    def room(self) -> int:
        return self.workers

    def run(self, _worker: Any, _size: int, **_told: Any) -> list[Any]:
        self.workers = 1
        raise MemberLost("member 1 of 2 is lost")

    def close(self) -> None: ...


def test_what_does_not_fit_the_workers_or_the_one_that_is_left_is_refused_with_numbers(
    rows: Pair, tmp_path: Path
) -> None:
    split, notes = Split(kind="tensor", parts=2), list[str]()
    count = parameters(Neural(tiny_target(Task.MULTICLASS), FEATURES, **PARAMS).shape)
    for share, said in ((10, "in parts on 2 workers"), (60, "whole on the one worker that can be had")):
        fits = shared_fits(Dwindling(), split, share * count)
        with pytest.raises(
            OverBudget, match=rf"{count:,} parameters does not fit {said}.* takes .* in each, which has"
        ):
            fits.fit(job_of(rows, split, tmp_path), FitRun(seed=3, note=notes.append))
