"""Which column types there are, what becomes of the others, and how types of several files become one.

    as stored                                          as read
    bool, int8 .. uint64, float32, float64, null       the same
    float16                                            float32
    decimal32 .. decimal256                            decimal128 (float64 above 38 digits, with a note)
    string, large_string, string_view                  string
    dictionary (pandas and polars categories)          string, also for categories that are numbers
    date32, date64                                     date32
    timestamp[unit, zone], time32, time64              the same
    duration                                           float64, in seconds
    run_end_encoded, extension                         as what they hold
    binary, list, struct, map, union, interval         refused, with a hint

Unified over files: integers to the widest (uint64 with a signed one: float64), integers, floats and decimals to
float64, null with anything, date with timestamp to timestamp, time units to the finest, zones that differ to UTC. All
else is a `SchemaError` in typed formats, and text in CSV and JSON lines.
"""

from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.errors import SchemaError, context

_UNITS = ("s", "ms", "us", "ns")
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_KEPT = {*map(str, (pa.null(), pa.bool_(), pa.float32(), pa.float64(), pa.string(), pa.date32()))}
_FLATTEN = "Flatten it into columns of numbers or strings, or leave it out (drop)."
_NUMBERED = "Values of equal number may be numbered columns such as x_0, x_1, which --image and --sequence take."


class TypeConflict(SchemaError):
    """A value does not fit the type that its column was found to have; `Dataset.widened(column)` is the way on."""

    @property
    def column(self) -> str:
        return str(self.context["column"])

    @property
    def value(self) -> str:
        return str(self.context["value"])


def conflict(column: str, kind: pa.DataType, value: object, **where: object) -> TypeConflict:
    """The error for a value of `column` that is no `kind`; `where` holds row, partition, path."""
    text = repr(value) if len(repr(value)) <= 80 else repr(value)[:80] + "..."
    return TypeConflict(
        f"column {column!r} is {kind} in the rows that were looked at, and {text} is not",
        hint=f"Give its type: types={{{column!r}: 'string'}}.",
        column=column,
        value=value,
        **where,
    )


def normalise(kind: pa.DataType, column: str) -> pa.DataType:
    """The type as which a stored type is read; raises `SchemaError` for one that is refused.

    >>> str(normalise(pa.dictionary(pa.int8(), pa.large_string()), "city")), str(normalise(pa.float16(), "x"))
    ('string', 'float')
    """
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return normalise(kind.storage_type, column)
    if types.is_run_end_encoded(kind):
        return normalise(kind.value_type, column)
    if types.is_dictionary(kind):
        normalise(kind.value_type, column)
        return pa.string()
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_date64(kind):
        return pa.date32()
    if types.is_float16(kind):
        return pa.float32()
    if types.is_duration(kind):
        return pa.float64()
    if types.is_decimal(kind):
        return pa.decimal128(kind.precision, kind.scale) if kind.precision <= 38 else pa.float64()
    if str(kind) in _KEPT or types.is_integer(kind) or types.is_timestamp(kind) or types.is_time(kind):
        return kind
    raise _refused(kind, column)


def _refused(kind: pa.DataType, column: str) -> SchemaError:
    if pa.types.is_nested(kind):
        hint = f"{_FLATTEN} {_NUMBERED}" if "list" in str(kind) else _FLATTEN
        return SchemaError(f"column {column!r} is nested: {kind}", hint=hint, column=column)
    if "binary" in str(kind):
        hint = "Store it as a string or as numbers, or leave it out (drop)."
        return SchemaError(f"column {column!r} holds bytes: {kind}", hint=hint, column=column)
    hint = "Store it as numbers, strings, dates or timestamps, or leave it out (drop)."
    return SchemaError(f"column {column!r} is of a type that is not supported: {kind}", hint=hint, column=column)


def lossy_note(kind: pa.DataType) -> str | None:
    """What a person should know about the way a stored type is read."""
    if pa.types.is_duration(kind):
        return "a duration, read as seconds"
    if pa.types.is_decimal(kind) and kind.precision > 38:
        return f"{kind}, read as float64: 15 digits are kept"
    if pa.types.is_dictionary(kind) and not _is_text(kind.value_type):
        return f"categories of {kind.value_type}, read as strings"
    return None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def unify(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """The type that holds the values of both normalised types; None where they really differ.

    >>> str(unify(pa.int32(), pa.int64())), str(unify(pa.int64(), pa.float32())), unify(pa.int64(), pa.string())
    ('int64', 'double', None)
    """
    if left == right or pa.types.is_null(right):
        return left
    if pa.types.is_null(left):
        return right
    if _is_number(left) and _is_number(right):
        return _unify_numbers(left, right)
    if _is_moment(left) and _is_moment(right):
        return _unify_moments(left, right)
    if pa.types.is_time(left) and pa.types.is_time(right):
        unit = max(left.unit, right.unit, key=_UNITS.index)
        return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
    return None


def unify_all(kinds: list[pa.DataType]) -> pa.DataType | None:
    """`unify` over a list, whatever its order."""
    ordered = sorted(kinds, key=str)
    return reduce(lambda left, right: left if left is None else unify(left, right), ordered)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_moment(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _unify_numbers(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    if pa.types.is_integer(left) and pa.types.is_integer(right):
        signed = [pa.types.is_signed_integer(kind) for kind in (left, right)]
        if signed[0] == signed[1]:
            return max(left, right, key=lambda kind: kind.bit_width)
        unsigned, other = (right, left) if signed[0] else (left, right)
        bits = max(unsigned.bit_width * 2, other.bit_width)
        return pa.float64() if bits > 64 else pa.type_for_alias(f"int{bits}")
    if pa.types.is_decimal(left) and pa.types.is_decimal(right):
        scale = max(left.scale, right.scale)
        digits = max(left.precision - left.scale, right.precision - right.scale) + scale
        return pa.decimal128(digits, scale) if digits <= 38 else pa.float64()
    return pa.float64()


def _unify_moments(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    stamps = [kind for kind in (left, right) if pa.types.is_timestamp(kind)]
    zones = {kind.tz for kind in stamps}
    if None in zones and len(zones) > 1:
        return None  # local times and instants: nobody can tell what the local ones mean
    if len(stamps) < 2 and zones != {None}:
        return None
    unit = max((kind.unit for kind in stamps), key=_UNITS.index)
    if len(stamps) < 2:
        return pa.timestamp(unit)
    return pa.timestamp(unit, tz=zones.pop() if len(zones) == 1 else "UTC")


def widened(kind: pa.DataType, value: str | None = None) -> pa.DataType:
    """The next wider type of text: null to float, integer to float to string, date to timestamp to string.

    With a `value`, the first of them that holds it.

    >>> str(widened(pa.int64())), str(widened(pa.int64(), "abc"))
    ('double', 'string')
    """
    wider = [pa.string()]
    if pa.types.is_null(kind):
        wider = [pa.float64(), pa.timestamp("us"), pa.string()]
    elif pa.types.is_integer(kind):
        wider = [pa.float64(), pa.string()]
    elif pa.types.is_date(kind):
        wider = [pa.timestamp("us"), pa.string()]
    return next(option for option in wider if value is None or _holds(option, value))


def _holds(kind: pa.DataType, value: str) -> bool:
    try:
        pc.cast(pa.array([value]), kind)
    except pa.ArrowInvalid:
        return False
    return True


def cast(values: pa.Array, kind: pa.DataType, column: str) -> pa.Array:
    """Values of a stored type as `kind`, the dataset's; raises `TypeConflict` for a value that does not fit."""
    if values.type == kind:
        return values
    if isinstance(values, pa.ExtensionArray):
        return cast(values.storage, kind, column)
    if isinstance(values, pa.RunEndEncodedArray):
        return cast(pc.run_end_decode(values), kind, column)
    if isinstance(values, pa.DictionaryArray):
        return cast(values.dictionary, kind, column).take(values.indices)
    if pa.types.is_duration(values.type) and pa.types.is_floating(kind):
        return pc.divide(pc.cast(pc.cast(values, pa.int64()), pa.float64()), float(_PER_SECOND[values.type.unit]))
    with context(column=column):
        try:
            return pc.cast(values, kind, safe=not _may_round(values.type, kind))
        except pa.ArrowInvalid as error:
            row = _first_bad(values, kind)
            raise conflict(column, kind, values[row].as_py(), row=row + 1) from error


def _may_round(source: pa.DataType, kind: pa.DataType) -> bool:
    """Integers and decimals lose digits as floats: that is what the column was unified to."""
    return bool(pa.types.is_floating(kind)) and _is_number(source)


def _first_bad(values: pa.Array, kind: pa.DataType) -> int:
    """The place of the first value that cannot be cast; the caller knows that there is one."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            pc.cast(values[low:middle], kind)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low
