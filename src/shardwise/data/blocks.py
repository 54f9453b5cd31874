"""Columns of floats of a batch, many at a time as the rows of a matrix."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

LEAST_COLUMNS = 64
MOST_ROWS = 16_384  # of a batch: beyond, calls cost little
BLOCK_CELLS = 1 << 18


def are_blocks(columns: int, rows: int) -> bool:
    """Whether a batch is worth it."""
    return columns >= LEAST_COLUMNS and 1 < rows <= MOST_ROWS


def float_blocks(cells: Sequence[pa.Array]) -> Iterator[tuple[list[int], np.ndarray]]:
    """Places of float columns without nulls, of one type, and their cells `(columns, rows)`."""
    places: dict[pa.DataType, list[int]] = {pa.float32(): [], pa.float64(): []}
    for place, array in enumerate(cells):
        if array.type in places and not array.null_count:
            places[array.type].append(place)
    for found in places.values():
        most = max(1, BLOCK_CELLS // max(1, len(cells[found[0]]))) if found else 1
        for start in range(0, len(found), most):
            block = found[start : start + most]
            yield block, np.stack([cells[place].to_numpy() for place in block])
