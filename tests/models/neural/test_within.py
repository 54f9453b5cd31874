"""Checkpoints within a round: when they are written, and that a fit which goes on from one learns the same."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from shardwise.core.target import Task  # noqa: E402
from shardwise.models.base import FitRun  # noqa: E402
from shardwise.models.neural import order, within  # noqa: E402
from shardwise.models.neural.checkpoint import WITHIN, read_progress  # noqa: E402
from shardwise.models.neural.model import Neural  # noqa: E402
from shardwise.models.neural.steps import Steps  # noqa: E402
from shardwise.models.neural.within import EVERY_S, MOST_BATCHES, Saving  # noqa: E402
from shardwise.testing.models import FEATURES, Pair, on_disk, tiny_table, tiny_target  # noqa: E402

PARAMS: dict[str, Any] = {"epochs": 3, "width": 16, "members": 2, "batch_rows": 32, "knots": 4, "dropout": 0.3}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return on_disk(tmp_path_factory.mktemp("rows"), tiny_table(Task.BINARY))


@pytest.fixture
def after_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(within, "EVERY_S", 0.0)
    monkeypatch.setattr(within, "SHARE", 1e9)
    monkeypatch.setattr(order, "READ_ROWS", 64)  # so that a round has several chunks


def fit(rows: Pair, **run: Any) -> Neural:
    model = Neural(tiny_target(Task.BINARY), FEATURES, **PARAMS)
    model.fit(*rows, FitRun(**{"seed": 1, **run}))
    return model


def answer(model: Neural) -> np.ndarray:
    return model.predict(tiny_table(Task.BINARY, 50, seed=9).X)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def written(saving: Saving, clock: Clock, batch_s: float, batches: int, cost_s: float = 0.0) -> list[float]:
    """When checkpoints are written in so many batches that take so long."""
    found = []
    for _ in range(batches):
        clock.now_s += batch_s
        if saving.due():
            found.append(clock.now_s)
            with saving.wrote():
                clock.now_s += cost_s
    return found


@pytest.mark.parametrize("batch_s", [0.01, 1.0, 45.0])
def test_one_is_written_after_a_while_whatever_a_batch_takes(tmp_path: Path, batch_s: float) -> None:
    clock = Clock()
    times = written(Saving(FitRun(seed=1, checkpoint=tmp_path), clock), clock, batch_s, int(600 / batch_s))
    gaps = np.diff([0.0, *times])
    assert len(times) >= 9
    assert gaps.min() >= EVERY_S
    assert gaps.max() <= max(60.0, 2 * batch_s)


def test_what_is_dear_to_write_is_written_seldom(tmp_path: Path) -> None:
    clock = Clock()
    times = written(Saving(FitRun(seed=1, checkpoint=tmp_path), clock), clock, 1.0, 3600, cost_s=10.0)
    assert 10.0 * len(times) <= 0.05 * clock.now_s + 10.0
    assert len(times) >= 10


def test_without_a_checkpoint_none_is_due() -> None:
    clock = Clock()
    assert written(Saving(FitRun(seed=1), clock), clock, 100.0, 10) == []


class Followed:
    """The second of two members; what the first one said."""

    rank, size = 1, 2

    def __init__(self, said: Sequence[tuple[bool, int]]) -> None:
        self.said = iter([within._WORD.pack(*word) for word in said])

    def broadcast(self, content: bytes | None) -> bytes:
        assert content is None
        return next(self.said)


def test_others_do_as_the_first_member_says_whatever_their_clock(tmp_path: Path) -> None:
    member: Any = Followed([(False, 3), (True, 2), (False, MOST_BATCHES)])
    saving = Saving(FitRun(seed=1, checkpoint=tmp_path, member=member), Clock())
    assert [saving.due() for _ in range(8)] == [False, False, False, True, False, False, False, False]


class Killed(BaseException):
    """In the place of a signal."""


def killed_after(batches: int, rows: Pair, folder: Path, **run: Any) -> None:
    """A fit that ends so in the middle of it."""
    left = batches

    def go_on() -> bool:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return True

    with pytest.raises(Killed):
        fit(rows, checkpoint=folder, go_on=go_on, **run)


@pytest.mark.parametrize("slices", [1, 8])
@pytest.mark.parametrize("after", [3, 13, 20])
@pytest.mark.usefixtures("after_each_batch")
def test_a_fit_goes_on_within_a_round_to_the_same_bits(
    tmp_path: Path, rows: Pair, after: int, slices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(rows, slices=slices)
    killed_after(after, rows, tmp_path / "kept", slices=slices)
    asked, step = list[int](), Steps.step

    def counted(self: Steps, *args: Any, **kwargs: Any) -> bool:
        asked.append(1)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(Steps, "step", counted)
    again = fit(rows, slices=slices, checkpoint=tmp_path / "kept")
    np.testing.assert_array_equal(answer(again), answer(whole))
    assert after + len(asked) == PARAMS["epochs"] * -(-rows[0].n_rows // PARAMS["batch_rows"])
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(("after", "steps"), [(6, 6), (14, 4)], ids=["before", "after"])
@pytest.mark.usefixtures("after_each_batch")
def test_a_round_that_fails_is_taken_again_from_its_beginning_as_without_a_kill(
    tmp_path: Path, rows: Pair, monkeypatch: pytest.MonkeyPatch, after: int, steps: int
) -> None:
    """The loss is not finite in the tenth batch, until the learning rate is lowered."""
    plain = Steps._take

    def take(self: Steps, rate: float, number: int, judged: torch.Tensor) -> None:
        plain(self, rate, number, judged * float("nan") if number == 9 and rate > 0.002 else judged)

    monkeypatch.setattr(Steps, "_take", take)
    told: dict[str, list[str]] = {"whole": [], "again": []}
    whole = fit(rows, notice=lambda anomaly: told["whole"].append(str(anomaly)))
    killed_after(after, rows, tmp_path / "kept")
    kept = read_progress(tmp_path / "kept", WITHIN)
    assert kept is not None
    assert (kept.rounds, kept.steps, kept.lowered) == (0, steps, int(after > 10))
    again = fit(rows, checkpoint=tmp_path / "kept", notice=lambda anomaly: told["again"].append(str(anomaly)))
    np.testing.assert_array_equal(answer(again), answer(whole))
    assert told["again"] == told["whole"]
    assert len(told["whole"]) == 1
