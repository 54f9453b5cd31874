"""The columns of a wide sample probed many at a time: floats of which every cell is there, and two classes."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa

from shardwise.core.target import Task
from shardwise.data.blocks import are_blocks, float_blocks
from shardwise.split.probes import Labels, Probe, bins_of, read_probe

_PAIRED = 64  # cells of a column of which all pairs are looked at
_BLOCK = 64  # columns


def read_probes(sample: pa.Table, skipped: Collection[str]) -> list[Probe]:
    """What `read_probe` makes of each column that is not skipped; those of types that are not probed are left out."""
    names = [name for name in sample.column_names if name not in skipped]
    found: dict[str, Probe | None] = {}
    if are_blocks(len(names), sample.num_rows):
        cells = [sample.column(name).combine_chunks() for name in names]
        for places, matrix in float_blocks(cells):
            numbers = matrix.astype(np.float64)
            ordered = np.sort(numbers, axis=1)
            finite = np.isfinite(ordered[:, 0]) & np.isfinite(ordered[:, -1])
            distinct = (1 + (ordered[:, 1:] != ordered[:, :-1]).sum(axis=1)).tolist()
            whole = (numbers == np.floor(numbers)).all(axis=1).tolist()
            for row in np.flatnonzero(finite).tolist():
                name = names[places[row]]
                found[name] = Probe(
                    name=name, values=numbers[row], is_category=False, is_time=False, is_whole=whole[row],
                    distinct=distinct[row],
                )  # fmt: skip
    probes = [found[name] if name in found else read_probe(name, sample.column(name)) for name in names]
    return [probe for probe in probes if probe is not None and probe.distinct > 0]


def powers(labels: Labels, probes: Sequence[Probe]) -> dict[str, float]:
    """`Labels.power_of` of each, by name; numbers of which all cells are known are told many at a time."""
    rows = len(labels.y)
    found: dict[str, float] = {}
    if labels.target.task is Task.BINARY and are_blocks(len(probes), rows) and bins_of(rows) <= _PAIRED:
        plain = [each for each in probes if each.distinct > bins_of(rows) and not each.is_category]
        plain = [each for each in plain if not np.isnan(each.values).any()]
        for start in range(0, len(plain), _BLOCK):
            found |= _binned(labels, plain[start : start + _BLOCK])
    return {each.name: found[each.name] if each.name in found else labels.power_of(each) for each in probes}


def _binned(labels: Labels, probes: Sequence[Probe]) -> Mapping[str, float]:
    """Of numbers in quantile bins."""
    values = np.stack([each.values for each in probes])
    limit = bins_of(values.shape[1])
    edges = np.quantile(values, np.arange(1, limit) / limit, axis=1).T
    cells = np.stack([
        np.searchsorted(own, row, side="right") for own, row in zip(edges, values, strict=True)
    ])  # fmt: skip
    return dict(zip([each.name for each in probes], _ginis(cells, limit, labels), strict=True))


def _ginis(cells: np.ndarray, width: int, labels: Labels) -> list[float]:
    """Of the cells `(columns, rows)` of each column the same number as `Labels.power`.

    Which of two cells comes first is asked of all pairs of them; all numbers are halves of whole ones, so that no sum
    is rounded.
    """
    columns, half = len(cells), labels.half[None, :]
    index = ((np.arange(columns)[:, None] * 2 + half) * width + cells).reshape(-1)
    size, shape = 2 * columns * width, (columns, 2, width)
    rows = np.bincount(index, minlength=size).reshape(shape).astype(np.float64)
    positive = np.bincount(index, np.broadcast_to(labels.y, cells.shape).reshape(-1), size).reshape(shape)
    sums = np.zeros(columns)
    sides = 0
    for own, other in ((0, 1), (1, 0)):
        prior = positive[0, other].sum() / max(rows[0, other].sum(), 1)
        rate = (positive[:, other] + prior) / (rows[:, other] + 1)
        up, down = positive[:, own], rows[:, own] - positive[:, own]
        every = up[0].sum() * down[0].sum()
        if every > 0:
            before = (rate[:, :, None] > rate[:, None, :]) + 0.5 * (rate[:, :, None] == rate[:, None, :])
            area = np.einsum("ci,cij,cj->c", up, before, down) / every
            sums += 2 * area - 1
            sides += 1
    return np.maximum(0.0, sums / sides).tolist() if sides else [0.0] * columns
