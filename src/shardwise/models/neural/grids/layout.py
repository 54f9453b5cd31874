"""The cells of a grid among the features: where they lie, and how they come to a network."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from shardwise.core.errors import ConfigError
from shardwise.core.schema import Feature
from shardwise.data.rows import Chunk
from shardwise.models.design import Block, Design
from shardwise.models.neural.shape import LIMIT


class GridDesign(Design):
    """A design whose `numbers` are followed by the cells of a grid, standardised, in the order of their places.

    `sizes` are those of the grid, its channels last; () where no feature has a place with so many `axes`. With `flags`,
    there is one more column for each step: 1 where all channels are missing.
    """

    def __init__(
        self, features: Sequence[Feature], onehot_limit: int, axes: int, *, apart: Collection[int] = (),
        flags: bool = False,
    ) -> None:  # fmt: skip
        cells = sorted((feature.place, i) for i, feature in enumerate(features) if len(feature.place) == axes)
        super().__init__(features, onehot_limit, apart={*apart, *(i for _, i in cells)})
        self._cells = [i for _, i in cells]
        self._flags = flags
        self.sizes: tuple[int, ...] = tuple(int(size) + 1 for size in np.max([p for p, _ in cells], 0)) if cells else ()
        if [place for place, _ in cells] != list(np.ndindex(self.sizes)) * bool(cells):
            shape = "x".join(map(str, self.sizes))
            raise ConfigError(f"{len(cells)} cells do not fill a grid of {shape}", hint="Train with all its columns.")
        chosen = [features[i] for i in self._cells]
        self._center = np.array([feature.center for feature in chosen], np.float32)
        self._scale = np.array([feature.scale or 1.0 for feature in chosen], np.float32)

    @property
    def row_bytes(self) -> int:
        """Bytes of a prepared row."""
        return super().row_bytes + 4 * len(self._cells)

    def prepare(self, chunk: Chunk, y: np.ndarray, mean_weight: float) -> Block:
        """Rows ready for the descent; a cell that is missing is as the mean of its channel."""
        block = super().prepare(chunk, y, mean_weight)
        if not self._cells:
            return block
        values = np.ascontiguousarray(chunk.X.T[self._cells].T, dtype=np.float32)
        parts: list[np.ndarray] = [block.numbers, values]
        if self._flags:
            missing = np.isnan(values).reshape(len(values), *self.sizes).all(axis=2)
            parts.append(np.asarray(missing, dtype=np.float32))
        with np.errstate(over="ignore"):  # what is infinite is clipped
            values -= self._center
            values /= self._scale
        np.clip(values, -LIMIT, LIMIT, out=values)
        values[np.isnan(values)] = 0.0
        return replace(block, numbers=np.concatenate(parts, axis=1))
