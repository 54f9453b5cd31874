"""Many predictions as one: a weighted mean, and weights chosen greedily.

Predictions of members have the shape `(rows, classes)` (probabilities) or `(rows,)`, all the same shape.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from shardwise.core.errors import ConfigError

Loss = Callable[[np.ndarray, np.ndarray], float]
_SAME = 1e-12  # losses that differ by less, relatively, are rounding


class Combiner(Protocol):
    """Learns from out-of-fold predictions how to make one prediction of several."""

    @property
    def weights(self) -> tuple[float, ...]:
        """Share of each member, sums to 1; 0 means that the member is not needed. Known after `fit`."""
        ...

    def fit(self, predictions: Sequence[np.ndarray], target: np.ndarray) -> None:
        """Learn from predictions for rows that the members have not seen; target float64 `(rows,)`."""
        ...

    def combine(self, predictions: Iterable[np.ndarray]) -> np.ndarray:
        """One prediction of those of all members, in the order of `fit`."""
        ...


class MeanCombiner:
    """The weighted mean; probabilities are normalised to sum to 1 again.

    Members are taken one at a time, so that `combine` of a generator holds two predictions.

    >>> MeanCombiner([1, 3]).combine([np.array([0.0, 4.0]), np.array([4.0, 0.0])])
    array([3., 1.])
    """

    def __init__(self, weights: Sequence[float] = ()) -> None:
        self.weights = _shares(weights) if weights else ()

    def fit(self, predictions: Sequence[np.ndarray], target: np.ndarray) -> None:  # noqa: ARG002 - of the interface
        """Equal weights, unless weights were given."""
        self.weights = self.weights or _shares([1.0] * len(predictions))

    def combine(self, predictions: Iterable[np.ndarray]) -> np.ndarray:
        """The weighted mean; that of one member is its prediction, to the bit."""
        total: np.ndarray | None = None
        for weight, prediction in zip(self.weights, predictions, strict=True):
            share = np.multiply(prediction, weight, dtype=np.float64)
            total = share if total is None else np.add(total, share, out=total)
        if total is None:
            raise ConfigError("there are no members to combine", hint="Call `fit` or give weights.")
        return total / total.sum(axis=1, keepdims=True) if total.ndim == 2 and len(self.weights) > 1 else total


@dataclass(frozen=True, kw_only=True)
class GreedyConfig:
    """`rounds`: how often a member is added; the weights are multiples of 1 / rounds at the finest. At most `members`
    different ones are taken, and only sets of them that are `allowed` (bool `(members,)`: who is in).
    """

    rounds: int = 25
    members: int | None = None
    allowed: Callable[[np.ndarray], bool] = field(default=lambda _chosen: True)

    def __post_init__(self) -> None:
        for name in ("rounds", "members"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}", hint="Give a whole number of at least 1.")


class GreedyCombiner:
    """Greedy selection with replacement (Caruana et al., Ensemble selection from libraries of models, ICML 2004).

    In each round that member is added whose addition gives the mean of all added so far the lowest loss; the shortest
    sequence with the lowest loss counts. Of equal losses a member that is in already is preferred, then the first: few
    members are fast to serve. `loss(target, prediction)`: lower is better; NaN is never chosen.
    """

    def __init__(self, loss: Loss, config: GreedyConfig | None = None) -> None:
        self.weights: tuple[float, ...] = ()
        self.losses: tuple[float, ...] = ()
        self._loss = loss
        self._config = config or GreedyConfig()

    def fit(self, predictions: Sequence[np.ndarray], target: np.ndarray) -> None:
        """Choose the weights; `losses` tells the loss after each round. Raises `ConfigError` without members."""
        places = range(len(predictions))
        if not any(self._config.allowed(np.arange(len(predictions)) == place) for place in places):
            raise ConfigError("there are no members to choose from", hint="Give the predictions of at least one.")
        counts = np.zeros(len(predictions), dtype=np.int64)
        total = np.zeros_like(predictions[0], dtype=np.float64)
        best, lowest = counts, math.inf
        losses: list[float] = []
        for _ in range(self._config.rounds):
            chosen, loss = self._next(predictions, target, total, counts)
            total = total + predictions[chosen]
            counts = counts + (np.arange(len(counts)) == chosen)
            if not losses or _is_lower(loss, lowest):
                best, lowest = counts, loss
            losses.append(loss)
        self.losses = tuple(losses)
        self.weights = _shares(best.tolist())

    def combine(self, predictions: Iterable[np.ndarray]) -> np.ndarray:
        """The mean with the chosen weights."""
        return MeanCombiner(self.weights).combine(predictions)

    def _next(
        self, predictions: Sequence[np.ndarray], target: np.ndarray, total: np.ndarray, counts: np.ndarray
    ) -> tuple[int, float]:
        number = int(counts.sum()) + 1
        open_to = [index for index in range(len(counts)) if self._may_enter(index, counts > 0)]
        losses = {index: self._loss(target, (total + predictions[index]) / number) for index in open_to}
        finite = {index: math.inf if math.isnan(loss) else loss for index, loss in losses.items()}
        lowest = min(finite.values())
        tied = [index for index, loss in finite.items() if not _is_lower(lowest, loss)]
        chosen = max(tied, key=lambda index: (counts[index] > 0, -index))
        return chosen, finite[chosen]

    def _may_enter(self, index: int, chosen: np.ndarray) -> bool:
        if chosen[index]:
            return True
        most = self._config.members
        grown = chosen | (np.arange(len(chosen)) == index)
        return (most is None or int(grown.sum()) <= most) and self._config.allowed(grown)


def _is_lower(loss: float, than: float) -> bool:
    return loss < than and not math.isclose(loss, than, rel_tol=_SAME)


def _shares(weights: Sequence[float]) -> tuple[float, ...]:
    total = math.fsum(weights)
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not total > 0:
        raise ConfigError(f"weights {list(weights)} cannot be used", hint="Give numbers from 0 up, not all 0.")
    return tuple(weight / total for weight in weights)
