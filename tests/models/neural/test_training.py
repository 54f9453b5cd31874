"""Training: the time, a kill, a loss that is not finite, the device; what has no answer in NumPy is compared with
itself."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from shardwise.core.errors import ConfigError, DataError  # noqa: E402
from shardwise.core.target import Task  # noqa: E402
from shardwise.models.base import FitRun  # noqa: E402
from shardwise.models.guard import LOWERED  # noqa: E402
from shardwise.models.losses import task_loss  # noqa: E402
from shardwise.models.neural import device, order, schedule, training  # noqa: E402
from shardwise.models.neural.model import Neural  # noqa: E402
from shardwise.stats.anomalies import Anomaly  # noqa: E402
from shardwise.testing.models import FEATURES, Pair, on_disk, tiny_table, tiny_target  # noqa: E402

QUICK: dict[str, Any] = {"epochs": 6, "width": 16, "members": 2, "batch_rows": 32, "knots": 4, "learning_rate": 0.003}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return on_disk(tmp_path_factory.mktemp("rows"), tiny_table(Task.BINARY))


def fit(rows: Pair, params: dict[str, Any] | None = None, task: Task = Task.BINARY, **run: Any) -> Neural:
    model = Neural(tiny_target(task), FEATURES, **{**QUICK, **(params or {})})
    model.fit(*rows, FitRun(**{"seed": 1, **run}))
    return model


def answer(model: Neural) -> np.ndarray:
    return model.predict(tiny_table(Task.BINARY, 50, seed=9).X)


def test_with_little_time_fewer_epochs_are_learned_to_their_end(rows: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    curves: dict[str, list[float]] = {"whole": [], "short": []}
    hurried: list[bool] = []

    def run(name: str, **given: Any) -> Neural:
        return fit(rows, report=lambda _, loss: curves[name].append(loss) or True, **given)

    whole = run("whole")
    assert (answer(whole) == answer(run("whole", left_s=lambda: 1e9, hurried=lambda: hurried.append(True)))).all()
    assert not hurried
    ticks = iter(range(10**6))
    monkeypatch.setattr(schedule.time, "monotonic", lambda: next(ticks))  # a second for each look
    run("short", left_s=lambda: 0.0, hurried=lambda: hurried.append(True))
    assert hurried
    assert len(curves["short"]) == 1
    assert len(curves["whole"]) == 2 * QUICK["epochs"]


class Killed(BaseException):
    """In the place of a signal."""


@pytest.mark.parametrize("round_rows", [2**20, 100])
@pytest.mark.parametrize("after", [1, 2, 4])
def test_a_killed_fit_goes_on_to_the_same_bytes(
    tmp_path: Path, rows: Pair, monkeypatch: pytest.MonkeyPatch, after: int, round_rows: int
) -> None:
    monkeypatch.setattr(order, "ROUND_ROWS", round_rows)
    monkeypatch.setattr(order, "READ_ROWS", 64)
    curves: dict[str, list[tuple[int, float]]] = {"whole": [], "again": []}

    def watch(name: str) -> Callable[[int, float], bool]:
        return lambda step, loss: curves[name].append((step, loss)) or True

    whole = fit(rows, report=watch("whole"), checkpoint=tmp_path / "a")
    steps = 13 * after + 5  # in the middle of a round

    def go_on() -> bool:
        nonlocal steps
        steps -= 1
        if steps < 0:
            raise Killed
        return True

    with pytest.raises(Killed):
        fit(rows, go_on=go_on, checkpoint=tmp_path / "b")
    assert (tmp_path / "b").exists()
    again = fit(rows, report=watch("again"), checkpoint=tmp_path / "b")
    assert curves["again"] == curves["whole"]
    np.testing.assert_array_equal(answer(again), answer(whole))
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def until(end: int | None) -> Callable[[int, float], bool]:
    return lambda step, _loss: end is None or step < end


def test_a_training_in_legs_is_that_in_one_go(tmp_path: Path, rows: Pair) -> None:
    for end in (2, 3, None):
        model = fit(rows, checkpoint=tmp_path / "a", rests_at=end, report=until(end))
        assert (tmp_path / "a").exists() == (end is not None)
    np.testing.assert_array_equal(answer(model), answer(fit(rows)))


def test_a_leg_with_other_params_goes_on_from_the_same_weights(tmp_path: Path, rows: Pair) -> None:
    fit(rows, checkpoint=tmp_path / "a", rests_at=3, report=until(3))
    curves: dict[float, list[float]] = {0.003: [], 0.03: []}
    for rate, curve in curves.items():
        shutil.copytree(tmp_path / "a", tmp_path / str(rate))
        params = {"learning_rate": rate, "dropout": 0.1 if rate == 0.003 else 0.4}
        fit(rows, params, checkpoint=tmp_path / str(rate), report=lambda _step, loss, c=curve: c.append(loss) or True)
    assert curves[0.003][:3] == curves[0.03][:3]
    assert curves[0.003][3] != curves[0.03][3]


def test_a_training_that_has_ended_early_does_not_go_on(tmp_path: Path, rows: Pair) -> None:
    params = {"patience": 1, "learning_rate": 0.5, "epochs": 30}
    steps: list[list[int]] = [[], []]
    for end, seen in ((29, steps[0]), (None, steps[1])):
        report = lambda step, _loss, seen=seen, end=end: seen.append(step) or until(end)(step, 0.0)  # noqa: E731
        model = fit(rows, params, checkpoint=tmp_path / "a", rests_at=end, report=report)
    assert steps[0] == steps[1]
    assert steps[0][-1] < 29
    np.testing.assert_array_equal(answer(model), answer(fit(rows, params)))


def test_a_damaged_checkpoint_begins_anew(tmp_path: Path, rows: Pair) -> None:
    (tmp_path / "round.safetensors").write_bytes(b"half a file")
    np.testing.assert_array_equal(answer(fit(rows, checkpoint=tmp_path)), answer(fit(rows)))


@pytest.mark.parametrize("steps", [0, 1, 5, 20, 40])
def test_time_that_is_up_within_an_epoch_keeps_the_best_so_far(rows: Pair, steps: int) -> None:
    asked, losses = 0, []

    def go_on() -> bool:
        nonlocal asked
        asked += 1
        return asked <= steps

    def report(_step: int, loss: float) -> bool:
        losses.append(loss)
        return True

    model = fit(rows, go_on=go_on, report=report)
    assert asked == steps + 1  # and not one step more
    table = tiny_table(Task.BINARY)
    loss = task_loss(tiny_target(Task.BINARY), table.y[table.folds == 1], model.predict(table.X[table.folds == 1]))
    assert min(losses) == pytest.approx(loss, rel=1e-4)


def poison(monkeypatch: pytest.MonkeyPatch, bad: Callable[[int], bool]) -> None:
    """The loss of the calls for which `bad` says so is NaN."""
    calls = 0
    true = training.Training._sum

    def _sum(self: training.Training, batch: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return true(self, batch) * (float("nan") if bad(calls) else 1.0)

    monkeypatch.setattr(training.Training, "_sum", _sum)


def test_a_loss_that_is_not_finite_once_lowers_the_learning_rate(rows: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    noticed: list[Anomaly] = []
    poison(monkeypatch, lambda call: call == 17)
    model = fit(rows, notice=noticed.append)
    assert np.isfinite(answer(model)).all()
    assert [anomaly.step for anomaly in noticed] == [2]
    assert "batch 4 of round 2" in noticed[0].text  # an epoch has 13
    assert "0.0003" in noticed[0].action


def test_a_loss_that_stays_nan_stops_and_names_the_batch(rows: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, lambda call: True)
    with pytest.raises(DataError, match="batch 1 of round 1") as caught:
        fit(rows)
    assert "learning_rate" in caught.value.hint


def test_a_loss_that_becomes_nan_for_good_leaves_the_best_before(rows: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    short = fit(rows, report=lambda step, _loss: step < 2)
    noticed: list[Anomaly] = []
    poison(monkeypatch, lambda call: call > 30)
    np.testing.assert_array_equal(answer(fit(rows, notice=noticed.append)), answer(short))
    assert len(noticed) == LOWERED + 1
    assert "training ends with the best" in noticed[-1].action


def test_wild_targets_are_learned_or_refused_never_nan(tmp_path: Path) -> None:
    table = tiny_table(Task.REGRESSION)
    y = table.y.copy()
    y[::50] = 1e30
    model = fit(on_disk(tmp_path, replace(table, y=y)), task=Task.REGRESSION)
    assert np.isfinite(model.predict(table.X)).all()


def test_another_seed_is_another_model(rows: Pair) -> None:
    assert not np.array_equal(answer(fit(rows, seed=1)), answer(fit(rows, seed=2)))


def test_memory_does_not_change_the_order(rows: Pair) -> None:
    np.testing.assert_array_equal(answer(fit(rows, memory_bytes=1)), answer(fit(rows)))


def test_what_torch_was_set_to_is_left_as_it_was(rows: Pair) -> None:
    torch.manual_seed(5)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    fit(rows)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_without_validation_rows_the_time_counts_too(rows: Pair) -> None:
    fit((rows[0], None), go_on=lambda: False)  # type: ignore[arg-type]
    left = 20

    def go_on() -> bool:
        nonlocal left
        left -= 1
        return left >= 0

    one = fit((rows[0], None), go_on=go_on)  # type: ignore[arg-type]
    np.testing.assert_array_equal(answer(one), answer(fit(rows, report=lambda _step, _loss: False)))


def test_devices_by_name(rows: Pair) -> None:
    assert device.find_device("cpu").type == "cpu"
    there = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert device.find_device("auto").type == there
    with pytest.raises(ConfigError, match="Did you mean 'cuda'"):
        fit(rows, device="cudo")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_names_those_that_are(rows: Pair) -> None:
    with pytest.raises(ConfigError, match="auto, cpu"):
        fit(rows, device="cuda")


@pytest.mark.parametrize("steps", [0, 5])
def test_a_first_round_that_is_cut_leaves_no_checkpoint(tmp_path: Path, rows: Pair, steps: int) -> None:
    asked = 0

    def go_on() -> bool:
        nonlocal asked
        asked += 1
        return asked <= steps

    fit(rows, checkpoint=tmp_path / "a", rests_at=2, go_on=go_on, report=until(2))
    again = fit(rows, checkpoint=tmp_path / "a", rests_at=2, report=until(2))  # the same command, with time
    np.testing.assert_array_equal(answer(again), answer(fit(rows, report=until(2))))
