"""A single date or timestamp of Python as the calendar parts of `features.dates`, without Arrow: the same bits."""

import datetime as dt
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
_EPOCH = dt.date(1970, 1, 1).toordinal()
_ISO = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[ T]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,6}))?)?)?"
)  # a part of what Arrow reads


def micros_reader(kind: pa.DataType) -> Callable[[Any], int | None] | None:
    """What gives the microseconds since 1970 UTC of a date, a timestamp without a zone, or text of one in ISO 8601.

    The function gives None for other values; None for types that are not read so, such as those with another zone.

    >>> micros_reader(pa.timestamp("us"))("1970-01-02 00:00:01")
    86401000000
    """
    if pa.types.is_date32(kind):
        own: type = dt.date
    elif pa.types.is_timestamp(kind) and kind.tz in (None, "UTC"):
        exact = kind.tz is None and kind.unit in ("us", "ns")  # others are cut, or need a zone: that is for Arrow
        own = dt.datetime if exact else str
    elif pa.types.is_string(kind):
        own = str
    else:
        return None

    def read(value: Any) -> int | None:
        found = type(value)
        if found is str:
            return micros_of_text(value)
        if found is not own:
            return None
        return micros_of_date(value) if found is dt.date else micros_of_moment(value, kind.unit)

    return read


def micros_of_date(day: dt.date) -> int:
    return (day.toordinal() - _EPOCH) * DAY_US


def micros_of_moment(moment: dt.datetime, unit: str = "us") -> int | None:
    """Microseconds of a time without a zone; nanoseconds have 64 bits, which end in the years 1677 and 2262."""
    if moment.tzinfo is not None or (unit == "ns" and not 1700 <= moment.year <= 2200):
        return None
    of_day = ((moment.hour * 60 + moment.minute) * 60 + moment.second) * 1_000_000 + moment.microsecond
    return (moment.toordinal() - _EPOCH) * DAY_US + of_day


def micros_of_text(text: str) -> int | None:
    """None for what is no date, or spelled otherwise than is read here."""
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction = match.groups(default="0")
    try:
        moment = dt.datetime(int(year), int(month), int(day), int(hour), int(minute), int(second))
    except ValueError:
        return None
    micros = micros_of_moment(moment)
    return None if micros is None else micros + int(fraction.ljust(6, "0"))


class Moment:
    """Calendar parts of local microseconds: `features.dates._Clock` of one row."""

    def __init__(self, micros: int, elapsed_days: float) -> None:
        days = micros // DAY_US
        date = dt.date.fromordinal(days + _EPOCH)
        self.elapsed_days = elapsed_days
        self.hour = (micros - days * DAY_US) / HOUR_US
        self.weekday = date.weekday()
        self.year, self.month, self.day = date.year, date.month, date.day
        self.day_of_year = date.toordinal() - dt.date(date.year, 1, 1).toordinal() + 1


Part = Callable[[Moment], float]


def part_reader(name: str, waves: dict[tuple[str, str], np.ndarray]) -> Part:
    """What gives the part `name` of a moment; `waves` are the tables of `features.dates`."""
    if name == "weekend":
        return lambda moment: float(moment.weekday >= 5)
    base, _, wave = name.partition("_")
    if wave not in ("sin", "cos"):
        return lambda moment: float(getattr(moment, name))
    if base == "hour":
        turn = np.sin if wave == "sin" else np.cos
        return lambda moment: float(turn(moment.hour * (2 * np.pi / 24)))
    table = waves[base, wave].tolist()
    return lambda moment: float(table[getattr(moment, base)])


def moment_cell(
    read: Callable[[Any], int | None], parts: Sequence[Part], missing: Sequence[float], start_us: int
) -> Callable[[Any], Sequence[float] | None]:
    """The numbers of a value; `missing` are those of null."""

    def cell(value: Any) -> Sequence[float] | None:
        if value is None:
            return missing
        micros = read(value)
        if micros is None:
            return None
        moment = Moment(micros, float(micros - start_us) / DAY_US)
        return [part(moment) for part in parts]

    return cell
