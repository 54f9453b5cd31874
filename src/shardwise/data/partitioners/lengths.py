"""Where consecutive rows are cut so that each stretch has its share: of rows, of bytes, or of a cost per row."""

from collections.abc import Sequence

import numpy as np

from shardwise.core.errors import ConfigError
from shardwise.data.partitioners.base import Source, check_count
from shardwise.stats.arrays import as_floats

BLOCK_ROWS = 1024  # rows whose cost is summed up; a cut inside is placed as if they cost the same


def cut_evenly(starts: np.ndarray, rows: np.ndarray, costs: np.ndarray, shares: Sequence[float]) -> list[int]:
    """Row numbers at which blocks are cut so that stretch i has about `shares[i]` of all cost.

    starts   int64 `(blocks,)` first row number of each block, rising
    rows     int64 `(blocks,)` rows of each
    costs    float64 `(blocks,)` cost of each, not negative

    >>> cut_evenly(np.array([0, 10]), np.array([10, 10]), np.array([30.0, 10.0]), [1, 1])
    [7]
    """
    total = float(costs.sum())
    sums = np.concatenate([[0.0], np.cumsum(costs)])
    wanted = np.cumsum(np.asarray(shares, dtype=np.float64))[:-1] / float(np.sum(shares)) * total
    cuts = []
    for want in wanted:
        block = min(int(np.searchsorted(sums, want, side="right")) - 1, len(starts) - 1)
        part = (want - sums[block]) / costs[block] if costs[block] > 0 else 0.0
        cuts.append(int(starts[block]) + round(part * int(rows[block])))
    return cuts


def cut_by_size(source: Source, size: float, *, by_bytes: bool) -> list[int]:
    """Row numbers at which the data is cut so that each stretch has `size` rows, or stored bytes; the last has less."""
    starts, rows, stored = (np.array(part) for part in zip(*source.pieces, strict=True))
    costs = (stored if by_bytes else rows).astype(np.float64)
    whole = int(np.ceil(round(costs.sum() / size, 9)))
    check_count(max(1, whole))
    shares = [size] * (whole - 1) + [costs.sum() - size * (whole - 1)]
    return cut_evenly(starts, rows, costs, shares) if whole > 1 else []


def cut_by_rows(source: Source, shares: Sequence[float]) -> list[int]:
    """Row numbers at which the data is cut so that stretch i has `shares[i]` of the rows."""
    starts, rows, _ = (np.array(part) for part in zip(*source.pieces, strict=True))
    return cut_evenly(starts, rows, rows.astype(np.float64), shares)


def cut_by_cost(source: Source, column: str, shares: Sequence[float]) -> list[int]:
    """Row numbers at which the data is cut so that stretch i has `shares[i]` of the sum of `column`; nulls count 0.

    Raises `ConfigError` for a cost that is negative, or nothing at all.
    """
    starts, rows, costs = [], [], []
    for first_row, batch in source.scan([column]):
        cost = np.nan_to_num(as_floats(batch.column(column)))
        if cost.min(initial=0.0) < 0:
            raise ConfigError(f"column {column!r} holds costs below zero", hint="A cost per row is at least 0.")
        blocks = np.arange(0, len(cost), BLOCK_ROWS)
        starts.append(first_row + blocks)
        rows.append(np.diff(blocks, append=len(cost)))
        costs.append(np.add.reduceat(cost, blocks) if len(cost) else cost)
    total = np.concatenate(costs)
    if total.sum() <= 0:
        raise ConfigError(f"the costs in column {column!r} add up to nothing", hint="Name a column of costs above 0.")
    return cut_evenly(np.concatenate(starts), np.concatenate(rows), total, shares)
