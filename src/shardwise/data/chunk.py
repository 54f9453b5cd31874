"""A piece of model-ready rows."""

from collections.abc import Iterable, Iterator
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


def thinned(chunks: Iterable[Chunk], step: int) -> Iterator[Chunk]:
    """Every `step`-th of all the rows together, as views: a chunk that has none of them is left out.

    >>> [part.y.tolist() for part in thinned([Chunk(np.zeros((2, 0)), np.arange(2.0))] * 3, 3)]
    [[0.0], [1.0]]
    """
    before = 0
    for chunk in chunks:
        if not len(chunk.y):
            continue
        own, before = slice(-before % step, None, step), before + len(chunk.y)
        part = Chunk(chunk.X[own], chunk.y[own], None if chunk.weight is None else chunk.weight[own])
        if len(part.y):
            yield part


def taken(chunk: Chunk, chosen: np.ndarray) -> Chunk:
    """The chosen rows, copied."""
    weight = None if chunk.weight is None else chunk.weight[chosen]
    return Chunk(np.take(chunk.X.T, chosen, axis=1).T, chunk.y[chosen], weight)


def joined(chunks: list[Chunk]) -> Chunk:
    """All rows, copied."""
    X = np.concatenate([chunk.X.T for chunk in chunks], axis=1).T
    weights = [chunk.weight for chunk in chunks if chunk.weight is not None]
    return Chunk(X, np.concatenate([chunk.y for chunk in chunks]), np.concatenate(weights) if weights else None)
