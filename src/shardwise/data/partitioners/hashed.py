"""By the hash of one or several keys: rows with equal keys are together, the partitions are about even.

The number of the partition is (row hash of `data.hashing`, format 1, seed of the partitioner) modulo the count. It can
be computed by any engine from the table in `stats.hashes`, in any process and release. Splits use the upper bits of
hashes, partitions the lower ones, so that the folds of a split are found in all partitions.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa

from shardwise.data.hashing import hash_rows
from shardwise.data.partitioners.base import check_count, check_key


class HashPartitioner:
    """Equal keys go together; a null (or NaN) key is a key like any other.

    >>> by = HashPartitioner(("city",), 4)
    >>> by.assign(pa.record_batch({"city": ["Rome", "Oslo", "Rome", None]}), 0).tolist()
    [1, 0, 1, 3]
    """

    kind = "hash"

    def __init__(self, columns: Sequence[str], count: int, *, seed: int = 0) -> None:
        self.columns = tuple(columns)
        self.count = check_count(count)
        self.seed = seed

    def assign(self, batch: pa.RecordBatch, first_row: int) -> np.ndarray:  # noqa: ARG002
        """Partition numbers int32 `(rows,)`; raises `SchemaError` when a key column is missing."""
        check_key(self.columns, batch.schema.names)
        return (hash_rows(batch, self.columns, self.seed) % np.uint64(self.count)).astype(np.int32)

    def label(self, number: int) -> str:
        return f"hash({', '.join(self.columns)}) = {number}"

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "columns": list(self.columns), "count": self.count, "seed": self.seed}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(content["columns"], content["count"], seed=content["seed"])
