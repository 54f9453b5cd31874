from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shardwise.compute.ceiling import cpu_quota
from shardwise.compute.local import InlineExecutor
from shardwise.core.candidate import Candidate
from shardwise.core.errors import OverBudget
from shardwise.core.target import Task
from shardwise.split.base import Fold
from shardwise.testing.models import tiny_target
from shardwise.train import fitting
from shardwise.train.fitting import Fitting, Sizes
from shardwise.train.parallel import Room
from shardwise.train.run import gpu_asked
from shardwise.train.trainer import FitTask, FitUnit
from shardwise.train.watch import Watch


class Elsewhere(InlineExecutor):
    """Two workers of a cluster, of three threads and a gibibyte each."""

    slots = 2

    def __init__(self) -> None:
        self.threads = 3

    def worker_bytes(self) -> int:
        return 2**30


def made(monkeypatch: pytest.MonkeyPatch, folder: Path, engine: str, parallel: str) -> Fitting:
    """On a machine of 64 CPUs."""
    monkeypatch.setattr(fitting, "cpu_quota", lambda: 64)
    sizes = Sizes(rows=2_000_000, valid_rows=1000, features=30, outputs=1)
    monkeypatch.setattr(fitting, "sizes_of", lambda _: sizes)
    executor = Elsewhere()
    config: Any = SimpleNamespace(
        engine=engine, workers=2, parallel=parallel, families=(), params={}, seed=1, device="cpu", memory_bytes=None,
        address=None, time_s=None,
    )  # fmt: skip
    run: Any = SimpleNamespace(
        config=config, executor=executor, inline=InlineExecutor(), memory_bytes=2**40, worker_bytes=lambda: 2**30,
        folder=folder, stop_file=Path("stop"), records=lambda _: [], say=lambda *_, **__: None,
        executor_for=lambda **_: executor, events=None,
    )  # fmt: skip
    prepared: Any = SimpleNamespace(recipe=SimpleNamespace(features=()), target=tiny_target(Task.BINARY), fold_rows={})
    return Fitting(run, prepared, "log_loss")


def test_threads_and_memory_of_a_fit_are_those_of_its_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    task = made(monkeypatch, tmp_path, "ray", "none")._task
    assert (task.threads, task.memory_bytes) == (3, 2**30)


@pytest.mark.parametrize(
    ("engine", "room"),
    [
        ("ray", Room(threads=3, memory_bytes=2**30, shared=False)),
        ("local", Room(threads=64, memory_bytes=2**40, shared=True)),
    ],
)
def test_members_of_a_gang_have_what_their_workers_have(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str, room: Room
) -> None:
    shared = made(monkeypatch, tmp_path, engine, "data").shared
    assert shared is not None
    assert shared.room == room


@pytest.mark.parametrize(
    ("device", "families", "asked"),
    [
        ("cuda", (), True),
        ("auto", (), False),
        ("auto", ("neural", "trees"), False),
        ("auto", ("neural", "rnn"), None),
        ("cpu", ("neural",), False),
    ],
)
def test_gpus_are_asked_for_where_networks_alone_may_use_them(
    device: str, families: tuple[str, ...], asked: bool | None
) -> None:
    config: Any = SimpleNamespace(device=device, families=families)
    assert gpu_asked(config) is asked


@pytest.mark.parametrize(("family", "rungs"), [("trees", [1, 2, 3, 4]), ("catboost", [1]), ("neural", [1])])
def test_what_reads_no_bins_does_not_lower_those_that_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, family: str, rungs: list[int]
) -> None:
    fits = made(monkeypatch, tmp_path, "ray", "none")
    fits._run.note = lambda *_args, **_named: None  # type: ignore[method-assign]
    unit: FitUnit | None = FitUnit(
        trial=1, candidate=Candidate(family=family, params={}), number=0, key="unit", rows=tmp_path,
        fold=Fold(train=(0,), valid=(1,)), rung=fits.ladder.rungs[0],
    )  # fmt: skip
    found = []
    while unit is not None:
        found.append(unit.rung.number)
        unit = fits._lower(unit, OverBudget("1 GB are allowed"))
    assert found == [0, *rungs]
    assert fits._rung == rungs[-1]


def test_a_fit_has_no_more_threads_than_its_machine(tmp_path: Path) -> None:
    """Who sends it may have more."""
    task = FitTask(
        models=tmp_path, features=(), target=tiny_target(Task.BINARY), metric="log_loss", seed=1, threads=10_000,
        memory_bytes=2**32,
    )  # fmt: skip
    unit = FitUnit(
        trial=1, candidate=Candidate(family="trees", params={}), number=0, key="unit", rows=tmp_path,
        fold=Fold(train=(0,), valid=(1,)),
    )  # fmt: skip
    assert task._run(unit, Watch(deadline=float("inf"), stop=None), []).threads == cpu_quota()
