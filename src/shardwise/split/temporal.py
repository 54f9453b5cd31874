"""Folds by time: what is trained on lies before what is predicted (forward chaining)."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.errors import ConfigError, DataError, SchemaError
from shardwise.split.base import TEST, Fold
from shardwise.stats.arrays import as_floats

_ZONE = r"(Z|[+-]\d{2}:?\d{2})"
_ISO = rf"^\d{{4}}-\d{{2}}-\d{{2}}([T ]\d{{2}}:\d{{2}}(:\d{{2}}([.,]\d+)?)?\s*({_ZONE}|[+-]\d{{2}})?|\s*{_ZONE})?$"
_ZONED = rf"({_ZONE}|:\d{{2}}(\.\d+)?[+-]\d{{2}})$"
# What Arrow does not read of ISO 8601: a comma, more digits than microseconds, a space before the zone, a date with a
# zone; and how it reads them
_RARE = r",|\.\d{7}|\s[Z+-]|^.{10}[Z+-]"
_SPELLINGS = [
    (",", "."), (r"(\.\d{6})\d+", r"\1"), (r"\s+([Z+-]\S*)$", r"\1"), (rf"^(.{{10}}){_ZONE}$", r"\1T00:00\2"),
]  # fmt: skip
LEAST_BLOCK = 0.25  # of what was wanted of a block: with less it is one with the block before it


def time_values(column: pa.Array | pa.ChunkedArray, *, part: bool = False) -> np.ndarray:
    """When each row was, float64 `(rows,)`: seconds since 1970 UTC, or the number as it is; NaN = not known.

    Dates and timestamps (without a zone: taken as UTC), numbers, and text in ISO 8601. Text that is something else is
    not known; raises `DataError` when no text is a time, unless the rows are a `part` of the column, and when the type
    has no order.

    >>> time_values(pa.array(["1970-01-02", "1970-01-01T00:01:00Z", None])).tolist()
    [86400.0, 60.0, nan]
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _text_seconds(column, part)
    values = as_floats(column)
    return np.where(np.isfinite(values), values, np.nan)


def _text_seconds(texts: pa.Array, part: bool) -> np.ndarray:
    trimmed = pc.utf8_trim_whitespace(texts)
    iso = pc.match_substring_regex(trimmed, _ISO)
    if not part and len(texts) > texts.null_count and not pc.any(iso).as_py():
        raise DataError(f"{texts.drop_null()[0].as_py()!r} is not a time", hint="Write times in ISO 8601: 2024-01-31.")
    kept = pc.if_else(iso, trimmed, None)
    if pc.any(pc.match_substring_regex(kept, _RARE)).as_py():
        for pattern, spelling in _SPELLINGS:
            kept = pc.replace_substring_regex(kept, pattern, spelling)
    zoned = pc.match_substring_regex(kept, _ZONED)
    try:
        moments = [
            pc.cast(pc.cast(pc.if_else(choice, kept, None), kind), pa.timestamp("us"))
            for choice, kind in ((zoned, pa.timestamp("us", "UTC")), (pc.invert(zoned), pa.timestamp("us")))
        ]
    except pa.ArrowInvalid as error:
        raise DataError(f"a time cannot be read: {error}", hint="Write times in ISO 8601: 2024-01-31.") from error
    return as_floats(pc.coalesce(*moments))


class TemporalSplitter:
    """Blocks of time, cut at rising `cuts` (as `time_values` gives them): block i holds what is before `cuts[i]`.

    The last block is the test; the others are folds 0, 1, ... Each of the last `evaluated` folds (None: all but the
    first) is predicted by a model of all folds before it; the folds before those only give target encodings a past to
    look at. A row without a time goes to block 0, so that it is trained on and never scored. Rows of one moment
    are never torn apart.
    """

    kind = "temporal"

    def __init__(self, column: str, cuts: Sequence[float], evaluated: int | None = None) -> None:
        self.column = column
        self.columns: tuple[str, ...] = (column,)
        self.cuts = tuple(float(cut) for cut in cuts)
        if len(self.cuts) < 2 or not np.all(np.diff(self.cuts) > 0) or not np.isfinite(self.cuts).all():
            raise ConfigError(
                f"time cuts {list(cuts)} do not make three blocks",
                hint="Give at least two rising cuts: one before the validation block, one before the test.",
            )
        self.evaluated = len(self.cuts) - 1 if evaluated is None else evaluated
        if not 1 <= self.evaluated < len(self.cuts):
            raise ConfigError(
                f"{self.evaluated} folds cannot be evaluated",
                hint=f"Give 1 to {len(self.cuts) - 1}: one is trained on.",
            )
        if len(self.cuts) > 100:
            raise ConfigError(f"{len(self.cuts)} time cuts are too many", hint="Give at most 100.")

    def assign(
        self,
        batch: pa.RecordBatch,
        first_row: int,  # noqa: ARG002
        hashes: Mapping[str, np.ndarray] | None = None,  # noqa: ARG002
    ) -> np.ndarray:
        """Fold numbers int8 `(rows,)`; raises `SchemaError` when the column is missing."""
        if self.column not in batch.schema.names:
            raise SchemaError(f"there is no time column {self.column!r}", hint=f"There are: {batch.schema.names}.")
        values = time_values(batch.column(self.column), part=True)
        block = np.searchsorted(self.cuts, values, side="right")
        block[np.isnan(values)] = 0
        return np.where(block == len(self.cuts), TEST, block).astype(np.int8)

    def folds(self) -> tuple[Fold, ...]:
        """Train on all folds before, validate on the fold."""
        blocks = len(self.cuts)
        return tuple(Fold(train=tuple(range(i)), valid=(i,)) for i in range(blocks - self.evaluated, blocks))

    def visible(self, fold: int) -> tuple[int, ...]:
        """Earlier folds only."""
        return tuple(range(len(self.cuts) if fold == TEST else fold))

    def sealed(self) -> dict[str, Any]:
        """What decides which rows are of the test: that they are the last ones."""
        return {"kind": self.kind, "column": self.column}

    def to_json(self) -> dict[str, Any]:
        return {**self.sealed(), "cuts": list(self.cuts), "evaluated": self.evaluated}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(content["column"], content["cuts"], content.get("evaluated"))


def temporal_cuts(
    times: np.ndarray, weights: np.ndarray, *, folds: Sequence[float] = (1, 1, 1, 1), test_share: float = 0.2
) -> tuple[float, ...]:
    """Cuts that give the last block about `test_share` of the rows, and the blocks before it the rest as `folds` says.

    `times` are times that occur, in rising order, each of which stands for `weights` rows (see `Quantiles.weighted`). A
    cut lies where one of them begins, as near as can be to where it is wanted, so that no block is empty; where many
    rows share a time, there are fewer blocks. Raises `DataError` when there are less than three.
    """
    before = np.cumsum(weights) - weights
    times, first = np.unique(times, return_index=True)
    # the first of the rows that a value stands for is on average half of them before it
    begins = (before + (weights - 1) / 2)[first] / max(1.0, float(np.sum(weights)))
    times, begins = times[1:], begins[1:]  # before the earliest time there is nothing to train on
    if len(times) < 2 or not np.isfinite(times).all():
        raise DataError(
            "the time column has too few different times for training, validation and test",
            hint="It takes three at least; leave out the time column for a random split.",
        )
    wanted = (1.0 - test_share) * np.cumsum(folds) / np.sum(folds)
    return tuple(float(times[place]) for place in _places(begins, wanted))


def _places(begins: np.ndarray, wanted: np.ndarray) -> list[int]:
    """Which of the rising ranks `begins` come nearest to those that are `wanted`, each once, chosen from the last on.

    Left out is one whose block would have far fewer rows than wanted; two remain at least.
    """
    places = [1 + int(np.abs(begins[1:] - wanted[-1]).argmin())]
    for rank, following in zip(wanted[-2::-1], wanted[:0:-1], strict=True):
        if not places[0]:
            break
        place = int(np.abs(begins[: places[0]] - rank).argmin())
        block = begins[places[0]] - begins[place]
        if len(places) == 1 or block >= LEAST_BLOCK * (following - rank):
            places.insert(0, place)
    return places
