"""Samplers that do not look at what was tried, only at how often: random, Sobol, grid."""

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar

import numpy as np

from shardwise.core.seeds import derive_seed
from shardwise.core.space import Choice, Dimension, Int, Space
from shardwise.tune.spaces import Cube
from shardwise.tune.trial import Trial

COMPARED = 5_000  # combinations of a grid, at most, that are compared with each other
GRID_LEVELS = 3  # of a number that a grid takes
SOBOL_BITS = 30


class RandomSampler:
    """Draws every param on its own; what comes does not depend on the history (Bergstra and Bengio 2012)."""

    learns: ClassVar[bool] = False

    def suggest(self, space: Space, trials: Sequence[Trial], seed: int) -> dict[str, object]:  # noqa: ARG002 - the plug point
        """
        >>> from shardwise.core.space import Choice, Int
        >>> RandomSampler().suggest({"depth": Int(3, 3), "loss": Choice(("l2",))}, [], seed=0)
        {'depth': 3, 'loss': 'l2'}
        """
        rng = np.random.default_rng(seed)
        return Cube(space).active({name: space[name].draw(rng) for name in sorted(space)})


class SobolSampler:
    """The next point of a scrambled Sobol sequence (Owen 1998): even in all projections, where random has holes.

    The sequence is scrambled by the names of the space, so that trial n of one study continues trial n - 1 whatever its
    own seed is.
    """

    learns: ClassVar[bool] = False  # of the history only its length, which is known beforehand

    def suggest(self, space: Space, trials: Sequence[Trial], seed: int) -> dict[str, object]:  # noqa: ARG002
        cube = Cube(space)
        return cube.params(_sobol(len(cube.names), derive_seed(0, "sobol", *cube.names), len(trials)))


@lru_cache(maxsize=4)
def _engine(dimensions: int, seed: int, points: int) -> np.ndarray:
    from scipy.stats import qmc

    return np.asarray(qmc.Sobol(dimensions, scramble=True, rng=seed, bits=SOBOL_BITS).random_base2(points))


def _sobol(dimensions: int, seed: int, number: int) -> np.ndarray:
    return np.asarray(_engine(dimensions, seed, max(6, number.bit_length()))[number])


class GridSampler:
    """All combinations of three levels of each number and all values of each choice, in an order that visits far
    corners early; after the last one (see `points`) a study ends, and the sampler would begin again.

    Combinations that are the same, as a param does not count under the others, come once; grids of more than
    `COMPARED` combinations are not looked through for them."""

    learns: ClassVar[bool] = False  # of the history only its length, which is known beforehand

    def __init__(self) -> None:
        self._kept: dict[str, list[dict[str, object]]] = {}

    def suggest(self, space: Space, trials: Sequence[Trial], seed: int) -> dict[str, object]:  # noqa: ARG002
        """
        >>> from shardwise.core.space import Choice
        >>> GridSampler().suggest({"loss": Choice(("l1", "l2"))}, [], seed=0)
        {'loss': 'l1'}
        """
        total = _combinations(space)
        if total <= COMPARED:
            return self._distinct(space)[len(trials) % self.points(space)]
        return _combination(space, len(trials), total)

    def points(self, space: Space) -> int:
        """How many combinations there are."""
        total = _combinations(space)
        return total if total > COMPARED else len(self._distinct(space))

    def _distinct(self, space: Space) -> list[dict[str, object]]:
        key = repr(sorted(space.items()))
        if key not in self._kept:
            total = _combinations(space)
            every = (_combination(space, number, total) for number in range(total))
            self._kept[key] = list({repr(sorted(params.items())): params for params in every}.values())
        return self._kept[key]


def _combinations(space: Space) -> int:
    return math.prod(len(grid_levels(dimension)) for dimension in space.values())


def _combination(space: Space, number: int, total: int) -> dict[str, object]:
    """The `number`-th of `total` in the order of a grid."""
    cube, place, point = Cube(space), number * _stride(total) % total, []
    for values in (grid_levels(dimension) for dimension in cube.dimensions):
        place, own = divmod(place, len(values))
        point.append(values[own])
    return cube.params(point)


def grid_levels(dimension: Dimension, most: int = GRID_LEVELS) -> list[float]:
    """Places in [0, 1]: the middles of `most` equal parts of a number, and one for each different value."""
    if isinstance(dimension, Choice):
        return [dimension.place(value) for value in dimension.distinct]
    if isinstance(dimension, Int) and dimension.high - dimension.low < most:
        return [dimension.place(value) for value in range(dimension.low, dimension.high + 1)]
    if dimension.low == dimension.high:
        return [0.5]
    return [(part + 0.5) / most for part in range(most)]


def _stride(total: int) -> int:
    """A step near the golden section of `total` that has no common divisor with it: it visits all, in no order."""
    near = max(1, round(total * (math.sqrt(5.0) - 1.0) / 2.0))
    return next(step for step in itertools.count(near) if math.gcd(step, total) == 1)
