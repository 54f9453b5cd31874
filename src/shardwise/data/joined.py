"""A dataset with further tables joined to it: its schema and its batches have their columns too."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import pyarrow as pa

from shardwise.core.errors import SchemaError, context
from shardwise.core.joins import JoinSpec
from shardwise.core.names import nearest
from shardwise.data.base import Partition
from shardwise.data.dataset import BATCH_ROWS, Dataset
from shardwise.data.join import Join, load_join
from shardwise.data.readers.base import Batches


@dataclass(frozen=True, kw_only=True)
class JoinedDataset(Dataset):
    """Small and picklable like any dataset: each process reads the tables anew. `found` are their fingerprints."""

    specs: tuple[JoinSpec, ...]
    found: tuple[str, ...]

    @property
    def joins(self) -> tuple[Join, ...]:
        return tuple(_loaded(spec, mark) for spec, mark in zip(self.specs, self.found, strict=True))

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([*self._schema, *(field for join in self.joins for field in join.fields)])

    def read(self, partition: Partition, columns: Sequence[str] | None = None, batch_rows: int = BATCH_ROWS) -> Batches:
        """As `Dataset.read`; a table is looked into only where one of its columns is asked for."""
        wanted = set(self.schema.names if columns is None else columns)
        needed, used = needed_joins(self.joins, wanted)
        own = [name for name in self._schema.names if name in needed]
        batches = super().read(partition, own, batch_rows)
        if not used:
            return batches
        names = [name for name in self.schema.names if name in wanted]
        joined = Batches()
        joined.source = _joined(batches, used, names, joined)
        return joined

    def widened(self, column: str, value: str | None = None) -> Dataset:
        return join_tables(super().widened(column, value), self.specs)


def joins_of(dataset: Dataset) -> tuple[Join, ...]:
    """The tables that are joined to a dataset, in order."""
    return dataset.joins if isinstance(dataset, JoinedDataset) else ()


def needed_joins(joins: Sequence[Join], wanted: set[str]) -> tuple[set[str], list[Join]]:
    """The columns that must be read to have all that are `wanted`, and the joins that give the rest, in order."""
    needed, used = set(wanted), []
    for join in reversed(joins):
        if needed.intersection(join.adds):
            needed = needed.difference(join.adds) | set(join.reads)
            used.append(join)
    return needed, used[::-1]


def _joined(batches: Batches, joins: Sequence[Join], names: Sequence[str], told: Batches) -> Iterator[pa.RecordBatch]:
    """Batches with the columns of the joins; rows that were skipped before are `told`."""
    for batch in batches:
        told.skipped_rows = batches.skipped_rows
        for join in joins:
            batch = join.apply(batch)
        yield batch.select(names)


def join_tables(dataset: Dataset, specs: Sequence[JoinSpec]) -> Dataset:
    """The dataset with tables joined to it, one after the other; a later one may use columns of an earlier one as key.

    Raises `SchemaError` where a key is missing or a column has the name of another, `DataError` as `load_join` does.
    """
    if not specs:
        return dataset
    found, names = [], list(dataset.schema.names)
    for spec in specs:
        with context(join=spec.data):
            for name in spec.reads:
                if name not in names:
                    raise SchemaError(f"the data has no column {name!r} to join by", hint=nearest(name, names))
            join, mark = load_join(spec)
            twice = next((name for name in join.adds if name in names), None)
            if twice is not None:
                hint = "Give the join a prefix, such as prefix: other_."
                raise SchemaError(f"the joined table has a column {twice!r}, as the data has", hint=hint)
            names += join.adds
            found.append(mark)
    mark = hashlib.blake2b(repr([dataset.fingerprint, found]).encode(), digest_size=12).hexdigest()
    known = {field.name: getattr(dataset, field.name) for field in fields(Dataset)}
    return JoinedDataset(**{**known, "fingerprint": mark}, specs=tuple(specs), found=tuple(found))


@lru_cache(maxsize=8)
def _loaded(spec: JoinSpec, mark: str) -> Join:
    """The table, once in each process; raises `SchemaError` when its files have changed since."""
    join, found = load_join(spec)
    if found != mark:
        raise SchemaError("the joined table has changed since the run began", hint="Start again.", join=spec.data)
    return join
