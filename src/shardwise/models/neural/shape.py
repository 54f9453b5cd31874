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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from shardwise.core.seeds import derive_seed
from shardwise.data.chunk import thinned
from shardwise.data.rows import Rows
from shardwise.models.design import Design
from shardwise.models.neural.grids.trunks import Trunk

LIMIT = 8.0  # standardised numbers beyond are taken as this: one wild value must not decide the answer
ACTIVATIONS = ("relu", "silu")
FIXED = ("knots", "slopes")  # not learned
_SAMPLE_ROWS = 65_536  # from which the knots are taken
_BEGUN_CELLS = 2**18  # drawn at once

Weights = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """All sizes; `slots` counts the rows of the table of categories, `codes` the features that look into it.

    `activation` is what follows a layer's product: one of `ACTIVATIONS`. A `trunk` reads the cells of a grid; what it
    gives follows the embedded numbers and codes.
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
    activation: str = "relu"

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


def first_weights(
    shape: Shape, knots: np.ndarray, start: np.ndarray, seed: int, pieces: Mapping[str, tuple[slice, ...]] | None = None
) -> Weights:
    """Float32 weights before the first step, the same on every device; `start` `(scores,)` predicts the constant.

    With `pieces`, those parts alone of the same weights: all random numbers are drawn, few rows of a tensor at once.
    """
    wholes = {name: tuple(slice(0, cells) for cells in size) for name, size in shape.tensors().items()}
    begin = _Begin(shape.tensors(), wholes if pieces is None else pieces, derive_seed(seed, "weights"))
    for name, ends in zip(("knots", "slopes"), _pieces(knots), strict=True):
        begin.put(name, ends.__getitem__)
    begin.put("pieces")
    begin.uniform("linear", 1.0)
    begin.uniform("shift", 1.0)
    begin.put("categories", lambda rows: begin.rng.normal(0.0, 0.5, (_length(rows), shape.code_embedding)))
    for layer in range(shape.depth):
        bound = 1 / math.sqrt(max(1, shape.width if layer else shape.inputs))
        begin.uniform(f"w{layer}", bound)
        line = begin.rng.uniform(-bound, bound, (1, shape.width))
        begin.put(f"b{layer}", partial(_repeated, line))
        for name in (f"r{layer}", f"s{layer}"):
            begin.put(name, lambda _rows: 1.0)
    strength = _by_feature(shape, begin.rng)
    begin.put("r0", lambda rows: strength[rows])
    begin.uniform("head", 1 / math.sqrt(shape.width), 0.1)
    begin.put("bias", lambda _rows: start)
    if shape.trunk is not None:
        begin.weights |= {name: np.zeros(size, np.float32) for name, size in shape.trunk.tensors().items()}
        shape.trunk.begin(begin.weights, begin.rng)
        signs = begin.rng.choice([-1.0, 1.0], (shape.members, shape.trunk.outputs))
        begin.weights["r0"][:, -shape.trunk.outputs :] = signs
    return begin.weights


class _Begin:
    """First values of tensors, of each only the piece that is kept."""

    def __init__(
        self, sizes: Mapping[str, tuple[int, ...]], pieces: Mapping[str, tuple[slice, ...]], seed: int
    ) -> None:
        self._sizes, self._pieces = sizes, pieces
        self.rng = np.random.default_rng(seed)
        self.weights: Weights = {}

    def put(self, name: str, values: Callable[[slice], np.ndarray | float] = lambda _rows: 0.0) -> None:
        """`values` of some rows at a time, in order, broadcast over the rest of the tensor."""
        size, piece = self._sizes[name], self._pieces.get(name)
        kept = None if piece is None else np.zeros([_length(part) for part in piece], np.float32)
        step = max(1, _BEGUN_CELLS // max(1, math.prod(size[1:])))
        for first in range(0, size[0], step):
            rows = slice(first, min(first + step, size[0]))
            drawn = values(rows)
            if piece is None or kept is None:
                continue
            low, high = max(rows.start, piece[0].start), min(rows.stop, piece[0].stop)
            if low < high:
                block = np.broadcast_to(drawn, (_length(rows), *size[1:]))[low - first : high - first]
                kept[low - piece[0].start : high - piece[0].start] = block[:, *piece[1:]]
        if kept is not None:
            self.weights[name] = kept

    def uniform(self, name: str, bound: float, scale: float = 1.0) -> None:
        rest = self._sizes[name][1:]

        def drawn(rows: slice) -> np.ndarray:
            values = self.rng.uniform(-bound, bound, (_length(rows), *rest)).astype(np.float32)
            return np.asarray(values * np.float32(scale))

        self.put(name, drawn)


def _repeated(line: np.ndarray, rows: slice) -> np.ndarray:
    return np.repeat(line, _length(rows), axis=0)


def _length(part: slice) -> int:
    return int(part.stop - part.start)


def _by_feature(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """What sets the members apart: each sees each feature with a strength of its own."""
    strength = rng.normal(0.0, 1.0, (shape.members, shape.numbers + shape.codes))
    repeats = [shape.embedding] * shape.numbers + [shape.code_embedding] * shape.codes
    ones = np.ones((shape.members, shape.inputs - sum(repeats)))
    return np.concatenate([np.repeat(strength, repeats, axis=1), ones], axis=1).astype(np.float32)


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
    numbers = np.concatenate([design.plain(chunk.X) for chunk in thinned(train.chunks(), stride)]).clip(-LIMIT, LIMIT)
    ends = np.zeros((design.numbers, pieces + 1))
    for place, column in enumerate(numbers.T):
        unique = np.unique(column)
        if len(unique) > pieces:
            unique = np.unique(np.quantile(column.astype(np.float64), np.linspace(0, 1, pieces + 1)))
        ends[place] = np.pad(unique, (0, pieces + 1 - len(unique)), mode="edge")
    return ends
