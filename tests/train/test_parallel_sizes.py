"""How many members fit a model, and what each of them may have."""

from pathlib import Path

import pytest

from shardwise.core.candidate import Candidate
from shardwise.core.target import Task
from shardwise.models import trees_gang
from shardwise.models.base import FitRun
from shardwise.plan.gangs import Choice
from shardwise.split.base import Fold
from shardwise.testing.models import FEATURES, on_disk, tiny_table, tiny_target
from shardwise.train.parallel import Room, SharedFits
from shardwise.train.trainer import FitTask, FitUnit

ROOM = Room(threads=2, memory_bytes=2**62, shared=True)


@pytest.fixture(autouse=True)
def small_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees_gang, "LEAST_ROWS", 1024)


def test_what_cannot_be_shared_is_fitted_by_one_member() -> None:
    shared = SharedFits(lambda: None, Choice(size=4, families=frozenset({"trees", "forest", "linear"}), text=""), ROOM)  # type: ignore[arg-type,return-value]
    number, quantile = tiny_target(Task.REGRESSION), tiny_target(Task.QUANTILE)
    assert shared.size_for("trees", {}, number, 100_000) == 4
    assert shared.size_for("trees", {}, number, 3000) == 2
    assert shared.size_for("trees", {}, quantile, 100_000) == 1
    assert shared.size_for("trees", {"objective": "l1"}, number, 100_000) == 1
    assert shared.size_for("trees", {"extra_trees": True}, number, 100_000) == 1
    assert shared.size_for("forest", {"extra_trees": True}, number, 100_000) == 4
    assert shared.size_for("linear", {}, quantile, 100) == 4
    assert shared.size_for("baseline", {}, number, 100) == 1


@pytest.mark.parametrize(
    ("shared", "threads", "memory_bytes"), [(True, 2, 100), (False, 6, 300)], ids=["a machine", "a cluster"]
)
def test_members_share_a_machine_and_have_their_own_of_a_cluster(
    tmp_path: Path, shared: bool, threads: int, memory_bytes: int
) -> None:
    room = Room(threads=6, memory_bytes=300, shared=shared)
    fits = SharedFits(lambda: None, Choice(size=3, families=frozenset({"trees"}), text=""), room)  # type: ignore[arg-type,return-value]
    task = FitTask(
        models=tmp_path, features=FEATURES, target=tiny_target(Task.BINARY), metric="log_loss", seed=1, threads=64,
        memory_bytes=2**40, shared=fits,
    )  # fmt: skip
    unit = FitUnit(
        trial=1, candidate=Candidate(family="trees", params={}), number=0, key="unit", rows=tmp_path,
        fold=Fold(train=(0,), valid=(1,)),
    )  # fmt: skip
    found = task._job(
        unit, {}, on_disk(tmp_path, tiny_table(Task.BINARY, 9000), reads="bins"), FitRun(seed=1, model_bytes=30)
    )
    assert (found.threads, found.memory_bytes, found.model_bytes) == (threads, memory_bytes, 10)
