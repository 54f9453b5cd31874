"""Probabilities that say how often they are right: what is applied to each answer. `recalibration` learns them.

- `Temperature` (Guo et al. 2017, "On calibration of modern neural networks", section 4.2): each probability to the
  power 1 / T, normalised again. It changes no order of the classes of a row, and for two classes none of the rows.
- `Isotonic` (Zadrozny and Elkan 2002, "Transforming classifier scores into accurate multiclass probability estimates"):
  for each class a rising, piecewise linear function of its probability; of several classes normalised.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np

from shardwise.core.errors import PackageError
from shardwise.core.names import nearest
from shardwise.core.state import State

TINY = 1e-15


class Calibrator(Protocol):
    """Turns probabilities `(rows, classes)` into such that are right as often as they say; row by row, to the bit."""

    kind: str

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Float64 `(rows, classes)`, each row sums to 1."""
        ...

    def state(self) -> State: ...

    @classmethod
    def from_state(cls, state: State) -> Self: ...


class Temperature:
    """`p ** (1 / temperature)`, normalised: above 1 it takes confidence away.

    >>> Temperature(2.0).apply(np.array([[0.8, 0.2]])).round(4)
    array([[0.6667, 0.3333]])
    """

    kind = "temperature"

    def __init__(self, temperature: float) -> None:
        self.temperature = float(temperature)

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        logs = np.log(np.maximum(np.ascontiguousarray(probabilities, dtype=np.float64), TINY)) / self.temperature
        powers = np.exp(logs - logs.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def state(self) -> State:
        return {"kind": self.kind, "temperature": self.temperature}

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls(state["temperature"])


class Isotonic:
    """Linear between `knots`, where it has `heights`: arrays for each class, of two classes for the positive one alone.

    >>> Isotonic([np.array([0.2, 0.6])], [np.array([0.1, 0.9])]).apply(np.array([[0.6, 0.4], [1.0, 0.0]])).round(4)
    array([[0.5, 0.5],
           [0.9, 0.1]])
    """

    kind = "isotonic"

    def __init__(self, knots: Sequence[np.ndarray], heights: Sequence[np.ndarray]) -> None:
        self.knots, self.heights = tuple(knots), tuple(heights)

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        if len(self.knots) == 1:
            positive = np.interp(probabilities[:, 1], self.knots[0], self.heights[0])
            return np.column_stack([1.0 - positive, positive])
        raised = np.empty(probabilities.shape, dtype=np.float64)
        for k, (knots, heights) in enumerate(zip(self.knots, self.heights, strict=True)):
            raised[:, k] = np.interp(probabilities[:, k], knots, heights)
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))

    def state(self) -> State:
        ends = np.cumsum([len(knots) for knots in self.knots])
        return {
            "kind": self.kind, "ends": ends.tolist(), "knots": np.concatenate(self.knots),
            "heights": np.concatenate(self.heights),
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: State) -> Self:
        ends = state["ends"][:-1]
        return cls(np.split(state["knots"], ends), np.split(state["heights"], ends))


CALIBRATORS: Mapping[str, type[Temperature] | type[Isotonic]] = {"temperature": Temperature, "isotonic": Isotonic}


def calibrator_from_state(state: State) -> Calibrator:
    """Inverse of `Calibrator.state`; raises `PackageError` for a kind that is not known."""
    kind: Any = state.get("kind")
    if kind not in CALIBRATORS:
        hint = f"{nearest(str(kind), CALIBRATORS)} Upgrade shardwise, or train the package anew."
        raise PackageError(f"there is no calibrator {kind!r}", hint=hint)
    return CALIBRATORS[kind].from_state(state)
