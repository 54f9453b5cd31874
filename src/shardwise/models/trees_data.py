"""LightGBM datasets from memory-mapped rows, and a few of them kept for the next candidate.

The chunks are handed over as they lie on disk (column-major float32): LightGBM reads them row by row into its bins and
copies nothing else, so that memory is the binned data, a byte a cell, and not the floats.
"""

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightgbm as lgb
import numpy as np

from shardwise.core.errors import OverBudget, TaskFailed
from shardwise.data.rows import Rows

Pair = tuple[lgb.Dataset, lgb.Dataset | None]
KEPT_SHARE = 4  # kept datasets take at most a fourth of the memory ...
KEPT_BYTES = 2**30  # ... and at most this


def dataset_bytes(rows: Rows | None) -> int:
    """What LightGBM keeps of rows, about: a byte a cell, label and weight."""
    return rows.n_rows * (len(rows.features) + 8) if rows is not None else 0


class DatasetCache:
    """Binned datasets by the identity of their rows and the params that shape the bins; the oldest goes first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[object, tuple[Pair, int]] = OrderedDict()

    @contextmanager
    def open(self, train: Rows, valid: Rows | None, params: Mapping[str, Any], memory_bytes: int) -> Iterator[Pair]:
        """The binned datasets of training and validation rows, without labels; validation rows get the same bins."""
        key = _key(train, valid, params)
        size = dataset_bytes(train) + dataset_bytes(valid)
        limit = min(memory_bytes // KEPT_SHARE, KEPT_BYTES)
        if key is None or size > limit:
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


def _key(train: Rows, valid: Rows | None, params: Mapping[str, Any]) -> object | None:
    """None for rows that have no identity: those are binned each time."""
    keys = [getattr(rows, "key", None) for rows in (train, valid) if rows is not None]
    return None if None in keys else (*keys, json.dumps(params, sort_keys=True))


def _bin(train: Rows, valid: Rows | None, params: Mapping[str, Any]) -> Pair:
    train_set = _dataset(train, params, None)
    return train_set, None if valid is None else _dataset(valid, params, train_set)


def _dataset(rows: Rows, params: Mapping[str, Any], reference: lgb.Dataset | None) -> lgb.Dataset:
    params = dict(params)
    categorical = params.pop("categorical_feature")
    dataset = lgb.Dataset(
        [chunk.X for chunk in rows.chunks() if len(chunk.y)],
        label=np.zeros(rows.n_rows, np.float32),  # set for each fit
        weight=rows.weight(),
        reference=reference,
        categorical_feature=categorical if reference is None else "auto",
        params=params,
    )
    return dataset.construct()
