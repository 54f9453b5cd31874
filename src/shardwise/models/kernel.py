"""Random Fourier features: a Gaussian kernel as columns of a linear model (Rahimi and Recht 2007).

With directions w ~ N(0, 2 g I) and phases b ~ U(0, 2 pi) the products of two rows' features
`sqrt(2 / D) cos(w x + b)` come near exp(-g |x - x'|^2), the nearer the more of them (D) there are. The linear columns
stay beside them: the sum of both kernels.

A row gets the same bits in any batch, since no sum is rounded: see `neural.forward`, whose steps these are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shardwise.core.seeds import derive_seed
from shardwise.data.rows import Chunk
from shardwise.models.design import Block, Design

BLOCK_ROWS = 256  # at once: they stay in the processor's cache
MOST_VALUES = 64  # of a category that is an input of the kernel
FARTHEST = 8.0  # standardised numbers beyond are taken as this
_WEIGHT, _VALUE = 2.0**20, 2.0**18  # factors are whole multiples of 1 / these


@dataclass(frozen=True)
class Directions:
    """What was drawn, float64, rounded to factors: `numbers` `(numbers, D)`, `table` `(slots, D)`, `phases` `(D,)`."""

    numbers: np.ndarray
    table: np.ndarray
    phases: np.ndarray

    @classmethod
    def draw(cls, seed: int, numbers: int, slots: int, *, components: int, gamma: float) -> "Directions":
        """`slots` are the values of all categories; two values are as far apart as numbers 1.4 apart."""
        rng = np.random.default_rng(derive_seed(seed, "kernel"))
        drawn = rng.normal(0.0, np.sqrt(2.0 * gamma), (numbers + slots, components))
        rounded = _rounded(drawn, _WEIGHT)
        return cls(rounded[:numbers], rounded[numbers:], rng.uniform(0.0, 2.0 * np.pi, components))

    @property
    def components(self) -> int:
        return len(self.phases)


class KernelDesign:
    """The columns of `linear`, and `components` more; see `design.Design` for what the methods give.

    The more are made by `widened`, so that nobody makes those of rows that others learn from.
    """

    def __init__(self, linear: Design, directions: Directions) -> None:
        self.linear, self.directions = linear, directions
        self._more = directions.components
        self._height = np.sqrt(2.0 / self._more)
        self._categories = categories(linear)

    @property
    def width(self) -> int:
        return int(self.linear.width) + self._more

    @property
    def numbers(self) -> int:
        return self.linear.numbers + self._more

    @property
    def row_bytes(self) -> int:
        return self.linear.row_bytes + 4 * self._more

    def prepare(self, chunk: Chunk, y: np.ndarray, mean_weight: float) -> Block:
        return self.linear.prepare(chunk, y, mean_weight)

    def widened(self, block: Block) -> Block:
        waves = [self._waves(block.numbers[rows], block.slots[rows]) for rows in _blocks(len(block))]
        more = np.concatenate([np.empty((0, self._more)), *waves]) * self._height
        numbers = np.concatenate([block.numbers, more.astype(np.float32)], axis=1)
        return Block(numbers, block.slots + np.int32(self._more), block.y, block.weight)

    def _waves(self, numbers: np.ndarray, slots: np.ndarray) -> np.ndarray:
        """cos(w x + b), float64 `(rows, D)`, rounded to factors."""
        drawn = self.directions
        values = _rounded(numbers.astype(np.float64).clip(-FARTHEST, FARTHEST), _VALUE)
        phases = values @ drawn.numbers
        for category in self._categories:
            phases += drawn.table[slots[:, category.place] - category.start + category.row]
        return _rounded(np.cos(phases + drawn.phases), _VALUE)

    def scores(self, X: np.ndarray, weights: np.ndarray) -> np.ndarray:
        linear, waves = self._split(weights)
        return np.asarray(self.linear.scores(X, linear) + self._of_waves(X, waves))

    def _split(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights of the linear columns, and factors for the others."""
        first = self.linear.numbers
        waves = weights[first : first + self._more].astype(np.float64) * self._height
        return np.delete(weights, np.s_[first : first + self._more], axis=0), _rounded(waves, _WEIGHT)

    def _of_waves(self, X: np.ndarray, waves: np.ndarray) -> np.ndarray:
        numbers, slots = self.linear.columns(X)
        parts = [self._waves(numbers[rows], slots[rows]) @ waves for rows in _blocks(len(X))]
        return np.concatenate([np.empty((0, waves.shape[1])), *parts])

    def for_rows(self, weights: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """The scores of single rows with these weights."""
        linear, waves = self._split(weights)
        row = self.linear.for_rows(linear)
        return lambda X: row(X) + self._of_waves(X, waves)

    def spread(self, weights: np.ndarray) -> np.ndarray:
        """How much each feature moves the scores, about, float64 `(features,)`: along the waves at their mean slope."""
        linear, waves = self._split(weights)
        spread = self.linear.spread(linear)
        strength = np.abs(waves).sum(axis=1) * np.sqrt(0.5)
        drawn = self.directions
        spread[self.linear.number_columns(range(self.linear.numbers))] += np.abs(drawn.numbers) @ strength
        for category in self._categories:
            own = drawn.table[category.row : category.row + category.values]
            spread[self.linear.code_columns[category.place]] += own.std(axis=0) @ strength
        return spread


@dataclass(frozen=True)
class Category:
    """A category that is an input of the kernel: the `place`th code of the linear design, whose slots begin at `start`
    and whose `values` are rows of the table from `row` on."""

    place: int
    start: int
    values: int
    row: int


def categories(linear: Design) -> list[Category]:
    """The categories of few values, in the order of their codes."""
    found: list[Category] = []
    row = 0
    for place, (start, stop) in enumerate(linear.slot_ranges):
        if stop - start <= MOST_VALUES:
            found.append(Category(place, start, stop - start, row))
            row += stop - start
    return found


def _blocks(n_rows: int) -> list[slice]:
    return [slice(start, start + BLOCK_ROWS) for start in range(0, n_rows, BLOCK_ROWS)]


def _rounded(values: np.ndarray, steps: float) -> np.ndarray:
    """The nearest multiples of 1 / steps."""
    return np.asarray(np.rint(values * steps) / steps)
