"""Numbers: float32 with NaN for missing, centred first where float32 would lose what distinguishes the values.

Infinities read as the finite extremes of the training rows (so do values that float32 cannot hold): NaN would call them
missing, which they are not. Text that is no number is an error, never a silent zero.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.errors import SchemaError
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.state import State
from shardwise.features.base import Cell
from shardwise.features.columns import ColumnProfile, ProfileOnly

MISSING_WORDS = ("", "na", "n/a", "nan", "null", "none", "-", "?")
_RANKS = np.linspace(0.0, 1.0, 401)
LARGEST = float(np.finfo(np.float32).max)


class Number(ProfileOnly):
    """One column of numbers, booleans, decimals, durations or text that holds numbers.

    Writes `x / unit - offset`; `offset` is 0 and `unit` 1 unless float32 would lose information. A second feature
    flags missing values when the training rows have enough of them.
    """

    def __init__(self, column: str, content: Mapping[str, Any]) -> None:
        self.reads: tuple[str, ...] = (column,)
        self._offset, self._unit = float(content["offset"]), float(content["unit"])
        self._low, self._high = float(content["low"]), float(content["high"])
        self._features = tuple(Feature.from_json(feature) for feature in content["features"])

    @classmethod
    def plan(cls, column: str, profile: ColumnProfile) -> Self:
        grid = _grid(profile)
        low, high = _extremes(profile, grid)
        offset, unit = affine(profile, grid, low, high)
        known = profile.std and np.isfinite(profile.std) and profile.std > 0
        features = [describe(column, column, grid / unit - offset, float(profile.std) / unit if known else 1.0)]
        if min(profile.nulls, profile.count - profile.nulls) >= max(10, 0.002 * profile.count):
            flag = Feature(name=f"{column}:missing", source=column, kind=FeatureKind.FLAG, redundant=True)
            features.append(flag)
        return cls(
            column,
            {
                "offset": offset,
                "unit": unit,
                "low": min(max(low / unit - offset, -LARGEST), LARGEST),
                "high": min(max(high / unit - offset, -LARGEST), LARGEST),
                "features": [feature.to_json() for feature in features],
            },
        )

    def output(self) -> Sequence[Feature]:
        return self._features

    def write(self, batch: pa.RecordBatch, out: np.ndarray) -> None:
        cells, plain = batch.column(self.reads[0]), not self._offset and self._unit == 1.0
        if plain and pa.types.is_float32(cells.type) and not cells.null_count:
            values = cells.to_numpy()
        else:
            values = read_numbers(cells, self.reads[0])
        if not plain:
            values = values / self._unit - self._offset
        column = out[:, 0]
        with np.errstate(over="ignore"):
            np.copyto(column, values, casting="unsafe")
        infinite = np.isinf(column)
        if infinite.any():
            column[infinite] = np.where(column[infinite] > 0, self._high, self._low)
        if len(self._features) > 1:
            np.isnan(column, out=out[:, 1], casting="unsafe")

    def cell(self, kind: pa.DataType) -> Cell | None:
        read = number_reader(kind)
        if read is None:
            return None
        offset, unit, flagged = self._offset, self._unit, len(self._features) > 1
        plain = not offset and unit == 1.0

        def cell(value: Any) -> Sequence[float] | None:
            number = read(value)
            if number is None:
                return None
            if not plain:
                number = number / unit - offset
            if not abs(number) <= LARGEST and number == number:
                return None
            return (number, number != number) if flagged else (number,)

        return cell

    def state(self) -> State:
        return {
            "column": self.reads[0],
            "offset": self._offset,
            "unit": self._unit,
            "low": self._low,
            "high": self._high,
            "features": [feature.to_json() for feature in self._features],
        }

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls(state["column"], state)


def affine(profile: ColumnProfile, grid: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Offset and unit that keep float32 faithful; (0, 1) when it is so already.

    A float32 has 24 bits: near x it is off by up to |x| * 2**-24. That is too much when it blurs whole numbers, or more
    than a thousandth of the spread (identifiers, epochs, coordinates in millimetres).
    """
    magnitude = max(abs(low), abs(high))
    unit = magnitude if magnitude > 1e30 else 1.0
    grid, error = grid / unit, magnitude / unit * 2.0**-24
    whole = unit == 1.0 and str(profile.type).startswith(("int", "uint", "decimal", "duration"))
    spread = _spread(grid)
    blurred = (whole and error > 0.5) or (spread > 0 and error > 1e-3 * spread)
    if not blurred:
        return 0.0, unit
    center = float(np.median(grid))
    return float(np.round(center)) if whole else center, unit


def _grid(profile: ColumnProfile) -> np.ndarray:
    """Quantiles at even ranks, finite; zeros when there is none."""
    if profile.group == "string":  # numbers as text have no quantiles: take their heaviest values
        found = [(float(text), count) for text, count in profile.top if is_number(text)]
        order = sorted(found) or [(0.0, 1)]
        ends = np.cumsum([count for _, count in order])
        places = np.searchsorted(ends, _RANKS * ends[-1])
        grid = np.array([number for number, _ in order])[np.minimum(places, len(order) - 1)]
    else:
        grid = np.asarray(profile.quantiles(_RANKS), dtype=np.float64)
    grid = grid[np.isfinite(grid)]
    return grid if len(grid) else np.zeros(1)


def is_number(text: str) -> bool:
    """Whether `float` reads it, as Arrow does: no underscores."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _extremes(profile: ColumnProfile, grid: np.ndarray) -> tuple[float, float]:
    bounds = []
    for given, seen in ((profile.minimum, grid.min()), (profile.maximum, grid.max())):
        known = isinstance(given, int | float | Decimal) and np.isfinite(float(given))
        bounds.append(float(given) if known else float(seen))
    return bounds[0], bounds[1]


def describe(name: str, source: str, grid: np.ndarray, std: float) -> Feature:
    """The feature whose quantiles are `grid`: clip at the outer half per cent, centre and scale by what is left; a
    spike elsewhere keeps the whole range, scaled by `std`."""
    ordered = np.sort(grid)
    low, high = np.interp([0.005, 0.995], np.linspace(0.0, 1.0, len(ordered)), ordered)
    clipped = np.minimum(np.maximum(ordered, low), high)
    center, scale = float(clipped.mean()), _spread(clipped)
    if not scale > 0:
        low, high = -np.inf, np.inf
        scale = std
    return Feature(
        name=name,
        source=source,
        kind=FeatureKind.NUMBER,
        low=float(low),
        high=float(high),
        fill=_middle(ordered),
        center=center,
        scale=scale,
    )


def _spread(values: np.ndarray) -> float:
    """`numpy.std`, to the same bits, without what its call costs."""
    deviations = values - np.add.reduce(values) / len(values)
    np.multiply(deviations, deviations, out=deviations)
    return math.sqrt(np.add.reduce(deviations) / len(values))


def _middle(ordered: np.ndarray) -> float:
    """The median of numbers in rising order."""
    half = len(ordered) // 2
    return float(ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2)


def read_numbers(values: pa.Array, column: str) -> np.ndarray:
    """Float64 `(rows,)` of a column of any type that can hold numbers; NaN where null. May share the column's memory.

    Raises `SchemaError` for a type that holds none, and for text that is no number.

    >>> read_numbers(pa.array(["1", " 2.5", None, "NA"]), "age")
    array([1. , 2.5, nan, nan])
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        return _decode(read_numbers(values.dictionary, column), values.indices)
    if pa.types.is_null(kind):
        return np.full(len(values), np.nan)
    if is_string(kind):
        values = parse_numbers(values, column)
    elif pa.types.is_duration(kind):
        values = pc.divide(pc.cast(values.cast(pa.int64()), pa.float64(), safe=False), _PER_SECOND[kind.unit])
    elif pa.types.is_boolean(kind):
        values = pc.cast(pc.cast(values, pa.uint8()), pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise SchemaError(
            f"column {column!r} holds {kind}, numbers were expected",
            hint="Cast it to a number, or train with the type that it has now.",
        )
    if not pa.types.is_float64(values.type):
        values = pc.cast(values, pa.float64(), safe=False)
    if values.null_count:
        values = values.fill_null(float("nan"))
    return np.asarray(values.to_numpy(zero_copy_only=False))


_NAN = float("nan")
EXACT_WHOLE = {64: 2**53, 32: 2**24}  # integers up to here are exact in a float of so many bits


def number_reader(kind: pa.DataType) -> Callable[[Any], float | None] | None:
    """What turns a value of Python into the number that `read_numbers` makes of it in a column of the type `kind`.

    The function gives None for values of other types than the usual ones. None for types that are not read so.

    >>> read = number_reader(pa.int64())
    >>> read(3), read(2.5), read("3"), read(2**60)
    (3.0, 2.5, None, None)
    """
    if pa.types.is_boolean(kind):
        return lambda value: float(value) if type(value) is bool else _NAN if value is None else None
    if pa.types.is_integer(kind):
        return _number_reader(EXACT_WHOLE[64], lambda number: number + 0.0)  # an integer has no -0.0
    if pa.types.is_float64(kind):
        return _number_reader(EXACT_WHOLE[64], None)
    if pa.types.is_float32(kind):
        return _number_reader(EXACT_WHOLE[32], _single)
    return None


def _single(number: float) -> float | None:
    return float(np.float32(number)) if abs(number) <= LARGEST else None


def _number_reader(exact: int, rounded: Callable[[float], float | None] | None) -> Callable[[Any], float | None]:
    def read(value: Any) -> float | None:
        kind = type(value)
        if kind is float:
            return value if rounded is None or value != value else rounded(value)
        if kind is int:
            return float(value) if -exact <= value <= exact else None
        return _NAN if value is None else None

    return read


_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


def parse_numbers(values: pa.Array, column: str) -> pa.Array:
    """Float64 array of strings; spellings of missing become null. Raises `SchemaError` naming the first other text."""
    trimmed = pc.utf8_trim_whitespace(pc.cast(values, pa.string()))
    try:
        return pc.cast(trimmed, pa.float64())
    except pa.ArrowInvalid:
        pass  # some cell is missing, a truth value or no number: look closer, which takes longer
    words = pc.utf8_lower(trimmed)
    known = pc.if_else(pc.is_in(words, value_set=pa.array(MISSING_WORDS)), None, words)
    known = pc.if_else(pc.equal(known, "true"), "1", pc.if_else(pc.equal(known, "false"), "0", known))
    try:
        return pc.cast(known, pa.float64())
    except pa.ArrowInvalid as error:
        raise SchemaError(
            f"column {column!r} holds {_first_bad(known)!r}, a number was expected",
            hint="Correct the value, or leave the cell empty: missing values are understood.",
        ) from error


def _first_bad(values: pa.Array) -> str:
    for text in values.unique().to_pylist():
        try:
            pc.cast(pa.array([text], pa.string()), pa.float64())
        except pa.ArrowInvalid:
            return str(text)
    return ""


def is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _decode(table: np.ndarray, indices: pa.Array) -> np.ndarray:
    """Values by dictionary index; NaN where the index is null."""
    extended = np.append(table, np.nan)
    filled = pc.fill_null(pc.cast(indices, pa.int64()), len(table))
    decoded: np.ndarray = extended[filled.to_numpy(zero_copy_only=False)]
    return decoded
