"""Training that diverges is helped: seen by its losses, begun again from the best weights with smaller steps."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shardwise.core.target import Target, Task
from shardwise.models import sgd
from shardwise.models.base import FitRun, Model
from shardwise.models.catboost import has_catboost
from shardwise.models.families import FAMILIES, build
from shardwise.models.guard import LEAST_ROWS, LOWER, Beginning, Guard
from shardwise.models.losses import task_loss
from shardwise.models.neural.model import has_torch
from shardwise.stats.anomalies import DIVERGED, NOT_FINITE, Anomaly
from shardwise.testing.models import FEATURES, TRAIN, VALID, Pair, on_disk, tiny_table, tiny_target

NETWORK: dict[str, Any] = {"epochs": 12, "width": 16, "members": 2, "batch_rows": 32, "knots": 4}
TASKS = (Task.BINARY, Task.MULTICLASS, Task.COUNT, Task.QUANTILE)


@dataclass
class Heard:
    """What a fit tells."""

    losses: list[float] = field(default_factory=list)
    noticed: list[Anomaly] = field(default_factory=list)

    def run(self, **settings: Any) -> FitRun:
        def report(_step: int, loss: float) -> bool:
            self.losses.append(loss)
            return True

        return FitRun(**{"seed": 1, "report": report, "notice": self.noticed.append, **settings})


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Task, str], Pair]:
    folder, pairs = tmp_path_factory.mktemp("rows"), dict[tuple[Task, str], Pair]()

    def of(task: Task, reads: str) -> Pair:
        if (task, reads) not in pairs:
            pairs[task, reads] = on_disk(folder / f"{task}-{reads}", tiny_table(task, 900), reads=reads)
        return pairs[task, reads]

    return of


def fitted(rows: Callable[[Task, str], Pair], family: str, task: Task, heard: Heard, **params: Any) -> Model:
    run = heard.run(**params.pop("run", {}))
    model = build(family, tiny_target(task), FEATURES, params)
    model.fit(*rows(task, FAMILIES[family].traits.reads), run)
    return model


def gain(rows: Callable[[Task, str], Pair], task: Task, heard: Heard) -> float:
    """By how much the best step is better than the constant."""
    return Guard.of(tiny_target(task), rows(task, "floats")[1].target(), None).start - min(heard.losses)


def answer(model: Model) -> np.ndarray:
    return model.predict(tiny_table(Task.BINARY, 100, seed=9).X)


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_a_linear_fit_with_far_too_large_steps_ends_well(rows: Callable[[Task, str], Pair], task: Task) -> None:
    usual, wild = Heard(), Heard()
    fitted(rows, "linear", task, usual)
    fitted(rows, "linear", task, wild, learning_rate=10.0, patience=20)
    assert not usual.noticed
    assert wild.noticed
    assert {anomaly.kind for anomaly in wild.noticed} <= {DIVERGED, NOT_FINITE}
    assert wild.noticed[0].step <= 3
    rates = [anomaly.evidence["learning_rate_now"] for anomaly in wild.noticed]
    assert rates == pytest.approx([10.0 * LOWER ** (i + 1) for i in range(len(rates))])
    assert gain(rows, task, wild) >= 0.8 * gain(rows, task, usual)


@pytest.mark.parametrize("task", [Task.BINARY, Task.REGRESSION], ids=str)
def test_a_network_with_far_too_large_steps_ends_well(rows: Callable[[Task, str], Pair], task: Task) -> None:
    if not has_torch():
        pytest.skip("the extra torch is not installed")
    usual, wild = Heard(), Heard()
    fitted(rows, "neural", task, usual, **NETWORK)
    fitted(rows, "neural", task, wild, **NETWORK, learning_rate=1.0)
    assert not usual.noticed
    assert wild.noticed
    assert gain(rows, task, wild) >= 0.8 * gain(rows, task, usual)


def test_trees_that_diverge_are_ended_with_the_best_round(rows: Callable[[Task, str], Pair]) -> None:
    heard = Heard()
    model = fitted(rows, "trees", Task.REGRESSION, heard, learning_rate=8.0)
    assert [anomaly.kind for anomaly in heard.noticed] == [DIVERGED]
    assert len(heard.losses) == heard.noticed[0].step
    assert model.rounds == np.argmin(heard.losses) + 1  # type: ignore[attr-defined]
    assert "ended" in heard.noticed[0].action


@pytest.mark.parametrize("family", ["linear", "neural"])
def test_a_fit_killed_after_a_restart_goes_on_to_the_same_bytes(
    tmp_path: Path, rows: Callable[[Task, str], Pair], monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    if family == "neural" and not has_torch():
        pytest.skip("the extra torch is not installed")
    monkeypatch.setattr(sgd, "KEEP_S", 0.0)
    params = {"learning_rate": 10.0} if family == "linear" else {**NETWORK, "learning_rate": 3.0}
    whole, first, second = Heard(), Heard(), Heard()
    calm = fitted(rows, family, Task.BINARY, whole, **params)
    lowered = [anomaly.step for anomaly in whole.noticed]
    seen = 0

    def killed(_step: int, _loss: float) -> bool:
        nonlocal seen
        seen += 1
        if seen == lowered[0] + 3:
            raise KeyboardInterrupt
        return True

    with pytest.raises(KeyboardInterrupt):
        fitted(rows, family, Task.BINARY, first, **params, run={"report": killed, "checkpoint": tmp_path / "kept"})
    again = fitted(rows, family, Task.BINARY, second, **params, run={"checkpoint": tmp_path / "kept"})
    assert second.noticed == whole.noticed
    assert second.losses == whole.losses
    np.testing.assert_array_equal(answer(again), answer(calm))


def test_a_loss_that_is_not_finite_goes_back_to_the_best(
    rows: Callable[[Task, str], Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    true, calls = sgd.Scorer.__call__, list[float]()

    def score(self: sgd.Scorer, weights: np.ndarray) -> float:
        calls.append(true(self, weights))
        return math.nan if len(calls) == 3 else calls[-1]

    monkeypatch.setattr(sgd.Scorer, "__call__", score)
    heard = Heard()
    model = fitted(rows, "linear", Task.BINARY, heard)
    assert [(anomaly.kind, anomaly.step) for anomaly in heard.noticed] == [(NOT_FINITE, 3)]
    assert heard.losses[2] == math.inf
    assert min(heard.losses) <= heard.losses[0]
    assert np.isfinite(answer(model)).all()


def test_the_constant_is_that_of_rows_that_count() -> None:
    y = np.array([0.0, 1.0, np.nan, 1.0] * LEAST_ROWS)
    weight = np.where(np.arange(len(y)) % 4 == 3, 0.0, 1.0)
    target = Target(column="y", task=Task.BINARY, classes=("no", "yes"))
    assert Guard.of(target, y, weight).start == pytest.approx(np.log(2))
    assert Guard.of(target, y[:LEAST_ROWS], None) == Guard(0.0, 0.0)  # too few of them have a label
    number = replace(target, task=Task.REGRESSION, classes=())
    guard = Guard.of(number, y, weight, worse_rounds=None)
    assert guard == Guard(pytest.approx(0.5), 0.0, None)


RELATIVE = {  # losses of usual fits by epoch, above that of the constant and in units of it
    Task.COUNT: (-0.062, -0.069, -0.052, 0.001, -0.051, -0.014, 0.041, 0.029, 0.042),
    Task.REGRESSION: (0.003, 0.092, 0.036, 0.113, 0.000, -0.034),
}


@pytest.mark.parametrize("task", RELATIVE, ids=str)
def test_where_few_rows_carry_the_loss_some_rounds_above_the_constant_are_chance(task: Task) -> None:
    rng = np.random.default_rng(3)
    rare, heavy = rng.poisson(0.04, 400).astype(float), rng.lognormal(1.0, 1.5, 400)
    target = Target(column="y", task=task)
    guard = Guard.of(target, rare if task is Task.COUNT else heavy, None)
    losses = [guard.start * (1 + above) for above in RELATIVE[task]]
    steps = range(1, len(losses) + 1)
    assert all(guard.judge(losses[:step]) is None for step in steps)
    assert any(replace(guard, error=0.0).judge(losses[:step]) for step in steps)
    sure = Guard.of(target, np.tile(rare if task is Task.COUNT else heavy, 1000), None)
    assert sure.error == pytest.approx(guard.error / np.sqrt(1000))
    assert any(sure.judge(losses[:step]) for step in steps)  # of so many rows it is none
    assert guard.judge([guard.start * 1.5] * 3) is not None


def test_what_is_begun_with_counts_where_it_is_worse() -> None:
    target, y = Target(column="y", task=Task.REGRESSION), np.tile([99.0, 101.0], LEAST_ROWS)
    begins = Beginning.of(target, np.arange(100.0), None, np.array([49.5]))
    assert begins.loss == pytest.approx(np.arange(100.0).std())
    guard = Guard.of(target, y, None, begins=begins)
    assert (guard.start, guard.learned) == pytest.approx((np.sqrt(50.5**2 + 1), begins.loss))
    assert guard.is_better(50.0)  # than the weights that were begun with
    near = Guard.of(target, y, None, begins=replace(begins, constant=np.array([100.0])))
    assert near.start == Guard.of(target, y, None).start == 1.0


SHIFTED: dict[str, dict[str, Any]] = {
    "trees": {"n_estimators": 300}, "linear": {}, "svm": {}, "neural": NETWORK | {"learning_rate": 0.003},
    "catboost": {"n_estimators": 200, "max_depth": 4, "use_encoded": True},
}  # fmt: skip


@pytest.mark.parametrize("family", SHIFTED)
@pytest.mark.parametrize("spread", ["later", "narrower"])
def test_validation_rows_unlike_the_training_are_no_divergence(tmp_path: Path, family: str, spread: str) -> None:
    if (family == "neural" and not has_torch()) or (family == "catboost" and not has_catboost()):
        pytest.skip(f"the extra of {family} is not installed")
    table = tiny_table(Task.REGRESSION, 900)
    far = np.arange(900) >= 800
    if spread == "later":  # the last rows of a target that rises
        x = np.linspace(-3.0, 3.0, 900)
    else:  # all rows that are near to each other
        x = np.where(far, 0.1, 1.0) * np.random.default_rng(1).uniform(-3.0, 3.0, 900)
    table.X[:, 0] = x
    table = replace(table, y=16.0 * x + table.X[:, 4], folds=np.where(far, VALID, TRAIN).astype(np.int8))
    heard, target = Heard(), tiny_target(Task.REGRESSION)
    model = build(family, target, FEATURES, SHIFTED[family])
    model.fit(*on_disk(tmp_path, table, reads=FAMILIES[family].traits.reads), heard.run())
    assert not heard.noticed
    assert len(heard.losses) > 5
    assert min(heard.losses) < 0.5 * heard.losses[0]


def test_a_single_wild_number_stops_no_fit(tmp_path: Path) -> None:
    table = tiny_table(Task.REGRESSION, 3000)
    y = (table.y - table.y.mean()) / 7.0
    table = replace(table, y=np.where(np.arange(3000) == 30, 1e5, y))
    heard, target, valid = Heard(), tiny_target(Task.REGRESSION), table.folds == VALID
    model = build("linear", target, FEATURES, {})
    model.fit(*on_disk(tmp_path, table), heard.run())
    constant = Guard.of(target, table.y[valid], None).start
    assert task_loss(target, table.y[valid], model.predict(table.X[valid])) < constant
