"""Columns of floats counted many at a time: what NumPy's calls cost weighs more than the few rows of a wide table.

A block of columns is a matrix, a row for each of them, sorted and summed by one call. Columns whose cells are all
there, finite and different are counted so, to the same bits as one by one; the others are left.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from shardwise.data.blocks import float_blocks
from shardwise.data.column_profile import ColumnProfile
from shardwise.stats.moments import Moments
from shardwise.stats.quantiles import thinned


def add_blocks(
    columns: Sequence[ColumnProfile], cells: Sequence[pa.Array], hashes: Mapping[str, np.ndarray]
) -> dict[int, int]:
    """Add cells and their hashes to the columns that can be counted so; the places of these, with the cells' bytes."""
    done: dict[int, int] = {}
    for places, matrix in float_blocks(cells):
        matrix.sort(axis=1)
        matrix += 0  # -0.0 becomes 0.0
        finite = np.isfinite(matrix[:, 0]) & np.isfinite(matrix[:, -1])
        kept = np.flatnonzero(finite & (matrix[:, 1:] != matrix[:, :-1]).all(axis=1))
        chosen = [places[row] for row in kept.tolist()]
        if chosen:
            _add([columns[place] for place in chosen], matrix[kept], hashes)
            done |= {place: cells[place].nbytes for place in chosen}
    return done


def _add(columns: Sequence[ColumnProfile], ordered: np.ndarray, hashes: Mapping[str, np.ndarray]) -> None:
    """`ordered` `(columns, rows)`: finite and different cells in rising order."""
    rows = ordered.shape[1]
    numbers = ordered.astype(np.float64)
    hashed = np.stack([hashes[column.name] for column in columns])
    hashed.sort(axis=1)
    flat, ones = pa.array(ordered.reshape(-1)), np.ones(rows, dtype=np.int64)
    kept = thinned(numbers, columns[0].limits.quantiles)
    below, zeros = (ordered < 0).sum(axis=1).tolist(), (ordered == 0).sum(axis=1).tolist()
    low, high = ordered[:, 0].tolist(), ordered[:, -1].tolist()
    for row, (column, part) in enumerate(zip(columns, Moments.of_rows(numbers), strict=True)):
        column.count += rows
        column.negatives += below[row]
        column.zeros += zeros[row]
        column.stretch(low[row], high[row])
        column.counts.add_single(flat.slice(row * rows, rows))
        column.distincts.add_sorted(hashed[row], ones)
        column.moments.merge(part)
        column.sketch.add_thinned(rows, (float(low[row]), float(high[row])), kept.of(row))
