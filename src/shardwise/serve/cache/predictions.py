"""A predictor that remembers its answers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from shardwise.core.errors import BadInput
from shardwise.registry.package import Package
from shardwise.serve.cache.answers import Answers
from shardwise.serve.cache.base import Cache
from shardwise.serve.cache.keys import RowKeys
from shardwise.serve.predictor import BATCH_ROWS, Predictor, to_array

VERSION_DIGITS = 32


class CachedPredictor(Predictor):
    """A `Predictor` whose answers are kept in `cache`, by the hash of the package and the row.

    A row that was answered is answered with the same bytes; a new package has another hash, and so no old answers.
    Rows that the model refuses are remembered by `predict_one` for a minute. In a batch only the rows that are missing
    are computed; where a model's sums depend on the number of rows (linear algebra), they can differ in the last bits
    from those of the whole batch. `cache` never fails (`GuardedCache`, `ShardedCache`, `LocalCache`).
    """

    def __init__(self, package: Package, cache: Cache) -> None:
        super().__init__(package)
        self._keys = RowKeys(package.inputs, to_array)
        self._answers = Answers(cache, package.hash[:VERSION_DIGITS], self.target.outputs)

    @property
    def cache(self) -> Cache:
        return self._answers.cache

    def predict(self, batch: pa.RecordBatch | pa.Table) -> np.ndarray:
        self.check_columns(batch.schema)
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        pieces = table.select(self.columns).to_batches(max_chunksize=BATCH_ROWS)
        rows = [self._remembered(piece) for piece in pieces if piece.num_rows]
        return self._shaped(np.concatenate(rows)) if rows else super().predict(table)

    def scores_of_rows(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        keys = [self._keys.of_row(row) for row in rows]

        def compute(places: np.ndarray) -> np.ndarray:
            try:
                return self.computed([rows[place] for place in places])
            except BadInput as error:
                if len(rows) > 1:
                    error.context["row"] = int(places[int(str(error.context.get("row", 0)))])
                raise

        return self._answers.rows(keys, compute, refusals=len(rows) == 1)

    def _remembered(self, piece: pa.RecordBatch) -> np.ndarray:
        compute = super().predict
        return self._answers.rows(self._keys.of_batch(piece), lambda places: compute(piece.take(pa.array(places))))

    def _shaped(self, rows: np.ndarray) -> np.ndarray:
        return rows if self.labels else rows.reshape(-1)
