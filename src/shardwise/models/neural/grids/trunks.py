"""What reads the cells of a grid for a network: sizes, first weights, and the answer by NumPy, with exact sums.

As in `neural.forward`, factors of products are whole multiples of fixed steps, so that sums are exact and their order
does not matter: a convolution is a product of matrices, whatever the number of rows.

| tensor             | shape                                  |                                                     |
|--------------------|----------------------------------------|-----------------------------------------------------|
| `wc<l>`, `bc<l>`   | (kernel**2 * channels, filters), (filters,) | convolution of block l                         |
| `wt`, `bt`         | (flat, features), (features,)          | what is left of the image, as features              |
| `wi`, `bi`         | (patch * (channels + 1), 3 * hidden), (3 * hidden,) | from a patch of steps to the three gates |
| `wh`, `bh`         | (hidden, 3 * hidden), (3 * hidden,)    | from the hidden state to them                       |
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from shardwise.models.links import sigmoid
from shardwise.models.neural.exact import settled

Weights = dict[str, np.ndarray]
_BLOCK_CELLS = 2**19  # float64 of an unfolded image that lie in memory at once: 4 MiB


class Trunk(Protocol):
    """Layers from the prepared cells of a row, float `(rows, inputs)`, to `outputs` numbers."""

    @property
    def outputs(self) -> int: ...

    @property
    def products(self) -> int:
        """Multiply-adds for a row."""
        ...

    @property
    def block_rows(self) -> int:
        """Rows that NumPy takes at once."""
        ...

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each tensor; names of matrices, which are factors of products, begin with w."""
        ...

    def begin(self, weights: Weights, rng: np.random.Generator) -> None:
        """First values of the tensors, in place."""
        ...

    def forward(self, weights: Weights, cells: np.ndarray) -> np.ndarray:
        """Float64 `(rows, outputs)` by weights of `exact`; cells float64 `(rows, inputs)`."""
        ...


@dataclass(frozen=True, kw_only=True)
class ConvTrunk:
    """Blocks of a convolution, ReLU, and the maximum over 2 x 2; then a dense layer (LeCun et al. 1998).

    The filters double from block to block. `shift`: while it learns, an image is moved by up to so many pixels.
    """

    height: int
    width: int
    channels: int
    filters: int
    kernel: int
    blocks: int
    features: int
    shift: int

    @property
    def outputs(self) -> int:
        return self.features

    def sides(self, block: int) -> tuple[int, int, int]:
        """Height, width and channels of what comes into a block; of what leaves the last, for the number of blocks."""
        depth = self.channels if block == 0 else self.filters * 2 ** (block - 1)
        return -(-self.height // 2**block), -(-self.width // 2**block), depth

    @property
    def flat(self) -> int:
        return math.prod(self.sides(self.blocks))

    @property
    def products(self) -> int:
        convolutions: int = sum(
            math.prod(self.sides(block)) * self.kernel**2 * self.filters * 2**block for block in range(self.blocks)
        )
        return convolutions + self.flat * self.features

    @property
    def block_rows(self) -> int:
        most = max(math.prod(self.sides(block)) for block in range(self.blocks)) * self.kernel**2
        return max(1, min(256, _BLOCK_CELLS // most))

    def tensors(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for block in range(self.blocks):
            filters = self.filters * 2**block
            shapes[f"wc{block}"] = (self.kernel**2 * self.sides(block)[2], filters)
            shapes[f"bc{block}"] = (filters,)
        return {**shapes, "wt": (self.flat, self.features), "bt": (self.features,)}

    def begin(self, weights: Weights, rng: np.random.Generator) -> None:
        """He et al. 2015: what leaves a layer varies as much as what comes in."""
        for name in (name for name in self.tensors() if name.startswith("w")):
            size = weights[name].shape
            weights[name][:] = rng.normal(0.0, math.sqrt(2 / size[0]), size)

    def forward(self, weights: Weights, cells: np.ndarray) -> np.ndarray:
        hidden = cells.copy().reshape(len(cells), self.height, self.width, self.channels)
        for block in range(self.blocks):
            hidden = _convolved(settled(hidden), weights[f"wc{block}"], self.kernel)
            hidden += weights[f"bc{block}"]
            np.maximum(hidden, 0, out=hidden)
            hidden = _pooled(hidden)
        features = settled(hidden.reshape(len(cells), self.flat)) @ weights["wt"] + weights["bt"]
        return np.asarray(np.maximum(features, 0, out=features))


def _convolved(images: np.ndarray, weight: np.ndarray, kernel: int) -> np.ndarray:
    """`(rows, height, width, filters)` of images `(rows, height, width, channels)`, zeros around them."""
    before = kernel // 2
    padded = np.pad(images, ((0, 0), *((before, kernel - 1 - before),) * 2, (0, 0)))
    views = sliding_window_view(padded, (kernel, kernel), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)
    rows, height, width = views.shape[:3]
    inputs, filters = weight.shape
    return np.asarray(views.reshape(rows * height * width, inputs) @ weight).reshape(rows, height, width, filters)


def _pooled(images: np.ndarray) -> np.ndarray:
    """The maximum over 2 x 2, where images are not below 0; an odd side is filled with zeros."""
    _, height, width, _ = images.shape
    if height % 2 or width % 2:
        images = np.pad(images, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    across = np.maximum(images[:, :, 0::2], images[:, :, 1::2])
    return np.asarray(np.maximum(across[:, 0::2], across[:, 1::2]))


@dataclass(frozen=True, kw_only=True)
class GruTrunk:
    """A gated recurrent unit (Cho et al. 2014) over patches of steps; its last state and the mean of all of them.

    Cells are (step, channel) and then a flag for each step, 1 where it is missing. What does not fill a patch is filled
    up at the beginning, as missing.
    """

    steps: int
    channels: int
    patch: int
    hidden: int

    @property
    def outputs(self) -> int:
        return 2 * self.hidden

    @property
    def patches(self) -> int:
        return -(-self.steps // self.patch)

    @property
    def inputs(self) -> int:
        """Numbers of a patch."""
        return self.patch * (self.channels + 1)

    @property
    def products(self) -> int:
        return self.patches * 3 * self.hidden * (self.inputs + self.hidden)

    @property
    def block_rows(self) -> int:
        return 256

    def tensors(self) -> dict[str, tuple[int, ...]]:
        gates = 3 * self.hidden
        return {"wi": (self.inputs, gates), "wh": (self.hidden, gates), "bi": (gates,), "bh": (gates,)}

    def begin(self, weights: Weights, rng: np.random.Generator) -> None:
        """Glorot & Bengio 2010 for what comes in, orthogonal (Saxe et al. 2013) for the state."""
        weights["wi"][:] = rng.normal(0.0, math.sqrt(2 / (self.inputs + self.hidden)), weights["wi"].shape)
        for gate in range(3):
            square, _ = np.linalg.qr(rng.normal(size=(self.hidden, self.hidden)))
            weights["wh"][:, gate * self.hidden : (gate + 1) * self.hidden] = square

    def patched(self, cells: np.ndarray) -> np.ndarray:
        """`(rows, patches, inputs)` of prepared cells."""
        values = cells[:, : self.steps * self.channels].reshape(len(cells), self.steps, self.channels)
        flags = cells[:, self.steps * self.channels :, None]
        ahead = self.patches * self.patch - self.steps
        missing = np.zeros((len(cells), ahead, self.channels + 1), cells.dtype)
        missing[:, :, -1] = 1.0
        whole = np.concatenate([missing, np.concatenate([values, flags], axis=2)], axis=1)
        return whole.reshape(len(cells), self.patches, self.inputs)

    def forward(self, weights: Weights, cells: np.ndarray) -> np.ndarray:
        rows, hidden = len(cells), self.hidden
        inputs = settled(self.patched(cells)).reshape(rows * self.patches, self.inputs) @ weights["wi"] + weights["bi"]
        gates = inputs.reshape(rows, self.patches, 3 * hidden)
        state = np.zeros((rows, hidden))
        total = np.zeros((rows, hidden))
        for step in range(self.patches):
            given, kept = gates[:, step], settled(state.copy()) @ weights["wh"] + weights["bh"]
            reset, update = np.split(sigmoid(given[:, : 2 * hidden] + kept[:, : 2 * hidden]), 2, axis=1)
            fresh = np.tanh(given[:, 2 * hidden :] + reset * kept[:, 2 * hidden :])
            state = fresh + update * (state - fresh)
            total += state
        return np.concatenate([state, total / self.patches], axis=1)
