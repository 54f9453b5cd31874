"""Predicting with NumPy: what a package needs to answer, without PyTorch, the same bits in every setting.

A BLAS sums a product in an order that depends on the place of the row, the number of rows and of threads, and on the
processor. Here no order matters, because nothing is rounded: factors are whole multiples of 2**-18 (activations) and
2**-20 (weights), held as float64, so that each sum of products is exact while sum |x w| < 2**15. What the network was
trained with, float32, is met within about 1e-5 of its scores.
"""

from collections.abc import Callable, Mapping

import numpy as np

from shardwise.core.target import Task
from shardwise.models.links import link
from shardwise.models.neural.exact import settled
from shardwise.models.neural.shape import LIMIT, Shape, Weights

_HIGHEST = 700.0  # whose exponential a float64 still holds


def _silu(hidden: np.ndarray) -> np.ndarray:
    """hidden / (1 + exp(-hidden)) (Elfwing et al. 2018, https://arxiv.org/abs/1702.03118), in place."""
    powers = np.negative(hidden)
    np.minimum(powers, _HIGHEST, out=powers)
    np.exp(powers, out=powers)
    powers += 1
    hidden /= powers
    return hidden


_ACTIVATIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda hidden: np.maximum(hidden, 0, out=hidden),
    "silu": _silu,
}
BLOCK_ROWS = 64  # at once: they stay in the processor's cache


def predict_blocks(task: Task, shape: Shape, weights: Weights, numbers: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """Mean prediction of the members on the scale of the model, float64 `(rows, classes)` or `(rows,)`.

    `weights` come from `exact`; `numbers` float32 `(rows, numbers)`; `slots` int `(rows, codes)`, rows of the table of
    categories. Where there is a trunk, the cells that it reads follow the numbers.
    """
    parts = []
    block_rows = BLOCK_ROWS if shape.trunk is None else shape.trunk.block_rows
    for start in range(0, max(len(numbers), 1), block_rows):
        block = slice(start, start + block_rows)
        scores = forward(shape, weights, numbers[block], slots[block])
        flat = link(task, scores.reshape(-1, shape.scores))
        parts.append(flat.reshape(*scores.shape[:2], *flat.shape[1:]).mean(axis=1))
    return np.concatenate(parts)


def forward(shape: Shape, weights: Weights, numbers: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """Raw scores float64 `(rows, members, scores)`."""
    hidden = _embedded(weights, numbers[:, : shape.numbers], slots)
    if shape.trunk is not None:
        cells = numbers[:, shape.numbers :].astype(np.float64)
        hidden = np.concatenate([hidden, shape.trunk.forward(weights, cells)], axis=1)
    hidden = hidden[:, None, :]
    for layer in range(shape.depth):
        scaled = settled(hidden * weights[f"r{layer}"])
        product = scaled.reshape(len(numbers) * shape.members, scaled.shape[2]) @ weights[f"w{layer}"]
        hidden = product.reshape(len(numbers), shape.members, shape.width)
        hidden *= weights[f"s{layer}"]
        hidden += weights[f"b{layer}"]
        hidden = _ACTIVATIONS[shape.activation](hidden)
    scores = settled(hidden).transpose(1, 0, 2) @ weights["head"] + weights["bias"][:, None, :]
    return np.asarray(scores.transpose(1, 0, 2))


def _embedded(weights: Weights, numbers: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """Float64 `(rows, inputs)`."""
    column = numbers.T.astype(np.float64).clip(-LIMIT, LIMIT)[:, :, None]
    places = ((column - weights["knots"][:, None]) * weights["slopes"][:, None]).clip(0, 1)
    values = settled(places) @ weights["pieces"] + column * weights["linear"][:, None] + weights["shift"][:, None]
    width = values.shape[0] * values.shape[2]
    flat = values.transpose(1, 0, 2).reshape(len(numbers), width)
    codes = weights["categories"][slots]
    return np.concatenate([flat, codes.reshape(len(slots), slots.shape[1] * codes.shape[2])], axis=1)
