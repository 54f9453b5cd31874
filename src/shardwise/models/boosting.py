"""The boosting loop: one round, one look at the validation rows, one report; when to stop, and which round was best."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import lightgbm as lgb
import numpy as np

from shardwise.core.target import Target, Task
from shardwise.data.rows import Rows
from shardwise.models.links import link
from shardwise.models.losses import LOSSES, task_loss
from shardwise.models.scaling import TargetScale
from shardwise.models.trees_soft import Update

_IDLE_ROUNDS = 10  # rounds in a row that found no split: with sampling the next one may
LEAST_FALL = 0.001
OWN_MEAN, OWN_ROOT = "own_loss", "own_rmse"  # names of a loss that LightGBM does not compute: a mean, or its root
_DIGITS = 12  # sums over threads differ in the last digits

# What early stopping may watch, by task: name -> LightGBM's metric; the first is the task's loss.
_METRICS: dict[Task, dict[str, str]] = {
    Task.BINARY: {"log_loss": "binary_logloss", "roc_auc": "auc"},
    Task.MULTICLASS: {"log_loss": "multi_logloss", "error": "multi_error"},
    Task.REGRESSION: {"rmse": "rmse", "mae": "l1"},
    Task.COUNT: {"poisson_deviance": "poisson"},
    Task.QUANTILE: {"pinball": "quantile"},
}


class Metrics:
    """Reads from a booster what is reported (the task's loss) and what early stopping watches; lower is better.

    `joint` makes means over all validation rows of means over `valid`, where those are one member's. `linked`: the
    booster knows no link, and its scores are those of several classes.
    """

    def __init__(
        self, target: Target, scale: TargetScale, valid: Rows, stop_metric: str | None, joint: "Joint | None" = None,
        *, linked: bool = False,
    ) -> None:  # fmt: skip
        self._target = target
        self._joint = joint or alone
        self._total = weight_of(valid)
        self._scale = scale
        self._stop = _METRICS[target.task][stop_metric] if stop_metric else None
        self._own = scale.transform is not None or linked
        self._linked = linked
        if target.task is Task.COUNT or self._own:
            self._y, self._weight = valid.target(), valid.weight()
        self._offset = self._poisson_offset() if target.task is Task.COUNT else 0.0

    @staticmethod
    def allowed(task: Task) -> tuple[str | None, ...]:
        return (None, *_METRICS[task])

    @staticmethod
    def native(task: Task, stop_metric: str | None, scale: TargetScale, *, linked: bool = False) -> list[str]:
        """The metrics that LightGBM is asked for."""
        loss = next(iter(_METRICS[task].values()))
        names = [] if scale.transform or linked else [loss]
        names += [_METRICS[task][stop_metric]] if stop_metric else []
        return list(dict.fromkeys(names)) or ["None"]

    def __call__(self, booster: lgb.Booster) -> tuple[float, float]:
        """(the task's loss, what is watched) on the validation rows."""
        results = booster.eval_valid(self._feval if self._own else None)
        joint = self._joint({result[1]: result[2] for result in results}, self._total)
        values = {name: rounded(value) for name, value in joint.items()}
        if self._own:
            loss = values[own_name(self._target.task)]
        else:
            first = values[next(iter(_METRICS[self._target.task].values()))]
            loss = rounded(2 * (first + self._offset)) if self._target.task is Task.COUNT else first * self._scale.scale
        watched = loss if self._stop is None else values[self._stop]
        return loss, -watched if self._stop == "auc" else watched

    def _feval(self, z: np.ndarray, _dataset: Any) -> tuple[str, float, bool]:
        predicted = link(Task.MULTICLASS, z) if self._linked else self._scale.invert(z)
        return own_name(self._target.task), task_loss(self._target, self._y, predicted, self._weight), False

    def _poisson_offset(self) -> float:
        """What LightGBM's Poisson likelihood lacks of half the deviance: mean(y ln y - y)."""
        terms = self._y * np.log(np.where(self._y > 0, self._y, 1.0)) - self._y
        mean = float(np.average(terms, weights=self._weight))
        return self._joint({"offset": mean}, self._total)["offset"]


Look = Callable[[lgb.Booster], tuple[float, float]]  # (the task's loss, what is watched) on the validation rows
Joint = Callable[
    [Mapping[str, float], float], Mapping[str, float]
]  # means over some rows, and their weight -> over all


def own_name(task: Task) -> str:
    """Under which the task's loss goes where LightGBM does not compute it."""
    return OWN_ROOT if LOSSES[task] == "rmse" else OWN_MEAN


def alone(values: Mapping[str, float], _weight: float) -> Mapping[str, float]:
    """The means of one who has all rows."""
    return values


def weight_of(rows: Rows) -> float:
    """Of all the rows together."""
    weight = rows.weight()
    return float(rows.n_rows) if weight is None else float(weight.sum(dtype=np.float64))


def rounded(value: float) -> float:
    """Without the last digits."""
    return float(f"{value:.{_DIGITS}g}")


class Curve:
    """Which round was best, and whether the wait for a better one is over.

    The wait grows with the best round: `rounds + share * best`, since slow learners pause for longer.
    """

    def __init__(self, rounds: int, share: float) -> None:
        self._rounds = rounds
        self._share = share
        self.best_round = 0
        self.best = float("inf")

    def add(self, step: int, value: float) -> bool:
        """Take the value of round `step`; False when it is time to stop."""
        if value < self.best or not self.best_round:
            self.best_round, self.best = step, value
        return step - self.best_round < self._rounds + self._share * self.best_round


class Plateau:
    """For trees of which more are never worse: all are kept, until `rounds` of them lowered the value by less than
    `LEAST_FALL` of itself."""

    def __init__(self, rounds: int) -> None:
        self._values: deque[float] = deque(maxlen=rounds)
        self.best_round = 0

    def add(self, step: int, value: float) -> bool:
        """Take the value of round `step`; False when it is time to stop."""
        self.best_round = step
        full = len(self._values) == self._values.maxlen
        going = not full or value < (1 - LEAST_FALL) * self._values[0]
        self._values.append(value)
        return going


class Stop(Protocol):
    """Decides after each round, by what is watched, whether to go on, and which rounds are kept."""

    best_round: int

    def add(self, step: int, value: float) -> bool: ...


class Boosting:
    """Drives a booster; `best_round` is right at any time, also after an exception out of `report`.

    `guard` gets all losses after each round; False ends training as early stopping does.
    """

    def __init__(
        self, booster: lgb.Booster, metrics: Look | None, curve: Stop, report: Callable[[int, float], bool],
        *, update: Update, go_on: Callable[[], bool], guard: Callable[[Sequence[float]], bool] = lambda _losses: True,
    ) -> None:  # fmt: skip
        self._guard = guard
        self._booster = booster
        self._go_on = go_on
        self._update = update
        self._metrics = metrics
        self._curve = curve
        self._report = report
        self._done = 0
        self.points: list[tuple[float, float]] = []  # (loss, what is watched) of each round
        self._losses: list[float] = []

    @property
    def best_round(self) -> int:
        return self._curve.best_round if self._metrics is not None else self._done

    def resume(self, rounds: int, points: Sequence[tuple[float, float]]) -> bool:
        """Take over what is known of rounds that the booster has already, and report them; False if they end it."""
        self._done = rounds
        going = True
        for step, (loss, watched) in enumerate(points, start=1):
            going = self._point(step, loss, watched)
        return going

    def run(self, rounds: int, segment: int, begin: Callable[[int], None]) -> None:
        """Up to so many rounds in all; `begin(rounds)` is called after every `segment` of them, before the next one."""
        idle = 0
        for _ in range(rounds - self._done):
            idle = idle + 1 if self._update(self._booster) else 0
            before = self._done
            if not self._look() or idle == _IDLE_ROUNDS:
                return
            if self._done > before and self._done % segment == 0:
                begin(self._done)

    def _look(self) -> bool:
        step = self._booster.current_iteration()
        if step == self._done:  # nothing was added
            return True
        self._done = step
        if self._metrics is None:
            return self._go_on()
        return self._point(step, *self._metrics(self._booster))

    def _point(self, step: int, loss: float, watched: float) -> bool:
        self.points.append((loss, watched))
        self._losses.append(loss)
        improving = self._curve.add(step, watched)
        sound = self._guard(self._losses)
        return self._report(step, loss) and improving and sound
