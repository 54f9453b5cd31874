"""How much a single row may count where squared errors tell models apart.

An order of 80,995 pieces among orders of ten makes three quarters of all squared errors of 20,000 validation rows. Who
comes near it by chance wins, whatever it says of the others: on such rows the order of candidates is that of luck, and
early stopping stops anywhere. So a row may carry `MOST_SHARE` of the squared error of a constant at most, and is given
less weight where it would carry more; that is no row of most data. Scores that are reported of a test are not limited.
"""

from dataclasses import dataclass

import numpy as np

MOST_SHARE = 0.1
LEAST_ROWS = 500  # of fewer rows a tenth is no rare share


@dataclass(frozen=True)
class Limit:
    """Rows whose target is further from `center` than `distance` get as much less weight as their squared distance is
    larger."""

    center: float
    distance: float

    def weight(self, y: np.ndarray) -> np.ndarray:
        """Float32 `(rows,)`, 1 for nearly all."""
        away = np.abs(y - self.center)
        return np.square(self.distance / np.maximum(away, self.distance)).astype(np.float32)


def limit_of(y: np.ndarray, weight: np.ndarray | None = None) -> Limit | None:
    """For targets `(rows,)` with these weights; None where no row carries too much, few differ at all, or rows are few.

    With c the most that a row may count, e the squared distances from the median and m of them above c, c is the share
    of the sum: c = share * (m c + sum of the other e).
    """
    if len(y) < LEAST_ROWS:
        return None
    center = float(np.median(y))
    squares = np.square(y - center)
    if weight is not None:
        squares = squares * (weight > 0)
    most = int(1 / MOST_SHARE)
    if np.count_nonzero(squares) <= most:
        return None
    largest = -np.partition(-squares, most)[: most + 1]
    largest = np.sort(largest)[::-1]
    rest = float(squares.sum())
    for above in range(most):
        c = MOST_SHARE * rest / (1.0 - MOST_SHARE * above)
        if largest[above] <= c:
            return None if above == 0 else Limit(center, float(np.sqrt(c)))
        rest -= float(largest[above])
    return None
