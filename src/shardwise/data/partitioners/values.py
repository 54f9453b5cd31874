"""By value: a partition for each value of a column, or for each year, month, day or hour of a date."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.errors import ConfigError, DataError, SchemaError
from shardwise.core.target import canonical
from shardwise.data.partitioners.base import Source, check_count, check_key
from shardwise.stats.arrays import plain

GRAINS = {"year": "%Y", "month": "%Y-%m", "day": "%Y-%m-%d", "hour": "%Y-%m-%d %H"}
MAX_VALUES = 10_000


class ValuePartitioner:
    """Partition i holds the rows whose key is spelled `values[i]`; the last one those without a key (null, NaN).

    With a `grain` (year, month, day, hour) the spelling is that of the period in UTC.

    >>> by = ValuePartitioner("day", ["2013-01", "2013-02"], grain="month")
    >>> by.assign(pa.record_batch({"day": pa.array(["2013-02-03", None]).cast(pa.date32())}), 0).tolist()
    [1, 2]
    """

    kind = "value"

    def __init__(self, column: str, values: Sequence[str], *, grain: str | None = None) -> None:
        self.columns: tuple[str, ...] = (column,)
        self.values = list(values)
        self.grain = grain
        self.count = check_count(len(self.values) + 1)

    def assign(self, batch: pa.RecordBatch, first_row: int) -> np.ndarray:  # noqa: ARG002
        """Partition numbers int32 `(rows,)`; raises `DataError` for a value that was not there when it was planned."""
        check_key(self.columns, batch.schema.names)
        words, codes = spell(batch.column(self.columns[0]), self.grain)
        places = pc.index_in(words, value_set=pa.array(self.values, pa.string()))
        if places.null_count:
            unknown = words.filter(places.is_null())[0].as_py()
            raise DataError(f"column {self.columns[0]!r} holds {unknown!r}, for which there is no partition",
                            hint="Append the rows with --append, which adds partitions for new values.")  # fmt: skip
        numbers = np.append(places.to_numpy(zero_copy_only=False), len(self.values))
        placed: np.ndarray = numbers[codes].astype(np.int32)
        return placed

    def label(self, number: int) -> str:
        name = f"{self.grain} of {self.columns[0]}" if self.grain else self.columns[0]
        return f"{self.columns[0]} is null" if number == len(self.values) else f"{name} = {self.values[number]}"

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "column": self.columns[0], "values": self.values, "grain": self.grain}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(content["column"], content["values"], grain=content["grain"])


def spell(array: pa.Array, grain: str | None) -> tuple[pa.Array, np.ndarray]:
    """Distinct spellings, and int64 `(rows,)` the place of each row's; that of a null is their number."""
    array = plain(array)
    if grain is not None:
        moments = pc.cast(array, pa.timestamp("us", tz=getattr(array.type, "tz", None)), safe=False)
        array = pc.floor_temporal(pc.cast(moments, pa.timestamp("us")), unit=grain)
    encoded = array.dictionary_encode()
    spelled = encoded.dictionary if grain is None else pc.strftime(encoded.dictionary, format=GRAINS[grain])
    again = canonical(spelled).dictionary_encode()  # 3 and 3.0 are one value
    codes = again.indices.take(encoded.indices) if len(again.dictionary) else pa.nulls(len(array), pa.int32())
    return again.dictionary, pc.fill_null(codes, len(again.dictionary)).to_numpy(zero_copy_only=False).astype(np.int64)


def plan_values(source: Source, column: str, grain: str | None = None, known: Sequence[str] = ()) -> ValuePartitioner:
    """A partition for each value that the data holds, in order, after those that are `known` from before.

    Raises `SchemaError` for a grain of what is no date, `ConfigError` for too many values.
    """
    kind = source.schema.field(column).type
    if grain is not None and not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        raise SchemaError(f"column {column!r} is {kind}: it has no {grain}",
                          hint=f"Name a column of dates, or partition by value:{column}.")  # fmt: skip
    found: set[str] = set()
    for _, batch in source.scan([column]):
        found.update(spell(batch.column(column), grain)[0].to_pylist())
        if len(found) > MAX_VALUES:
            raise ConfigError(f"column {column!r} has more than {MAX_VALUES:,} values",
                              hint=f"Put several together: hash:{column}:64 or range:{column}:64.")  # fmt: skip
    order = sorted(found - set(known), key=_natural)
    return ValuePartitioner(column, [*known, *order], grain=grain)


def _natural(text: str) -> tuple[int, float, str]:
    """Numbers by their size, before words."""
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)
