"""LightGBM datasets from binned rows, and a few of them kept for the next candidate.

The codes are pushed block by block into a dataset whose bins are the codes, so that memory is the binned data, a byte a
cell, and a block.
"""

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightgbm as lgb
import numpy as np

from shardwise.core.errors import OverBudget, TaskFailed
from shardwise.data.bins import MISSING
from shardwise.data.reading import READING
from shardwise.data.rows import BinnedRows
from shardwise.models.trees_text import column_names

Pair = tuple[lgb.Dataset, lgb.Dataset | None]
KEPT_SHARE = 4  # kept datasets take at most a fourth of the memory ...
KEPT_BYTES = 2**30  # ... and at most this
SAMPLE_ROWS = 50_000  # from which LightGBM learns how often a code comes, to store it well
PUSH_ROWS = 65_536
GROWN_LEAF_BYTES = 250  # of a leaf: 88 while trees grow, the rest while their text is packed and read: measured
LEAST_ROUNDS = 50


def most_rounds(model_bytes: int, outputs: int, leaves: int) -> int:
    """How many rounds a model may have that may take so many bytes while it is learned; a few in any case."""
    return max(LEAST_ROUNDS, model_bytes // (GROWN_LEAF_BYTES * outputs * leaves))


def dataset_bytes(rows: BinnedRows | None) -> int:
    """What LightGBM keeps of rows, about: a byte a cell, label and weight."""
    return rows.n_rows * (len(rows.features) + 8) if rows is not None else 0


def mean_weight(rows: BinnedRows) -> float:
    """Of all training rows, also those of other members; 1 where they have none."""
    weight = rows.source.weight()
    return 1.0 if weight is None else float(weight.mean(dtype=np.float64))


def relative_weight(rows: BinnedRows, mean: float) -> np.ndarray | None:
    """Float32 `(rows,)`, counted in the mean of the training: what is set against sums of weights (the least of a leaf,
    what draws it to 0) means the same whatever their unit."""
    weight = rows.weight()
    return None if weight is None else (weight / mean).astype(np.float32)


class DatasetCache:
    """Binned datasets by the identity of their rows and the params that shape the bins; the oldest goes first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[object, tuple[Pair, int]] = OrderedDict()

    @contextmanager
    def open(
        self, train: BinnedRows, valid: BinnedRows | None, params: Mapping[str, Any], memory_bytes: int
    ) -> Iterator[Pair]:
        """The binned datasets of training and validation rows, without labels; validation rows get the same bins."""
        key = _key(train, valid, params)
        size = dataset_bytes(train) + dataset_bytes(valid)
        limit = min(memory_bytes // KEPT_SHARE, KEPT_BYTES)
        if size > limit:
            self.free()  # memory is needed for this one
            yield _bin(train, valid, params)
            return
        if key not in self._kept:
            self._shrink(limit - size)
            self._kept[key] = _bin(train, valid, params), size
        self._kept.move_to_end(key)
        yield self._kept[key][0]

    def _shrink(self, limit_bytes: int) -> None:
        while self._kept and sum(size for _, size in self._kept.values()) > limit_bytes:
            self._kept.popitem(last=False)

    def free(self) -> None:
        """Forget all datasets; their memory goes back at once."""
        self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)


@contextmanager
def lightgbm_errors() -> Iterator[None]:
    """Map LightGBM's errors to ours: `OverBudget` when memory ran out, else `TaskFailed`."""
    try:
        yield
    except lgb.basic.LightGBMError as error:
        if "alloc" in str(error).lower():
            raise OverBudget("LightGBM ran out of memory", hint="Give more --memory, or fewer --workers.") from error
        raise TaskFailed(f"LightGBM failed: {error}") from error


DATASETS = DatasetCache()  # of this process


def _key(train: BinnedRows, valid: BinnedRows | None, params: Mapping[str, Any]) -> object:
    keys = [rows.key for rows in (train, valid) if rows is not None]
    return (*keys, json.dumps(params, sort_keys=True))


def _bin(train: BinnedRows, valid: BinnedRows | None, params: Mapping[str, Any]) -> Pair:
    """`left_out` of the params, where it is there, names features without values, which LightGBM keeps no bins of."""
    params = {**params, "min_data_in_bin": 1}
    categorical, left_out = params.pop("categorical_feature"), params.pop("left_out", [])
    with READING.running():
        bins, mean = _reference(train.source, categorical, left_out, params), mean_weight(train)
        filled = _filled(train, left_out, bins, params, mean)
        return filled, None if valid is None else _filled(valid, left_out, bins, params, mean)


def _reference(
    rows: BinnedRows, categorical: list[int], left_out: list[int], params: Mapping[str, Any]
) -> lgb.Dataset:  # fmt: skip
    """LightGBM's own bins, one for each code of a sample; all features may be missing in rows to come, but for those
    that are left out."""
    step = -(-rows.n_rows // SAMPLE_ROWS)
    parts = []
    for number, size in enumerate(rows.block_rows()):
        if size:
            parts.append(code_floats(rows.block(number).X[::step]))
        rows.release(number)
    sample = np.concatenate([*parts, np.full((1, len(rows.features)), np.nan, np.float32)])
    sample[:, left_out] = 0.0
    dataset = lgb.Dataset(
        sample, label=np.zeros(len(sample), np.float32), feature_name=column_names(rows.binner),
        categorical_feature=categorical, params=dict(params),
    )  # fmt: skip
    return dataset.construct()


def _filled(
    rows: BinnedRows, left_out: list[int], bins: lgb.Dataset, params: Mapping[str, Any], mean: float
) -> lgb.Dataset:  # fmt: skip
    """All rows pushed block by block; the labels are set for each fit."""
    blocks = [_Block(rows, number, size, left_out) for number, size in enumerate(rows.block_rows()) if size]
    dataset = lgb.Dataset(
        blocks, label=np.zeros(rows.n_rows, np.float32), weight=relative_weight(rows, mean), reference=bins,
        params=dict(params),
    ).construct()  # fmt: skip
    dataset.data = dataset.label = dataset.weight = None  # LightGBM has copies of its own
    return dataset


class _Block(lgb.Sequence):
    """A block of codes as float32, row-major, which LightGBM reads at once."""

    def __init__(self, rows: BinnedRows, number: int, size: int, left_out: list[int]) -> None:
        self.batch_size = PUSH_ROWS
        self._rows, self._number, self._size, self._left_out = rows, number, size, left_out

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: int | slice | list[int]) -> np.ndarray:
        floats = code_floats(self._rows.block(self._number).X[place])
        floats[..., self._left_out] = 0.0
        self._rows.release(self._number)
        return floats


_CODES = np.arange(256, dtype=np.float32)
_CODES[MISSING] = np.nan


def code_floats(codes: np.ndarray) -> np.ndarray:
    """Float32 `(rows, features)`, row-major, NaN where missing, of codes uint8 of any order."""
    return np.take(_CODES, np.ascontiguousarray(codes))
