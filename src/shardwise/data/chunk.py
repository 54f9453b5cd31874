"""A piece of model-ready rows."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Chunk:
    """Rows of one fold of one partition.

    `X` float32 (of `BinnedRows` uint8) `(rows, features)`, column-major and memory-mapped; `y` float64 `(rows,)`, class
    index or number; `weight` float32 `(rows,)` or None.
    """

    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None = None


def sliced(chunk: Chunk, start: int, stop: int) -> Chunk:
    """Rows from `start` to `stop`, as views."""
    return Chunk(chunk.X[start:stop], chunk.y[start:stop], None if chunk.weight is None else chunk.weight[start:stop])


def taken(chunk: Chunk, chosen: np.ndarray) -> Chunk:
    """The chosen rows, copied."""
    weight = None if chunk.weight is None else chunk.weight[chosen]
    return Chunk(np.take(chunk.X.T, chosen, axis=1).T, chunk.y[chosen], weight)


def joined(chunks: list[Chunk]) -> Chunk:
    """All rows, copied."""
    X = np.concatenate([chunk.X.T for chunk in chunks], axis=1).T
    weights = [chunk.weight for chunk in chunks if chunk.weight is not None]
    return Chunk(X, np.concatenate([chunk.y for chunk in chunks]), np.concatenate(weights) if weights else None)
