"""How much of a column tells of another: the share of its entropy, on a sample of rows."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.target import canonical
from shardwise.data.column_profile import group_of
from shardwise.stats.arrays import as_floats, plain

_COLUMN_BINS, _TARGET_BINS, _MOST_CLASSES = 32, 16, 32


def association(column: pa.Array | pa.ChunkedArray, target: pa.Array | pa.ChunkedArray) -> float:
    """The share of the target's entropy that the column explains: 0 nothing, 1 all (Theil's uncertainty coefficient).

    Numbers and times are cut into bins of equal counts, other columns into their most frequent values and a rest;
    missing is a value of its own. The mutual information is corrected for what chance alone would show (Miller 1955:
    (r - 1) (c - 1) / 2n nats for r bins by c bins), so that an identifier explains nothing. Rows without a target are
    left out; NaN when the target has one value only.

    >>> round(association(pa.array([0.1, 0.2, 5.1, 5.2] * 50), pa.array(["a", "a", "b", "b"] * 50)), 2)
    0.99
    """
    codes, answers = _codes(plain(column), _COLUMN_BINS), _codes(plain(target), _TARGET_BINS)
    known = ~plain(target).is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    _, rows = np.unique(codes[known], return_inverse=True)
    _, columns = np.unique(answers[known], return_inverse=True)
    counts = np.zeros((int(rows.max(initial=-1)) + 1, int(columns.max(initial=-1)) + 1))
    np.add.at(counts, (rows, columns), 1)
    entropy = _entropy(counts.sum(axis=0))
    if not entropy > 0:
        return float("nan")
    shared = entropy + _entropy(counts.sum(axis=1)) - _entropy(counts.ravel())
    chance = (counts.shape[0] - 1) * (counts.shape[1] - 1) / (2 * counts.sum())
    return float(min(1.0, max(0.0, (shared - chance) / entropy)))


def _entropy(counts: np.ndarray) -> float:
    """In nats."""
    shares = counts[counts > 0] / max(1.0, counts.sum())
    return float(-(shares * np.log(shares)).sum())


def _codes(cells: pa.Array, bins: int) -> np.ndarray:
    """Bin of each cell, int64 `(rows,)`; the last one is for missing cells."""
    if group_of(cells.type) in ("string", "boolean", "null") or pc.count_distinct(cells).as_py() <= _MOST_CLASSES:
        texts = canonical(cells)
        counted = pc.value_counts(texts.drop_null()).to_pylist()
        ranked = sorted((-pair["counts"], pair["values"]) for pair in counted)
        frequent = pa.array([text for _, text in ranked[:_MOST_CLASSES]], pa.string())
        found = pc.fill_null(pc.index_in(texts, value_set=frequent), len(frequent))
        codes: np.ndarray = found.to_numpy().astype(np.int64)
        codes[texts.is_null().to_numpy(zero_copy_only=False)] = len(frequent) + 1
        return codes
    numbers = as_floats(cells)
    finite = numbers[np.isfinite(numbers)]
    edges = np.unique(np.quantile(finite, np.arange(1, bins) / bins)) if len(finite) else np.empty(0)
    codes = np.searchsorted(edges, numbers, side="right").astype(np.int64)
    codes[np.isnan(numbers)] = len(edges) + 1
    return codes
