"""The profile of a dataset: one pass, partition by partition, merged."""

import math
from collections.abc import Iterable
from copy import copy
from typing import Any, Self

import numpy as np
import pyarrow as pa

from shardwise.core.errors import DataError, SchemaError, context
from shardwise.core.schema import schema_from_json, schema_to_json
from shardwise.core.state import State
from shardwise.data.blocks import are_blocks
from shardwise.data.column_profile import TEMPORAL, ColumnProfile, Limits
from shardwise.data.hashing import HashedBatch, combine
from shardwise.data.profile_blocks import add_blocks
from shardwise.data.sample import RowSample
from shardwise.stats.arrays import plain
from shardwise.stats.distinct import Distinct

SAMPLE_ROWS = 50_000
SAMPLE_CELLS = 8_000_000
FORMAT = 1
_ROW_HASHES = 16_384
_RANKS = np.linspace(0.0, 1.0, 41)
_TOP_SHOWN = 20


class Profile:
    """Statistics of every column of a schema, of duplicate rows, and a uniform sample of rows. A `stats.base.Summary`.

    Bounded in size whatever the rows: see `Limits` per column, and `sample_rows` (by default 50,000, fewer where that
    were more than 8 million cells). The profile of one partition that has `share` of all rows keeps as much less of a
    sample; merged into one of share 1 it is as good. Columns that are not in the schema are not looked at. The result
    does not depend on where batches are cut, beyond the errors that the sketches state; that of partitions merged in
    order is the same on any number of workers.

    >>> profile = Profile(pa.schema({"city": pa.string(), "age": pa.int64()}))
    >>> profile.update(pa.record_batch({"city": ["Rome", "Rome", None], "age": [30, 30, 40]}))
    >>> profile.rows, profile.duplicate_rows, profile.columns["city"].top, profile.columns["age"].mean
    (3, 1.0, [('Rome', 2)], 33.333333333333336)
    """

    def __init__(
        self, schema: pa.Schema, *, capacity: int = 10_000, sample_rows: int | None = None, share: float = 1.0
    ) -> None:
        self.schema = schema = pa.schema([pa.field(field.name, field.type) for field in schema])  # no metadata
        self._capacity = capacity
        self.limits = Limits.of(len(schema), capacity)
        most = max(100, min(SAMPLE_ROWS, SAMPLE_CELLS // max(1, len(schema)))) if sample_rows is None else sample_rows
        self.sample_rows = min(most, math.ceil(1.5 * share * most) + 200)
        self.rows = 0
        self.size_bytes = 0  # in memory, as Arrow
        self.columns: dict[str, ColumnProfile] = {}
        for field in schema:
            with context(column=field.name):
                self.columns[field.name] = ColumnProfile(field.name, field.type, limits=self.limits)
        self._distinct_rows = Distinct(capacity=_ROW_HASHES)
        self._sample = RowSample(schema, capacity=self.sample_rows)

    def update(self, batch: pa.RecordBatch) -> None:
        """Add a batch; raises `SchemaError` when a column is missing or of another type."""
        self.add(HashedBatch.of(self._columns_of(batch)))

    def add(self, cells: HashedBatch) -> None:
        """Add a batch with the columns and types of the schema, whose cells are hashed already."""
        batch = cells.batch.select(self.schema.names)
        self.rows += batch.num_rows
        columns, arrays = list(self.columns.values()), batch.columns
        done = add_blocks(columns, arrays, cells.hashes) if are_blocks(len(columns), batch.num_rows) else {}
        self.size_bytes += sum(done.values())
        for place, (array, column) in enumerate(zip(arrays, columns, strict=True)):
            if place not in done:
                self.size_bytes += column.update(array, cells.hashes[column.name])
        hashes = combine({name: cells.hashes[name] for name in self.columns}, batch.num_rows)
        self._distinct_rows.add(hashes)
        self._sample.add(batch, hashes)

    def _columns_of(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        given = dict(zip(batch.schema.names, batch.columns, strict=True))
        for field in self.schema:
            if field.name not in given:
                raise SchemaError(f"a batch has no column {field.name!r}", hint=f"It has: {batch.schema.names}.")
            if given[field.name].type != field.type:
                found = given[field.name].type
                raise SchemaError(
                    f"column {field.name!r} holds {found}, the profile was begun with {field.type}",
                    hint="Cast the column, or profile the files apart.",
                )
        # a dictionary that was given may hold a word twice
        return pa.RecordBatch.from_arrays([plain(given[name]) for name in self.schema.names], self.schema.names)

    def copy(self) -> Self:
        """One that is counted on by itself."""
        other = copy(self)
        other.columns = {name: column.copy() for name, column in self.columns.items()}
        other._distinct_rows, other._sample = self._distinct_rows.copy(), self._sample.copy()
        return other

    def merge(self, other: Self) -> None:
        """Add the profile of other rows; raises `SchemaError` when its columns are others."""
        if not self.schema.equals(other.schema):
            raise SchemaError("profiles of different schemas cannot be merged", hint=f"{self.schema} / {other.schema}")
        self.rows += other.rows
        self.size_bytes += other.size_bytes
        for name, column in self.columns.items():
            column.merge(other.columns[name])
        self._distinct_rows.merge(other._distinct_rows)
        self._sample.merge(other._sample)

    @property
    def distinct_rows(self) -> float:
        """Different rows; an estimate beyond 16,384, with a standard error of 0.8 %."""
        return min(float(self.rows), self._distinct_rows.estimate)

    @property
    def duplicate_rows(self) -> float:
        """Rows beyond the first of each kind; 0.0 exactly when there are none."""
        share = self._distinct_rows.unique_share
        return 0.0 if math.isnan(share) else float(round(self.rows * (1.0 - share)))

    def smallest_hashes(self, count: int) -> list[int]:
        """Of all rows, by content; rising."""
        return self._distinct_rows.smallest(count)

    def sample(self) -> pa.Table:
        """Rows drawn uniformly, in random but fixed order; all rows when there are no more than `sample_rows`."""
        return self._sample.table()

    def result(self) -> Self:
        return self

    def state(self) -> State:
        return {
            "format": FORMAT,
            "schema": schema_to_json(self.schema),
            "capacity": self._capacity,
            "sample_rows": self.sample_rows,
            "rows": self.rows,
            "size_bytes": self.size_bytes,
            "columns": [column.state() for column in self.columns.values()],
            "distinct_rows": self._distinct_rows.state(),
            "sample": self._sample.state(),
        }

    @classmethod
    def from_state(cls, state: State) -> Self:
        """Inverse of `state`; raises `DataError` for another format."""
        if state.get("format") != FORMAT:
            raise DataError(f"a profile of format {state.get('format')!r}, {FORMAT} is known", hint="Profile anew.")
        schema = schema_from_json(state["schema"])
        profile = cls(schema, capacity=state["capacity"], sample_rows=state["sample_rows"])
        profile.rows, profile.size_bytes = state["rows"], state["size_bytes"]
        for field, column in zip(schema, state["columns"], strict=True):
            restored = ColumnProfile.from_state(field.name, str(field.type), column, limits=profile.limits)
            profile.columns[field.name] = restored
        profile._distinct_rows = Distinct.from_state(state["distinct_rows"])
        profile._sample = RowSample.from_state(schema, state["sample"])
        return profile

    def to_json(self) -> dict[str, Any]:
        """The profile as JSON values, keys in a fixed order, what is not defined as null."""
        return {
            "rows": self.rows,
            "size_bytes": self.size_bytes,
            "duplicate_rows": self.duplicate_rows,
            "distinct_rows": self.distinct_rows,
            "columns": self.described(self.columns),
        }

    def described(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """These columns as JSON values, as `to_json` has them."""
        return [_column_json(self.columns[name]) for name in names]


def _column_json(column: ColumnProfile) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "name": column.name,
        "type": column.type,
        "group": column.group,
        "count": column.count,
        "nulls": column.nulls,
        "nans": column.nans,
        "infinities": column.infinities,
        "distinct": round(column.distinct, 1),
        "distinct_error": round(column.distinct_error, 4),
        "minimum": _json_value(column.minimum),
        "maximum": _json_value(column.maximum),
    }
    if column.group == "string":
        facts |= {
            "mean_length": column.mean_length,
            "mean_words": column.mean_words,
            "empty": column.text.empty,
            "time_format": column.time_format,
        }
    elif column.moments.count:
        facts |= _numbers_json(column)
    return facts | {
        "top": [[text[:200], count] for text, count in column.top[:_TOP_SHOWN]],
        "top_exact": column.top_exact,
        "top_error": column.top_error,
        "flags": list(column.flags),
    }


def _numbers_json(column: ColumnProfile) -> dict[str, Any]:
    quantiles = [_finite(value) for value in column.quantiles(_RANKS).tolist()]
    if column.group in TEMPORAL:  # seconds: the moments of times are no use to a reader
        return {"quantiles": quantiles}
    return {
        "mean": _finite(column.mean),
        "std": _finite(column.std),
        "skewness": _finite(column.skewness),
        "kurtosis": _finite(column.kurtosis),
        "zeros": column.zeros,
        "negatives": column.negatives,
        "quantiles": quantiles,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _json_value(value: Any) -> Any:
    """A minimum or maximum: numbers as they are, dates in ISO 8601, decimals and the rest as text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)[:200]
