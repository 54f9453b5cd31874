"""Count, mean, variance, skewness, kurtosis and extremes in one pass, merged."""

import math
from collections.abc import Mapping
from copy import copy
from typing import Any, Self

import numpy as np
import pyarrow as pa

from shardwise.core.state import State
from shardwise.stats.arrays import as_floats

_FIELDS = ("count", "mean", "m2", "m3", "m4", "minimum", "maximum")


class Moments:
    """Central moments of a column of numbers; missing and infinite values are left out.

    | symbol            | meaning                                    |
    |-------------------|--------------------------------------------|
    | `count`, `mean`   | n and the mean of the n finite values      |
    | `m2`, `m3`, `m4`  | sum of (x - mean)**p for p = 2, 3, 4       |
    | `std`             | sqrt(m2 / (n - 1))                         |
    | `skewness`        | sqrt(n) * m3 / m2**1.5                     |
    | `kurtosis`        | n * m4 / m2**2 - 3, so 0 for a normal      |

    What is not defined for so few values is NaN. Merging follows Pebay (2008), "Formulas for robust, one-pass parallel
    computation of covariances and arbitrary-order statistical moments", which for m2 is Chan, Golub and LeVeque (1979).

    >>> moments = Moments("x")
    >>> moments.update(pa.record_batch({"x": [1.0, 2.0, None, 6.0]}))
    >>> moments.count, moments.mean, round(moments.std, 3)
    (3, 3.0, 2.646)
    """

    def __init__(self, column: str = "") -> None:
        self.column = column
        self.count = 0
        self.mean = 0.0
        self.m2 = self.m3 = self.m4 = 0.0
        self.minimum, self.maximum = math.inf, -math.inf

    def update(self, batch: pa.RecordBatch) -> None:
        """Add the column's finite values; raises `DataError` when it holds no numbers."""
        values = as_floats(batch.column(self.column))
        self.add(values[np.isfinite(values)])

    def add(self, values: np.ndarray) -> None:
        """Add finite float64 values `(rows,)`."""
        if not len(values):
            return
        part = type(self)()
        part.count = len(values)
        part.minimum, part.maximum = float(values.min()), float(values.max())
        with np.errstate(over="ignore", invalid="ignore"):  # beyond 1e77 a fourth power is infinite, and so are moments
            part.mean = part.minimum  # exactly, where all are equal
            if part.minimum < part.maximum:
                part.mean = float(values.mean())
                deviations = values - part.mean
                squares = deviations * deviations
                part.m2 = float(squares.sum())
                # sums, not dot products: BLAS would share them out to threads, and the digits with them
                part.m3 = float(np.multiply(deviations, squares, out=deviations).sum())
                part.m4 = float(np.multiply(squares, squares, out=squares).sum())
        self.merge(part)

    @classmethod
    def of_rows(cls, values: np.ndarray) -> "list[Self]":
        """Of each row of finite float64 values `(columns, rows)`, rows > 0, as `add` counts it: a call for all rows."""
        low, high = values.min(axis=1), values.max(axis=1)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.where(low < high, values.mean(axis=1), low)
            deviations = values - mean[:, None]
            squares = deviations * deviations
            m2 = squares.sum(axis=1)
            m3 = np.multiply(deviations, squares, out=deviations).sum(axis=1)
            m4 = np.multiply(squares, squares, out=squares).sum(axis=1)
        found = []
        for fields in zip(*(part.tolist() for part in (mean, m2, m3, m4, low, high)), strict=True):
            part = cls()
            part.count = values.shape[1]
            part.mean, part.m2, part.m3, part.m4, part.minimum, part.maximum = fields
            found.append(part)
        return found

    def copy(self) -> Self:
        return copy(self)

    def merge(self, other: Self) -> None:
        n, k = self.count, other.count
        if not k:
            return
        if not n:
            for name in _FIELDS:
                setattr(self, name, getattr(other, name))
            return
        with np.errstate(all="ignore"):
            total, delta = n + k, np.float64(other.mean) - self.mean
            step = delta / total
            self.m4 = float(
                self.m4
                + other.m4
                + delta * step**3 * n * k * (n * n - n * k + k * k)
                + 6 * step**2 * (n * n * other.m2 + k * k * self.m2)
                + 4 * step * (n * other.m3 - k * self.m3)
            )
            self.m3 = float(
                self.m3 + other.m3 + delta * step**2 * n * k * (n - k) + 3 * step * (n * other.m2 - k * self.m2)
            )
            self.m2 = float(self.m2 + other.m2 + delta * step * n * k)
            self.mean = float(self.mean + step * k)
        self.count = total
        self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)

    @property
    def std(self) -> float:
        """Standard deviation of the sample, NaN below two values."""
        return math.sqrt(self.m2 / (self.count - 1)) if self.count > 1 and self.m2 >= 0 else math.nan

    @property
    def skewness(self) -> float:
        return self._standardised(self.m3, 1.5) * math.sqrt(self.count)

    @property
    def kurtosis(self) -> float:
        """Excess kurtosis."""
        return self._standardised(self.m4, 2.0) * self.count - 3.0

    def _standardised(self, moment: float, power: float) -> float:
        """moment / m2**power; NaN for a constant, or where floating point ends."""
        with np.errstate(all="ignore"):
            ratio = float(np.float64(moment) / np.float64(self.m2) ** power)
        return ratio if math.isfinite(ratio) else math.nan

    def result(self) -> Mapping[str, float]:
        """`count`, `mean`, `std`, `skewness`, `kurtosis`, `minimum`, `maximum`."""
        names = ("count", "mean", "std", "skewness", "kurtosis", "minimum", "maximum")
        return {name: getattr(self, name) for name in names}

    def state(self) -> State:
        return {"column": self.column} | {name: getattr(self, name) for name in _FIELDS}

    @classmethod
    def from_state(cls, state: State) -> Self:
        moments: Any = cls(state["column"])
        for name in _FIELDS:
            setattr(moments, name, state[name])
        restored: Self = moments
        return restored
