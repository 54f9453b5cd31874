"""The sizes of a network, its first weights, and the knots of its numeric embeddings. NumPy alone.

The network is a TabM (Gorishniy et al. 2025, https://arxiv.org/abs/2410.24210): `members` networks that share their
matrices and differ in cheap vectors (r before, s after a matrix, the bias b), each with a head of its own. Numbers are
embedded piecewise linearly (Gorishniy et al. 2022, https://arxiv.org/abs/2203.05556).

| tensor            | shape                          |                                                            |
|-------------------|--------------------------------|------------------------------------------------------------|
| `knots`           | (numbers, knots)               | left ends of the pieces, standardised                      |
| `slopes`          | (numbers, knots)               | 1 / width of the pieces; 0 for those that are not there    |
| `pieces`          | (numbers, knots, embedding)    | embedding of each piece                                    |
| `linear`, `shift` | (numbers, embedding)           | embedding of the number itself, and what is added          |
| `categories`      | (slots, code_embedding)        | a row for each category, and for the missing one           |
| `r<l>`            | (members, in)                  | of layer l, as are the next three                          |
| `w<l>`            | (in, width)                    |                                                            |
| `s<l>`, `b<l>`    | (members, width)               |                                                            |
| `head`, `bias`    | (members, width, scores), (members, scores) |                                               |
"""

import math
from dataclasses import dataclass

import numpy as np

from shardwise.core.seeds import derive_seed
from shardwise.data.rows import Rows
from shardwise.models.design import Design
from shardwise.models.neural.grids.trunks import Trunk

LIMIT = 8.0  # standardised numbers beyond are taken as this: one wild value must not decide the answer
FIXED = ("knots", "slopes")  # not learned
_SAMPLE_ROWS = 65_536  # from which the knots are taken

Weights = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """All sizes; `slots` counts the rows of the table of categories, `codes` the features that look into it.

    A `trunk` reads the cells of a grid; what it gives follows the embedded numbers and codes.
    """

    numbers: int
    codes: int
    slots: int
    scores: int
    members: int
    width: int
    depth: int
    knots: int
    embedding: int
    code_embedding: int
    trunk: Trunk | None = None

    @property
    def inputs(self) -> int:
        """Columns of the embedded row."""
        read = 0 if self.trunk is None else self.trunk.outputs
        return self.numbers * self.embedding + self.codes * self.code_embedding + read

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each tensor."""
        shapes: dict[str, tuple[int, ...]] = {
            "knots": (self.numbers, self.knots),
            "slopes": (self.numbers, self.knots),
            "pieces": (self.numbers, self.knots, self.embedding),
            "linear": (self.numbers, self.embedding),
            "shift": (self.numbers, self.embedding),
            "categories": (self.slots, self.code_embedding),
        }
        for layer in range(self.depth):
            inner = self.width if layer else self.inputs
            shapes[f"r{layer}"] = (self.members, inner)
            shapes[f"w{layer}"] = (inner, self.width)
            shapes[f"s{layer}"] = shapes[f"b{layer}"] = (self.members, self.width)
        shapes |= {} if self.trunk is None else self.trunk.tensors()
        return {**shapes, "head": (self.members, self.width, self.scores), "bias": (self.members, self.scores)}


def first_weights(shape: Shape, knots: np.ndarray, start: np.ndarray, seed: int) -> Weights:
    """Float32 weights before the first step, the same on every device; `start` `(scores,)` predicts the constant."""
    weights = {name: np.zeros(size, np.float32) for name, size in shape.tensors().items()}
    rng = np.random.default_rng(derive_seed(seed, "weights"))
    weights["knots"], weights["slopes"] = _pieces(knots)
    weights["linear"] = _uniform(rng, weights["linear"].shape, 1.0)
    weights["shift"] = _uniform(rng, weights["shift"].shape, 1.0)
    weights["categories"] = rng.normal(0.0, 0.5, weights["categories"].shape).astype(np.float32)
    for layer in range(shape.depth):
        size = weights[f"w{layer}"].shape
        weights[f"w{layer}"] = _uniform(rng, size, 1 / math.sqrt(max(1, size[0])))
        weights[f"b{layer}"][:] = _uniform(rng, (shape.width,), 1 / math.sqrt(max(1, size[0])))
        weights[f"r{layer}"][:] = 1.0
        weights[f"s{layer}"][:] = 1.0
    weights["r0"] = _by_feature(shape, rng)
    weights["head"] = _uniform(rng, weights["head"].shape, 1 / math.sqrt(shape.width)) * np.float32(0.1)
    weights["bias"][:] = start
    if shape.trunk is not None:
        shape.trunk.begin(weights, rng)
        weights["r0"][:, -shape.trunk.outputs :] = rng.choice([-1.0, 1.0], (shape.members, shape.trunk.outputs))
    return weights


def _by_feature(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """What sets the members apart: each sees each feature with a strength of its own."""
    strength = rng.normal(0.0, 1.0, (shape.members, shape.numbers + shape.codes))
    repeats = [shape.embedding] * shape.numbers + [shape.code_embedding] * shape.codes
    ones = np.ones((shape.members, shape.inputs - sum(repeats)))
    return np.concatenate([np.repeat(strength, repeats, axis=1), ones], axis=1).astype(np.float32)


def _uniform(rng: np.random.Generator, size: tuple[int, ...], bound: float) -> np.ndarray:
    return rng.uniform(-bound, bound, size).astype(np.float32)


def _pieces(ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left ends and slopes, both float32 `(numbers, knots)`, from ends `(numbers, knots + 1)`."""
    widths = np.diff(ends, axis=1)
    slopes = np.divide(1.0, widths, out=np.zeros_like(widths), where=widths > 1e-6)
    return ends[:, :-1].astype(np.float32), slopes.astype(np.float32)


def find_knots(train: Rows, design: Design, pieces: int) -> np.ndarray:
    """Ends of the pieces, float64 `(numbers, pieces + 1)`: quantiles of a sample of evenly spaced rows.

    A number with fewer values has fewer pieces; the others have the width 0.
    """
    stride = -(-train.n_rows // _SAMPLE_ROWS)
    numbers = np.concatenate([design.plain(chunk.X[::stride]) for chunk in train.chunks()]).clip(-LIMIT, LIMIT)
    ends = np.zeros((design.numbers, pieces + 1))
    for place, column in enumerate(numbers.T):
        unique = np.unique(column)
        if len(unique) > pieces:
            unique = np.unique(np.quantile(column.astype(np.float64), np.linspace(0, 1, pieces + 1)))
        ends[place] = np.pad(unique, (0, pieces + 1 - len(unique)), mode="edge")
    return ends
