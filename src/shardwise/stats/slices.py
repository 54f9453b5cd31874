"""Scores of parts of the rows: of each category of a column, or of each fifth of a numeric one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.errors import DataError
from shardwise.core.target import canonical
from shardwise.stats.intervals import Interval, interval_around
from shardwise.stats.metrics import Metric, Pairs

MISSING, OTHER = "(missing)", "(other)"


@dataclass(frozen=True, kw_only=True)
class SliceConfig:
    """At most `top` parts of a column; parts below `min_rows` rows, or below `min_share` of all, are merged."""

    top: int = 10
    bins: int = 5
    min_rows: int = 100
    min_share: float = 0.01
    resamples: int = 100
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The score of the rows whose `column` has a `value`: a category, a range `a to b`, missing, or all others."""

    column: str
    value: str
    rows: int
    score: Interval

    def to_json(self) -> dict[str, Any]:
        """`{"column", "value", "rows", "score", "low", "high"}`; what is not known is None."""
        score = self.score.to_json()
        return {
            "column": self.column,
            "value": self.value,
            "rows": self.rows,
            "score": score["value"],
            "low": score["low"],
            "high": score["high"],
        }


def slice_values(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A column as what can be sliced: float64 `(rows,)`, NaN = missing, or objects `(rows,)`: text, None = missing.

    Dates and timestamps become their month, `2013-07`. Raises `DataError` for nested types.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    kind = column.type
    if pa.types.is_nested(kind):
        raise DataError(f"values of type {kind} cannot be sliced", hint="Choose a column of numbers, text or dates.")
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers: np.ndarray = pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return np.where(np.isfinite(numbers), numbers, np.nan)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        column = pc.strftime(pc.cast(column, pa.timestamp("s"), safe=False), format="%Y-%m")
    texts: np.ndarray = canonical(column).to_numpy(zero_copy_only=False)
    return texts


def evaluate_slices(
    metric: Metric,
    pairs: Pairs,
    columns: Mapping[str, np.ndarray],
    *,
    config: SliceConfig | None = None,
    units: np.ndarray | None = None,
    how: Mapping[str, Any] | None = None,
) -> list[Slice]:
    """The metric with its interval for the parts of each column, greatest part first.

    `columns` are as `slice_values` gives them, one value for each of the pairs; `units` say which of these depend on
    each other. `how` is what `interval_around` takes besides: quantile, looks, and the share that the pairs are of all
    rows, whose number is then told by that share.
    """
    config, how = config or SliceConfig(), {"quantile": 0.5, "share": 1.0, **(how or {})}
    found = []
    for column, values in columns.items():
        for label, rows in slice_parts(values, config):
            part = pairs.take(rows)
            own = None if units is None else np.unique(units[rows], return_inverse=True)[1]
            value = metric.of(part, how["quantile"])
            score = interval_around(metric, value, part, resamples=config.resamples, seed=config.seed, units=own, **how)
            found.append(Slice(column=column, value=label, rows=round(len(part) / how["share"]), score=score))
    return found


def slice_parts(values: np.ndarray, config: SliceConfig) -> Iterator[tuple[str, np.ndarray]]:
    """Labels, and the numbers of the rows that have them; small parts are merged into one."""
    codes, labels = _coded(values, config)
    counts = np.bincount(codes, minlength=len(labels))
    ranked = sorted(range(len(labels)), key=lambda code: (-counts[code], labels[code]))
    least = max(config.min_rows, config.min_share * len(values))
    kept = [code for code in ranked if counts[code] >= least][: config.top]
    rest = np.flatnonzero(~np.isin(codes, kept))
    for code in kept:
        yield labels[code], np.flatnonzero(codes == code)
    if len(rest) >= min(config.min_rows, len(values)) > 0:
        yield OTHER, rest


def _coded(values: np.ndarray, config: SliceConfig) -> tuple[np.ndarray, list[str]]:
    """Codes `(rows,)` into a list of labels."""
    if values.dtype.kind != "f":
        encoded = pa.array(values, pa.string()).dictionary_encode()
        labels = [*encoded.dictionary.to_pylist(), MISSING]
        codes = pc.fill_null(encoded.indices, len(labels) - 1)
        return np.asarray(codes.to_numpy(zero_copy_only=False), dtype=np.int64), labels
    missing = np.isnan(values)
    distinct = np.unique(values[~missing])
    if len(distinct) <= config.top:
        codes, labels = np.searchsorted(distinct, values), [f"{value:g}" for value in distinct]
    else:
        codes, labels = _binned(values, missing, config.bins)
    return np.where(missing, len(labels), codes), [*labels, MISSING]


def _binned(values: np.ndarray, missing: np.ndarray, bins: int) -> tuple[np.ndarray, list[str]]:
    edges = np.unique(np.quantile(values[~missing], np.arange(bins + 1) / bins))
    codes = np.searchsorted(edges[1:-1], values, side="left")
    return codes, [f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges)]
