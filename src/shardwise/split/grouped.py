"""Folds by group: the rows of one customer, patient or machine are never on both sides."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa

from shardwise.core.errors import SchemaError
from shardwise.data.hashing import hash_rows
from shardwise.split.hashed import Shared, Shares, position_hashes
from shardwise.stats.hashes import hash_column, mix


class GroupSplitter(Shared):
    """By the hash of the group column; all rows of a group share a fold.

    A row without a group (null or NaN) is a group of its own: it goes by the hash of `key` columns where these are
    named, else by its position. Shares are shares of groups: with few or very unequal groups those of rows differ,
    which `check_folds` reports.
    """

    kind = "group"

    def __init__(self, group: str, *, key: Sequence[str] = (), shares: Shares | None = None, seed: int = 0) -> None:
        self.group = group
        self.key = tuple(key)
        self.columns = tuple(dict.fromkeys([group, *key]))
        self.shares = shares or Shares()
        self.seed = seed

    def assign(
        self, batch: pa.RecordBatch, first_row: int, hashes: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """Fold numbers int8 `(rows,)`; raises `SchemaError` when a column is missing."""
        if self.group not in batch.schema.names:
            raise SchemaError(f"there is no group column {self.group!r}", hint=f"There are: {batch.schema.names}.")
        column = batch.column(self.group)
        mixed = mix(hashes[self.group] if hashes else hash_column(column), self.seed)
        alone = column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
        if alone.any():
            own = self._own(batch, first_row, hashes)
            mixed = np.where(alone, own, mixed)
        return self.shares.assign(mixed)

    def _own(self, batch: pa.RecordBatch, first_row: int, hashes: Mapping[str, np.ndarray] | None) -> np.ndarray:
        if self.key:
            return hash_rows(batch, self.key, self.seed, hashes)
        return position_hashes(batch.num_rows, first_row, self.seed)

    def sealed(self) -> dict[str, Any]:
        """What decides which rows are of the test."""
        return {"kind": self.kind, "group": self.group, "key": list(self.key), "seed": self.seed}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(content["group"], key=content["key"], shares=Shares(**content["shares"]), seed=content["seed"])
