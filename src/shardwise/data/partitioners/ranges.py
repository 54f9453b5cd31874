"""By ranges of one key: numbers, dates, strings; the partitions are about even, or have the bounds that were given.

Partition i holds the keys from bound i - 1 (included) to bound i (excluded). Nulls and NaN come last, as DuckDB sorts
them: in the last partition, or in as many of their own as they fill and for the rest in the one before, drawn by row
number. A key that occurs in
more rows than a partition should have gets a partition nearly to itself, as equal keys are never torn apart.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.errors import ConfigError
from shardwise.data.partitioners.base import Source, check_count, check_key
from shardwise.data.partitioners.keys import TEXT, as_order, order_of, parse_bound, search_texts, show_bound
from shardwise.data.partitioners.remade import salts
from shardwise.data.sample import RowSample
from shardwise.stats.arrays import plain
from shardwise.stats.hashes import mix
from shardwise.stats.quantiles import Quantiles

SKETCH_CAPACITY = 16_384  # a rank is off by about 0.005 % of the rows: 0.3 % of one of 64 partitions
SAMPLE_ROWS_EACH, SAMPLE_ROWS_MOST = 8_192, 1 << 20  # strings sampled for each partition: off by 1.1 % of one

DRAWS = 1_000_000  # of the nulls: how finely they are shared out
LEAST_REST = 0.01  # of a partition, for which nulls are not spread to one more
Bound = float | str


def even_cuts(weights: np.ndarray, parts: int) -> list[int]:
    """Places, at most `parts` - 1 and rising, at which a row of groups is cut into parts of about equal weight.

    Groups stay whole. One that is heavier than an even part has a part to itself, and the other parts share the rest.

    >>> even_cuts(np.array([1, 1, 1, 1]), 2), even_cuts(np.array([1, 1, 9, 1]), 3)
    ([2], [2, 3])
    """
    heavy = _heavy(weights, parts)
    ends = sorted({0, len(weights), *heavy, *(place + 1 for place in heavy)})
    runs = list(pairwise(ends))
    if not heavy or len(runs) > parts:
        return _cut_run(weights, parts)
    shares = [1] * len(runs)
    loads = [0.0 if start in heavy else float(weights[start:stop].sum()) for start, stop in runs]
    for _ in range(parts - len(runs)):
        shares[max(range(len(runs)), key=lambda run: loads[run] / shares[run])] += 1
    inner = [
        start + cut
        for (start, stop), share in zip(runs, shares, strict=True)
        for cut in _cut_run(weights[start:stop], share)
    ]
    return sorted({*inner, *ends[1:-1]})


def _heavy(weights: np.ndarray, parts: int) -> set[int]:
    """Groups that are heavier than an even part of what the heavier ones leave."""
    heavy: set[int] = set()
    rest = float(weights.sum())
    for place in np.argsort(-weights, kind="stable")[: parts - 1].tolist():
        if weights[place] <= rest / (parts - len(heavy)):
            break
        heavy.add(place)
        rest -= float(weights[place])
    return heavy


def _cut_run(weights: np.ndarray, parts: int) -> list[int]:
    """The same one part after the other; what one takes beyond its share is taken off those that follow."""
    sums = np.concatenate([[0.0], np.cumsum(weights, dtype=np.float64)])
    cuts, start = [], 0
    for left in range(parts, 1, -1):
        want = sums[start] + (sums[-1] - sums[start]) / left
        at = int(np.searchsorted(sums, want))  # sums[at - 1] < want <= sums[at]
        if at - 1 > start and want - sums[at - 1] < sums[at] - want:
            at -= 1
        if at >= len(weights):
            break
        cuts.append(at)
        start = at
    return cuts


class RangePartitioner:
    """Ranges of one column between `bounds`; nulls have the last `null_parts` partitions to themselves, or share one.

    Beside these `null_rest`, a share of the nulls, is in the last range: what is left when they fill their own.
    `bounds` are float64 in the order of the keys (see `partitioners.keys`), or strings.

    >>> by = RangePartitioner("age", [30.0, 60.0], order="number")
    >>> by.assign(pa.record_batch({"age": [29, 30, None, 90]}), 0).tolist(), by.label(1)
    ([0, 1, 2, 2], 'age from 30 to 60')
    """

    kind = "range"

    def __init__(
        self, column: str, bounds: Sequence[Bound], *, order: str, null_parts: int = 0, null_rest: float = 0.0
    ) -> None:
        self.columns: tuple[str, ...] = (column,)
        self.bounds = list(bounds)
        self.order = order
        self.null_parts = null_parts
        self.null_rest = null_rest
        self.count = check_count(len(self.bounds) + 1 + null_parts)

    def assign(self, batch: pa.RecordBatch, first_row: int) -> np.ndarray:
        """Partition numbers int32 `(rows,)`; raises `SchemaError` when the key is missing."""
        check_key(self.columns, batch.schema.names)
        array = batch.column(self.columns[0])
        last = self.count - max(1, self.null_parts)
        if self.order == TEXT:
            encoded = plain(array).dictionary_encode()
            places = np.append(search_texts([str(bound) for bound in self.bounds], encoded.dictionary), last)
            codes = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy()
            numbers: np.ndarray = places[codes].astype(np.int32)
            missing = codes == len(encoded.dictionary)
        else:
            keys = as_order(array, self.order)
            numbers = np.searchsorted(np.asarray(self.bounds, dtype=np.float64), keys, side="right").astype(np.int32)
            missing = np.isnan(keys)
            numbers[missing] = last
        if missing.any() and (self.null_parts > 1 or self.null_rest):
            numbers[missing] += self._pieces(len(array), first_row)[missing]
        return numbers

    def _pieces(self, rows: int, first_row: int) -> np.ndarray:
        """For each row, were it null, the piece of the nulls int32 `(rows,)`: from 0 on, or -1 for the last range."""
        if not self.null_rest:
            return salts(rows, first_row, np.full(rows, self.null_parts))
        drawn = salts(rows, first_row, np.full(rows, DRAWS))
        rest = round(self.null_rest * DRAWS)
        return np.where(drawn < rest, -1, (drawn - rest) * self.null_parts // (DRAWS - rest)).astype(np.int32)

    def label(self, number: int) -> str:
        column = self.columns[0]
        if self.null_parts and number >= len(self.bounds) + 1:
            piece = f", piece {number - len(self.bounds)} of {self.null_parts}" if self.null_parts > 1 else ""
            return f"{column} is null{piece}"
        shown = [show_bound(bound, self.order) for bound in self.bounds]
        low = f" from {shown[number - 1]}" if number > 0 else ""
        high = f" to {shown[number]}" if number < len(shown) else " and some nulls" * bool(self.null_rest)
        return f"{column}{low}{high}" if low or high else f"{column}, all"

    def to_json(self) -> dict[str, Any]:
        rest = {"null_rest": self.null_rest} if self.null_rest else {}
        return {"kind": self.kind, "column": self.columns[0], "bounds": self.bounds, "order": self.order,
                "null_parts": self.null_parts, **rest}  # fmt: skip

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(content["column"], content["bounds"], order=content["order"], null_parts=content["null_parts"],
                   null_rest=content.get("null_rest", 0.0))  # fmt: skip


def given_ranges(source: Source, column: str, texts: Sequence[str]) -> RangePartitioner:
    """Ranges between bounds that were typed; raises `ConfigError` for one of a wrong type, or out of order."""
    order = order_of(source.schema.field(column).type, column)
    bounds = [parse_bound(text, order, column) for text in texts]
    for before, after, text in zip(bounds, bounds[1:], texts[1:], strict=False):
        if not before < after:  # type: ignore[operator]
            raise ConfigError(f"bound {text!r} does not lie above the one before it", hint="Give them in rising order.")
    return RangePartitioner(column, bounds, order=order)


def even_ranges(source: Source, column: str, count: int) -> RangePartitioner:
    """Ranges of about equal rows, planned in one pass over the key: by the quantile sketch, of strings by a sample."""
    order = order_of(source.schema.field(column).type, column)
    gather = _gather_texts if order == TEXT else _gather_numbers
    values, weights, nulls = gather(source, column, check_count(count))
    even = (float(weights.sum()) + nulls) / count
    null_parts = min(count - 1, int(nulls / even)) if nulls >= even and len(values) else 0
    if not null_parts:  # a few nulls count for the last partition, as if they were its greatest keys
        weighted = np.append(weights, nulls) if nulls else weights
        bounds = [values[at] for at in even_cuts(weighted, count) if at < len(values)]
        return RangePartitioner(column, bounds, order=order)
    rest = nulls - null_parts * even
    rest = rest if rest > LEAST_REST * even else 0.0
    weighted = np.append(weights[:-1], weights[-1] + rest)
    bounds = [values[at] for at in even_cuts(weighted, count - null_parts)]
    return RangePartitioner(column, bounds, order=order, null_parts=null_parts, null_rest=round(rest / nulls, 6))


def _gather_numbers(source: Source, column: str, count: int) -> tuple[list[float], np.ndarray, float]:
    """Distinct values in rising order with the rows that each stands for, and the nulls."""
    sketch, nulls, infinite = Quantiles(capacity=max(SKETCH_CAPACITY, 64 * count)), 0, [0, 0]
    order = order_of(source.schema.field(column).type, column)
    for _, batch in source.scan([column]):
        keys = np.sort(as_order(batch.column(column), order))  # NaN last
        known = keys[: len(keys) - int(np.isnan(keys).sum())]
        nulls += len(keys) - len(known)
        below, above = np.searchsorted(known, -math.inf, "right"), np.searchsorted(known, math.inf, "left")
        infinite = [infinite[0] + int(below), infinite[1] + len(known) - int(above)]
        sketch.add_sorted(known[below:above])
    values, weights = sketch.weighted()
    distinct, places = np.unique(values, return_inverse=True)
    rows = np.bincount(places, weights=weights, minlength=len(distinct))
    ends = [(-math.inf, infinite[0])] * bool(infinite[0]), [(math.inf, infinite[1])] * bool(infinite[1])
    kept = [*ends[0], *zip(distinct.tolist(), rows.tolist(), strict=True), *ends[1]]
    return [value for value, _ in kept], np.array([weight for _, weight in kept]), nulls


def _gather_texts(source: Source, column: str, count: int) -> tuple[list[str], np.ndarray, float]:
    """The same of strings, from a sample; weights are rows."""
    schema = pa.schema([pa.field(column, pa.string())])
    sample = RowSample(schema, capacity=min(SAMPLE_ROWS_MOST, max(SAMPLE_ROWS_EACH * count, 65_536)))
    nulls = 0
    for first_row, batch in source.scan([column]):
        texts = plain(batch.column(column)).cast(pa.string())
        nulls += texts.null_count
        texts = texts.drop_null()
        numbers = np.arange(first_row, first_row + len(texts), dtype=np.uint64)
        sample.add(pa.RecordBatch.from_arrays([texts], schema=schema), mix(numbers, source.seed))
    table = sample.table()
    if not table.num_rows:
        return [], np.zeros(0), nulls
    counted = table.column(column).combine_chunks().value_counts()
    ranks = pc.sort_indices(counted.field("values"))
    weights = counted.field("counts").take(ranks).to_numpy() * (sample.seen / table.num_rows)
    return counted.field("values").take(ranks).to_pylist(), weights, nulls
