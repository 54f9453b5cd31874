"""Tests that may be looked at all the time, and stopped at any time, without more false alarms than were agreed to.

Confidence sequences: at every moment at once they hold the true value with the chance that was asked for. Of means the
asymptotic one of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024, "Time-uniform central limit theory and
asymptotic confidence sequences"), whose boundary is Robbins' normal mixture (1970); of rates of failures an
e-process, exact also where failures are few: a beta mixture of binomials (Ville 1939; Ramdas et al. 2023,
"Game-theoretic statistics and safe anytime-valid inference").

| symbol | meaning                                                                                        |
|--------|------------------------------------------------------------------------------------------------|
| d, v   | difference of two means in a stratum, and its variance; I = sum 1/v, the information            |
| D      | sum d/v / I: the difference over all strata, each with its weight of information               |
| r      | information at which the sequence is narrowest (Howard et al. 2021, section 3.5)                |
| c      | half width: sqrt((I + r) log((I + r) / (4 r alpha^2))) / I, of each of two one-sided sequences   |
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.special import betaln

from shardwise.stats.intervals import Interval

_LEAST = 50  # observations of a mean before its variance is trusted


@dataclass
class Mean:
    """Numbers added up: their count, mean and spread. Mergeable; of numbers of any size (Chan et al. 1979)."""

    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0  # sum of squared distances from the mean

    def add(self, values: np.ndarray) -> None:
        if len(values):
            self.merge(
                type(self)(float(len(values)), float(values.mean()), float(((values - values.mean()) ** 2).sum()))
            )

    def merge(self, other: Self) -> None:
        total = self.count + other.count
        if not total:
            return
        apart = other.mean - self.mean
        self.squares += other.squares + apart**2 * self.count * other.count / total
        self.mean += apart * other.count / total
        self.count = total

    @property
    def variance(self) -> float:
        """Of the mean; infinite below `_LEAST` numbers."""
        if self.count < _LEAST:
            return float("inf")
        return max(self.squares / (self.count - 1), 1e-12) / self.count

    def to_json(self) -> list[float]:
        return [self.count, self.mean, self.squares]

    @classmethod
    def from_json(cls, content: Sequence[Any]) -> Self:
        return cls(*map(float, content))


class Bounds(Interval):
    """The difference, and the two one-sided sequences; infinite before anything is known."""


def difference(strata: Iterable[tuple[Mean, Mean]], *, alpha: float, tuned: float) -> Bounds:
    """Second minus first of each pair of means, together: `low` passes the true difference at any time with a chance of
    `alpha`, and so does `high`. The sequence is narrowest when it is about as wide as `tuned`."""
    return _bounds([(b.mean - a.mean, a.variance + b.variance) for a, b in strata], alpha, tuned)


def single(mean: Mean, *, alpha: float, tuned: float) -> Bounds:
    """The same for the mean of differences that are paired already."""
    return _bounds([(mean.mean, mean.variance)], alpha, tuned)


def _bounds(parts: Sequence[tuple[float, float]], alpha: float, tuned: float) -> Bounds:
    known = [(d, 1.0 / v) for d, v in parts if np.isfinite(v)]
    information = sum(weight for _, weight in known)
    if not information > 0:
        return Bounds(0.0, float("-inf"), float("inf"))
    value = sum(d * weight for d, weight in known) / information
    log = -2.0 * np.log(2.0 * alpha)
    r = (log / tuned**2) / (log + np.log(1.0 + log))
    half = float(np.sqrt((information + r) * np.log((information + r) / (4.0 * r * alpha**2)))) / information
    return Bounds(value, value - half, value + half)


@dataclass
class Rate:
    """Trials and failures. Mergeable."""

    trials: int = 0
    failures: int = 0

    def merge(self, other: Self) -> None:
        self.trials += other.trials
        self.failures += other.failures

    @property
    def share(self) -> float:
        return self.failures / self.trials if self.trials else 0.0

    def to_json(self) -> list[int]:
        return [self.trials, self.failures]

    @classmethod
    def from_json(cls, content: Sequence[Any]) -> Self:
        return cls(int(content[0]), int(content[1]))


def evidence_of_more(strata: Iterable[tuple[Rate, Rate]]) -> float:
    """E-value that the second of each pair fails more often: reaches 1 / alpha at any time with a chance of at most
    alpha where it does not. A failure is then the second's with the share of trials that are its own."""
    total = 0.0
    more = 0.0
    for first, second in strata:
        failures = first.failures + second.failures
        if not failures or not first.trials or not second.trials:
            continue
        share = second.trials / (first.trials + second.trials)
        total += float(betaln(1 + second.failures, 1 + first.failures))
        total -= second.failures * np.log(share) + first.failures * np.log(1.0 - share)
        more += second.failures - share * failures
    return float(np.exp(min(total, 700.0))) if more > 0 else 0.0
