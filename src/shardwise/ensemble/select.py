"""Which candidates predict together, with which weights, under limits on size and time: chosen out of fold.

Four ways are compared: the best candidate alone, a weighted mean of a few (`combine.GreedyCombiner`), a linear stack of
these (`stacking.StackCombiner`), and that with small trees on their scores (`growing`). What is learned from
out-of-fold predictions would look too good on the rows that it was learned from: so each way is judged *crossed*,
learned anew from the other parts of the rows for each part (its folds, or blocks where there are fewer than three). A
way that is less simple is taken only where its crossed loss is lower by more than `TOLERANCE`, and, for a stack, by
more than the parts leave open. Nothing here has seen the sealed test.

A member is paid for in bytes and in seconds for a row. Where the limits do not hold all fold models of all members,
each member keeps fewer of them, alike. Of ensembles whose losses differ by less than the tolerance the smallest is
taken.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from shardwise.core.target import Target
from shardwise.ensemble import growing
from shardwise.ensemble.combine import Combiner, GreedyCombiner, GreedyConfig, MeanCombiner
from shardwise.ensemble.stacking import STACKED, StackCombiner
from shardwise.stats.parts import chosen_by_others, group_parts, leave_enough

LossOf = Callable[[np.ndarray, np.ndarray, np.ndarray | None], float]  # labels, predictions, weights of rows
ROUNDS = 12
MEMBERS = 4  # at most: each one costs time
TOLERANCE = 0.0005  # of the loss above that of perfect answers: less is worth no member
ERRORS = {"blend": 0.0, "stack": 1.0, "stack_trees": 1.0}  # standard errors by which it has to beat what is simpler
TINY = 1e-9  # of a limit, of which what the package takes besides may leave nothing
LIMITED = ("bytes", "batch_s", "alone_s")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one model: bytes on disk, and seconds that a row takes in a batch and alone. As `Limits`: of all models."""

    bytes: float = 0.0
    batch_s: float = 0.0
    alone_s: float = 0.0


Limits = Cost
NONE = Limits(bytes=math.inf, batch_s=math.inf, alone_s=math.inf)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Contenders, the best one first: their predictions for the same rows, out of fold.

    `part` int `(rows,)`: rows of a part are left out together; `fold` int `(rows,)`: losses are means over folds, as
    those of candidates are. `costs` and `models`: what a fold model of each costs, and how many there are; `least`: how
    many of them are kept if any (1 where it is empty).
    """

    predictions: Sequence[np.ndarray]
    y: np.ndarray
    weight: np.ndarray | None
    fold: np.ndarray
    part: np.ndarray
    costs: Sequence[Cost]
    models: Sequence[int]
    least: Sequence[int] = ()

    def take(self, rows: np.ndarray) -> "Pool":
        weight = None if self.weight is None else self.weight[rows]
        predictions = [prediction[rows] for prediction in self.predictions]
        return replace(
            self, predictions=predictions, y=self.y[rows], weight=weight, fold=self.fold[rows], part=self.part[rows]
        )

    def losses(self, loss: LossOf, prediction: np.ndarray, by: np.ndarray) -> np.ndarray:
        """On each fold or part, `(parts,)`; NaN where the metric is not defined."""
        found = []
        for number in np.unique(by).tolist():
            rows = by == number
            found.append(loss(self.y[rows], prediction[rows], None if self.weight is None else self.weight[rows]))
        return np.array(found)

    def loss(self, loss: LossOf, prediction: np.ndarray) -> float:
        """Mean over the folds, weighted by their rows; folds on which the metric is not defined do not count."""
        losses = self.losses(loss, prediction, self.fold)
        _, rows = np.unique(self.fold, return_counts=True)
        known = np.isfinite(losses)
        return float(np.average(losses[known], weights=rows[known])) if known.any() else math.nan


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to predict: `members` are numbers of contenders, `models` how many fold models each of them keeps.

    `loss` is crossed; `gain` over the best alone, and `error`, the standard error of that over the parts. `crossed`
    are the predictions of the pool's rows by what was learned without them; None where nothing is learned.
    """

    kind: str
    members: tuple[int, ...]
    models: tuple[int, ...]
    loss: float
    combiner: Combiner
    gain: float = 0.0
    error: float = 0.0
    crossed: np.ndarray | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The way that was taken, and all that were judged; `fits` is False where no model at all keeps the limits."""

    way: Way
    judged: tuple[Way, ...]
    fits: bool = True


class Selection:
    """Chooses among the contenders of a pool. `loss`: lower is better, `perfect` is that of perfect answers; `limits`
    leave out what encoding a row takes."""

    def __init__(
        self, pool: Pool, loss: LossOf, target: Target, limits: Limits = NONE, *, members: int = MEMBERS,
        perfect: float = 0.0,
    ) -> None:  # fmt: skip
        self._pool = pool
        self._loss = loss
        self._target = target
        self._limits = limits
        self._most = members
        self._perfect = perfect

    def choose(self) -> Choice:
        """The way with the lowest loss, a simpler one where it is as good."""
        best = self._best
        if best is None:
            return self._cheapest()
        alone, luck = self._crossed_best()
        single = Way(
            kind="single", members=(best,), models=self.kept((best,)), combiner=MeanCombiner([1.0]),
            loss=self._pool.loss(self._loss, self._pool.predictions[best]) + luck,
        )  # fmt: skip
        judged, taken, reference = [single], single, alone
        for kind, crossed in self._crossed().items():
            way = self._judge(kind, crossed, single, alone)
            judged.append(way)
            gains = self._gains(crossed, reference)
            needed = max(TOLERANCE * (taken.loss - self._perfect), ERRORS[kind] * _error(gains))
            if taken.loss - way.loss > needed:
                taken, reference = way, crossed
        return Choice(way=taken, judged=tuple(judged))

    def kept(self, members: Sequence[int]) -> tuple[int, ...]:
        """How many fold models each of these members may keep under the limits; empty where not even one each."""
        least = self._pool.least or [1] * len(self._pool.models)
        for most in range(max(self._pool.models), 0, -1):
            counts = tuple(max(least[member], min(most, self._pool.models[member])) for member in members)
            costs = [self._pool.costs[member] for member in members]
            if all(
                sum(getattr(cost, name) * count for cost, count in zip(costs, counts, strict=True))
                <= getattr(self._limits, name)
                for name in LIMITED
            ):
                return counts
        return ()

    def _cheapest(self) -> Choice:
        def over(number: int) -> float:
            cost = self._pool.costs[number]
            return max(float(getattr(cost, name) / max(getattr(self._limits, name), TINY)) for name in LIMITED)

        number = min(range(len(self._pool.costs)), key=over)
        way = Way(
            kind="single", members=(number,), models=(1,), combiner=MeanCombiner([1.0]),
            loss=self._pool.loss(self._loss, self._pool.predictions[number]),
        )  # fmt: skip
        return Choice(way=way, judged=(way,), fits=False)

    @cached_property
    def _widest(self) -> GreedyCombiner:
        """The mean of `members`, by weights of all rows."""
        greedy = self._greedy(self._pool, self._most)
        greedy.fit(self._pool.predictions, self._pool.y)
        return greedy

    @cached_property
    def size(self) -> int:
        """The fewest members whose mean is within the tolerance of the widest."""
        weights = np.array(self._widest.weights)
        order = np.argsort(-weights, kind="stable")[: np.count_nonzero(weights)]
        losses = []
        for count in range(1, len(order) + 1):
            few = np.where(np.isin(np.arange(len(weights)), order[:count]), weights, 0.0)
            losses.append(self._pool.loss(self._loss, MeanCombiner(few.tolist()).combine(self._pool.predictions)))
        limit = min(losses) + TOLERANCE * (min(losses) - self._perfect)
        return 1 + next((place for place, loss in enumerate(losses) if loss <= limit), 0)

    def _greedy(self, pool: Pool, members: int) -> GreedyCombiner:
        def loss(y: np.ndarray, prediction: np.ndarray) -> float:
            return self._loss(y, prediction, pool.weight)

        def allowed(chosen: np.ndarray) -> bool:
            return bool(self.kept(np.flatnonzero(chosen).tolist()))

        return GreedyCombiner(loss, GreedyConfig(rounds=ROUNDS, members=members, allowed=allowed))

    def _fitted(self, pool: Pool) -> Mapping[str, Combiner]:
        """A combiner for each way, by its kind, the simplest first. Trees may use members that a mean does without."""
        found: dict[str, Combiner] = {}
        stacks = self._target.task in STACKED and pool.weight is None
        stack = None
        if self.size > 1:
            found["blend"] = greedy = self._greedy(pool, self.size)
            if stacks:
                found["stack"] = stack = StackCombiner(self._target, greedy)
            (stack or greedy).fit(pool.predictions, pool.y)
        if not stacks or self._target.outputs > growing.MOST_CLASSES or len(self._pool.y) < growing.LEAST_ROWS:
            return found
        if stack is None or self.size < np.count_nonzero(self._widest.weights):
            under = self._under_trees(pool)
            if under is None:
                return found
            stack = StackCombiner(self._target, under)
            stack.fit(pool.predictions, pool.y)
        found["stack_trees"] = stack.with_trees(pool.predictions, pool.y)
        return found

    def _under_trees(self, pool: Pool) -> Combiner | None:
        """The members whose scores trees see: those of the widest mean; where that has one alone, it and the next best,
        if limits hold both."""
        if np.count_nonzero(self._widest.weights) > 1:
            return self._greedy(pool, self._most)
        best, others = self._best, range(len(pool.predictions))
        second = next((each for each in others if best is not None and each != best and self.kept((best, each))), None)
        if second is None or self._most < 2:
            return None
        return MeanCombiner([0.9 if each == best else 0.1 * (each == second) for each in others])

    @cached_property
    def _best(self) -> int | None:
        return next(iter(self._fitting), None)

    @cached_property
    def _fitting(self) -> list[int]:
        """The contenders that keep the limits by themselves, the best one first."""
        return [number for number in range(len(self._pool.predictions)) if self.kept((number,))]

    @cached_property
    def _final(self) -> Mapping[str, Combiner]:
        return self._fitted(self._pool)

    def _crossed_best(self) -> tuple[np.ndarray, float]:
        """For each part the predictions of the contender that is best on the others, of those that keep the limits by
        themselves; and by how much their loss is higher than that of the best on all rows, which is luckier on them
        than it will be. Scores of two contenders are not ranked together."""
        pool, fitting = self._pool, self._fitting
        numbers, rows = np.unique(pool.part, return_counts=True)
        losses = np.array([pool.losses(self._loss, pool.predictions[each], pool.part) for each in fitting])
        known = np.isfinite(losses).all(axis=0)
        best, whole = np.zeros(len(numbers), np.int64), pool.predictions[fitting[0]].copy()
        if known.sum() > 1:
            best[known] = chosen_by_others(losses[:, known], rows[known])
        for place, number in enumerate(numbers.tolist()):
            own = pool.part == number
            whole[own] = pool.predictions[fitting[best[place]]][own]
        mine = losses[best, np.arange(len(numbers))]
        higher = np.subtract(mine, losses[0], out=np.zeros(len(numbers)), where=known)
        return whole, max(0.0, float(higher @ rows / rows.sum()))

    def _crossed(self) -> Mapping[str, np.ndarray]:
        """For each kind the predictions of combiners that were fitted without the part that they predict; none where
        the rest of the rows would be too few for that."""
        pool = self._pool
        found: dict[str, np.ndarray] = {}
        if not leave_enough(pool.part):
            return found
        for number in np.unique(pool.part).tolist():
            own = pool.part == number
            mine = [prediction[own] for prediction in pool.predictions]
            for kind, combiner in self._fitted(pool.take(~own)).items():
                whole = found.setdefault(kind, np.empty_like(pool.predictions[0], dtype=np.float64))
                whole[own] = combiner.combine(mine)
        return found

    def _judge(self, kind: str, crossed: np.ndarray, single: Way, alone: np.ndarray) -> Way:
        combiner = self._final[kind]
        members = tuple(np.flatnonzero(combiner.weights).tolist())
        gains = self._gains(crossed, alone)
        value = self._pool.loss(self._loss, crossed)
        return Way(
            kind=kind, members=members, models=self.kept(members), combiner=combiner, loss=value,
            gain=single.loss - value, error=_error(gains), crossed=crossed,
        )  # fmt: skip

    def _gains(self, prediction: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """By how much the loss is lower than that of the reference, on each part; NaN where it is not known."""
        pool = self._pool
        before, after = (pool.losses(self._loss, answers, pool.part) for answers in (reference, prediction))
        known = np.isfinite(before) & np.isfinite(after)  # both are infinite where the metric is not defined
        return np.asarray(np.subtract(before, after, out=np.full(len(before), np.nan), where=known))


def is_slow(pool: Pool, limits: Limits) -> bool:
    """Whether the seconds that a row may take in a batch leave out any ensemble of this pool."""
    taken = sorted(cost.batch_s * count for cost, count in zip(pool.costs, pool.models, strict=True))
    return sum(taken[-MEMBERS:]) > limits.batch_s


def _error(gains: np.ndarray) -> float:
    """Standard error of the mean over the parts on which the metric is defined."""
    known = gains[np.isfinite(gains)]
    return float(known.std(ddof=1) / math.sqrt(len(known))) if len(known) > 1 else 0.0


def parts(fold: np.ndarray, least: int = 5, units: np.ndarray | None = None) -> np.ndarray:
    """The folds where there are three or more, else consecutive blocks of the rows, `least` in all or more; with
    `units`, codes `(rows,)` of groups, whole groups.

    >>> parts(np.array([0, 0, 0, 0]), least=2).tolist()
    [0, 0, 1, 1]
    """
    numbers = np.unique(fold)
    if len(numbers) >= 3:
        return fold
    found = np.empty(len(fold), np.int64)
    each = -(-least // max(1, len(numbers)))
    for place, number in enumerate(numbers.tolist()):
        rows = np.flatnonzero(fold == number)
        block = np.arange(len(rows)) * each // max(1, len(rows))
        if units is not None:
            block = group_parts(units[rows], each)
        found[rows] = place * each + block
    return found
