"""Search spaces: what a param may be. Declared by model families, read by samplers.

A dimension maps the unit interval onto its values and back (`at`, `place`), so that samplers work in a unit cube and
know nothing of logarithms. `default` is what the family does without the param; `when` names another param and the
values of it under which this one counts; `cost` is the exponent by which the seconds of a fit grow with the value.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

When = tuple[str, tuple[Any, ...]]
DIGITS = 6  # of a real number that is proposed
EXACT = 17  # that tell any two real numbers apart


@dataclass(frozen=True)
class Float:
    """A real number in [low, high]; `log`: uniform in its logarithm."""

    low: float
    high: float
    log: bool = False
    default: float | None = None
    when: When | None = None
    cost: float = 0.0

    def draw(self, rng: np.random.Generator) -> float:
        if self.log:
            return self._rounded(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return self._rounded(rng.uniform(self.low, self.high))

    def at(self, place: float) -> float:
        """The value at a place in [0, 1].

        >>> Float(0.01, 1.0, log=True).at(0.5)
        0.1
        """
        if self.log:
            value = math.exp(math.log(self.low) + place * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + place * (self.high - self.low)
        return self._rounded(value)

    def _rounded(self, value: float) -> float:
        """To `DIGITS`, more where the range is narrow for its numbers; never beyond an end."""
        return min(self.high, max(self.low, float(f"{value:.{self._digits}g}")))

    @property
    def _digits(self) -> int:
        """So many that a step of the last one is at most a thousandth of the range."""
        width, largest = self.high - self.low, max(abs(self.low), abs(self.high))
        if largest <= 100 * width:
            return DIGITS
        return DIGITS + math.floor(math.log10(largest) - math.log10(width)) - 1 if width else EXACT

    def place(self, value: float) -> float:
        """Where a value lies in [0, 1]; what is outside counts as the nearest end."""
        if self.high == self.low:
            return 0.5
        value = min(self.high, max(self.low, float(value)))
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Int:
    """A whole number in [low, high], both ends included; `log`: uniform in its logarithm."""

    low: int
    high: int
    log: bool = False
    default: int | None = None
    when: When | None = None
    cost: float = 0.0

    def draw(self, rng: np.random.Generator) -> int:
        if self.log:
            return min(self.high, int(math.exp(rng.uniform(math.log(self.low), math.log(self.high + 1)))))
        return int(rng.integers(self.low, self.high + 1))

    def at(self, place: float) -> int:
        """The value at a place in [0, 1]; each value has a part of the interval.

        >>> [Int(1, 4).at(place) for place in (0.0, 0.3, 0.5, 1.0)]
        [1, 2, 3, 4]
        """
        if self.log:
            value = math.exp(math.log(self.low) + place * (math.log(self.high + 1) - math.log(self.low)))
        else:
            value = self.low + place * (self.high + 1 - self.low)
        return min(self.high, max(self.low, int(value + 1e-9)))

    def place(self, value: float) -> float:
        """The middle of a value's part of [0, 1]; what is outside counts as the nearest end."""
        value = min(self.high, max(self.low, float(value)))
        if self.log:
            middle = math.sqrt(value * (value + 1))
            return math.log(middle / self.low) / math.log((self.high + 1) / self.low)
        return (value + 0.5 - self.low) / (self.high + 1 - self.low)


@dataclass(frozen=True)
class Choice:
    """One of some values; a value that is named twice comes twice as often."""

    values: tuple[Any, ...]
    default: Any = None
    when: When | None = None
    cost: float = 0.0

    @property
    def distinct(self) -> list[Any]:
        """Each value once, in order; values may be lists."""
        return [value for place, value in enumerate(self.values) if value not in self.values[:place]]

    def draw(self, rng: np.random.Generator) -> Any:
        return self.values[int(rng.integers(len(self.values)))]

    def at(self, place: float) -> Any:
        """The value at a place in [0, 1].

        >>> [Choice(("a", "b")).at(place) for place in (0.0, 0.49, 0.5, 1.0)]
        ['a', 'a', 'b', 'b']
        """
        return self.values[min(len(self.values) - 1, int(place * len(self.values)))]

    def place(self, value: Any) -> float:
        """The middle of a value's part of [0, 1]; of a value that is not there, that of the first."""
        number = self.values.index(value) if value in self.values else 0
        return (number + 0.5) / len(self.values)


Dimension = Float | Int | Choice
Space = Mapping[str, Dimension]
