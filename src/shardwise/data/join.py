"""A further table, joined to batches by key, or by key and time; small enough to be held and to travel in a package."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import pyarrow as pa

from shardwise.core.errors import ConfigError, DataError, SchemaError, context
from shardwise.core.joins import JoinSpec
from shardwise.core.names import nearest
from shardwise.core.state import State
from shardwise.core.target import canonical
from shardwise.core.units import format_size
from shardwise.data.dataset import Dataset, TypeConflict, open_dataset
from shardwise.data.hashing import combine
from shardwise.stats.arrays import array_from_state, array_to_state, as_floats, plain
from shardwise.stats.hashes import hash_column

MOST_BYTES = 64_000_000  # of a joined table in memory


class Join:
    """Adds columns of a table to batches: `adds`, null where there is no partner; reads the columns `reads`.

    With a time the partner is the latest row of the key that is not later than the row; nulls have no partner.
    """

    def __init__(self, spec: JoinSpec, table: pa.Table) -> None:
        self.spec, self.reads = spec, spec.reads
        known = ~np.any([_nulls(table.column(name)) for name in spec.reads], axis=0)
        rows = _one_batch(table.filter(pa.array(known)))
        hashes, times = key_hashes(rows, spec.on), _times(rows, spec.time)
        order = np.lexsort((times, hashes))
        self._rows, hashes, times = rows.take(pa.array(order)), hashes[order], times[order]
        self._check_unique(hashes, times)
        self._keys, owner = np.unique(hashes, return_inverse=True)
        self._times = np.unique(times)
        self._ranked = owner * (len(self._times) + 1) + np.searchsorted(self._times, times)
        self._columns = {f"{spec.prefix}{name}": name for name in rows.schema.names if name not in spec.reads}
        self.adds = tuple(self._columns)

    def _check_unique(self, hashes: np.ndarray, times: np.ndarray) -> None:
        twice = np.flatnonzero((hashes[1:] == hashes[:-1]) & (times[1:] == times[:-1]))
        if not len(twice):
            return
        row = self._rows.slice(int(twice[0]), 1).select(list(self.reads)).to_pylist()[0]
        shown = ", ".join(f"{name} {value!r}" for name, value in row.items())
        raise DataError(
            f"{len(twice):,} rows of the joined table repeat a key, such as {shown}",
            hint="Give one row for each key: aggregate it first, or join by time as well.",
        )

    @property
    def fields(self) -> list[pa.Field]:
        """The columns that are added, with their types."""
        return [pa.field(name, self._rows.schema.field(own).type) for name, own in self._columns.items()]

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with the added columns behind its own."""
        partners = self._partners(batch)
        for name, own in self._columns.items():
            batch = batch.append_column(name, plain(self._rows.column(own).take(partners)))
        return batch

    def _partners(self, batch: pa.RecordBatch) -> pa.Array:
        """Int64 `(rows,)`: the row of the table that belongs to each, or null."""
        alone = np.any([_nulls(batch.column(name)) for name in self.reads], axis=0)
        if not len(self._keys):
            return pa.nulls(batch.num_rows, pa.int64())
        hashes, times = key_hashes(batch, self.spec.on), _times(batch, self.spec.time)
        place = np.minimum(np.searchsorted(self._keys, hashes), len(self._keys) - 1)
        first = place * (len(self._times) + 1)
        rank = np.searchsorted(self._times, times, side="right")  # times up to and with the row's own
        row = np.searchsorted(self._ranked, first + rank) - 1
        alone |= (self._keys[place] != hashes) | (row < 0) | (self._ranked[np.maximum(row, 0)] < first)
        return pa.array(np.maximum(row, 0), mask=alone)

    def state(self) -> State:
        columns = {
            name: array_to_state(column)
            for name, column in zip(self._rows.schema.names, self._rows.columns, strict=True)
        }
        return {"spec": {**self.spec.to_json(), "data": ""}, "names": self._rows.schema.names, "columns": columns}

    @classmethod
    def from_state(cls, state: State) -> Self:
        table = pa.table({name: array_from_state(state["columns"][name]) for name in state["names"]})
        return cls(JoinSpec.read({**state["spec"], "data": "(saved)"}), table)


def key_hashes(rows: pa.RecordBatch, columns: Sequence[str]) -> np.ndarray:
    """Uint64 `(rows,)` of the canonical spelling of key columns: 3, 3.0 and "3" are one key."""
    return combine({name: hash_column(canonical(rows.column(name))) for name in columns}, rows.num_rows)


def _times(rows: pa.RecordBatch, column: str | None) -> np.ndarray:
    """Seconds, or numbers as they are; NaN where null. All 0 without a time."""
    if column is None:
        return np.zeros(rows.num_rows)
    kind = rows.schema.field(column).type
    if not (pa.types.is_temporal(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        hint = "Give it a type of dates, timestamps or numbers with `types`."
        raise ConfigError(f"column {column!r} holds {kind} and is no time", hint=hint)
    return as_floats(rows.column(column))


def _nulls(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    nulls: np.ndarray = (
        column.is_null(nan_is_null=True).to_numpy()
        if isinstance(column, pa.ChunkedArray)
        else (column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False))
    )
    return nulls


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    arrays = [plain(column) for column in table.columns]
    return pa.RecordBatch.from_arrays(arrays, names=table.schema.names)


def load_join(spec: JoinSpec) -> tuple[Join, str]:
    """Read the table of a join, and the fingerprint of its files.

    Raises `DataError` for a table that is empty, larger than `MOST_BYTES` in memory, or repeats a key, and
    `SchemaError` when it lacks a column.
    """
    with context(join=spec.data):
        dataset = open_dataset(spec.data)
        for name in spec.reads:
            if name not in dataset.schema.names:
                message = f"the joined table has no column {name!r}"
                raise SchemaError(message, hint=nearest(name, dataset.schema.names))
        if len(dataset.schema) == len(spec.reads):
            raise SchemaError("the joined table has no column beside its key", hint="Join a table with more columns.")
        return Join(spec, _read(dataset)), dataset.fingerprint


def _read(dataset: Dataset) -> pa.Table:
    while True:
        try:
            return _read_all(dataset)
        except TypeConflict as conflict:
            dataset = dataset.widened(conflict.column)


def _read_all(dataset: Dataset) -> pa.Table:
    batches, held = [], 0
    for partition in dataset.partitions:
        for batch in dataset.read(partition):
            batches.append(batch)
            held += batch.nbytes
            if held > MOST_BYTES:
                raise DataError(
                    f"the joined table takes more than {format_size(MOST_BYTES)} in memory "
                    f"({format_size(dataset.size_bytes)} as stored)",
                    hint="Aggregate it first, or leave out columns: it travels in the package.",
                )
    if not sum(batch.num_rows for batch in batches):
        raise DataError("the joined table has no rows", hint="Check the path.")
    return pa.Table.from_batches(batches)
