"""Forests that one worker grows as two of LightGBM's machines; `tests/train/test_parallel.py` compares with several."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shardwise.core.errors import Pruned, TaskFailed
from shardwise.core.target import Task
from shardwise.models import trees_pair
from shardwise.models.base import FitRun
from shardwise.models.forest import Forest
from shardwise.models.losses import task_loss
from shardwise.models.trees_gang import Together
from shardwise.testing.models import FEATURES, Pair, on_disk, tiny_table, tiny_target

TARGET = tiny_target(Task.BINARY)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return on_disk(tmp_path_factory.mktemp("rows"), tiny_table(Task.BINARY), reads="bins")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def fitted(rows: Pair, **run: Any) -> Forest:
    model = Forest(TARGET, FEATURES, n_estimators=6, num_leaves=16)
    model.fit(*rows, FitRun(seed=1, slices=8, **run))  # type: ignore[arg-type]
    return model


def test_threads_have_no_say(rows: Pair, capfd: pytest.CaptureFixture[str]) -> None:
    X = tiny_table(Task.BINARY, 50).X
    np.testing.assert_array_equal(fitted(rows, threads=2).predict(X), fitted(rows).predict(X))
    assert capfd.readouterr() == ("", "")  # LightGBM tells of its machines


def test_each_step_is_reported_once_with_the_loss_of_all_validation_rows(rows: Pair) -> None:
    told: list[tuple[int, float]] = []
    model = fitted(rows, report=lambda step, loss: told.append((step, loss)) or True)
    chunk = rows[1].in_memory(2**30)
    table = tiny_table(Task.BINARY)
    valid = table.X[table.folds == 1]
    assert [step for step, _ in told] == [1, 2, 3, 4, 5, 6]
    assert told[-1][1] == pytest.approx(task_loss(TARGET, chunk.y, model.predict(valid)), rel=1e-6)


@pytest.mark.parametrize("n_rows", [1, 2, 110])
def test_few_rows(tmp_path: Path, n_rows: int) -> None:
    table = tiny_table(Task.BINARY, n_rows)
    few = type(table)(table.X, table.y, None, np.zeros(n_rows, np.int8))
    model = fitted(on_disk(tmp_path, few, reads="bins"))
    assert np.isfinite(model.predict(table.X)).all()


def test_a_pruned_fit_keeps_what_it_has(rows: Pair) -> None:
    def report(step: int, _loss: float) -> bool:
        if step == 3:
            raise Pruned
        return True

    model = Forest(TARGET, FEATURES, n_estimators=6, num_leaves=16)
    with pytest.raises(Pruned):
        model.fit(*rows, FitRun(seed=1, slices=8, report=report))  # type: ignore[arg-type]
    assert model.rounds == 3


def test_time_that_is_up_ends_both(rows: Pair) -> None:
    assert fitted(rows, report=lambda step, _loss: step < 2).rounds == 2


class Interrupted(BaseException):
    """In the place of a signal."""


def test_an_interrupt_in_a_report_ends_both(rows: Pair) -> None:
    def report(_step: int, _loss: float) -> bool:
        raise Interrupted

    with pytest.raises(Interrupted):
        fitted(rows, report=report)


def test_an_interrupt_within_a_round_is_raised_after_it(rows: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes while LightGBM asks for an exchange, through which no exception passes."""
    meet, times = trees_pair._Meeting.meet, list[int]()

    def interrupted(self: Any, rank: int, *brought: Any) -> list[Any]:
        times.append(rank)
        if len(times) == 40:
            raise Interrupted
        return meet(self, rank, *brought)

    monkeypatch.setattr(trees_pair._Meeting, "meet", interrupted)
    with pytest.raises(Interrupted):
        fitted(rows)


def test_an_error_of_the_other_half_is_raised(rows: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    update = Together.counted

    def broken(self: Together, inner: Any, run: Any, n_rows: int) -> Any:
        def fails(_booster: Any) -> bool:
            raise TaskFailed("no more")

        return fails if self._member.rank == 1 else update(self, inner, run, n_rows)

    monkeypatch.setattr(Together, "counted", broken)
    with pytest.raises(TaskFailed, match="no more"):
        fitted(rows)
