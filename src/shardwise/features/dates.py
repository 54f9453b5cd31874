"""Dates, timestamps and times of day: calendar and cyclic parts, elapsed days.

A column with a time zone is read on the clocks of that zone, whatever the zone in which it comes later. Timestamps
without a zone count as UTC where a column with one is expected, and the other way round. Parts that did not vary in
the training rows are left out.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.errors import RejectColumn, SchemaError
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.state import State
from shardwise.data import dates
from shardwise.features.base import Cell
from shardwise.features.columns import ColumnProfile, ProfileOnly
from shardwise.features.moments import DAY_US, HOUR_US, micros_reader, moment_cell, part_reader
from shardwise.features.numeric import is_string

_ZONED = r"[T ][0-9:.,]+(Z|[+-][0-9:]+)$"
_RANKS = np.linspace(0.0, 1.0, 401)


class Calendar(ProfileOnly):
    """One column of dates, timestamps, times of day, or text that holds them; missing is NaN."""

    def __init__(self, column: str, content: Mapping[str, Any]) -> None:
        self.reads: tuple[str, ...] = (column,)
        self._time_of_day = bool(content["time_of_day"])
        self._zone, self._format = content["zone"], content["format"]
        self._start_us = int(content["start_us"])
        self._features = tuple(Feature.from_json(feature) for feature in content["features"])
        self._parts = tuple(feature.name.removeprefix(f"{column}:") for feature in self._features)

    @classmethod
    def plan(cls, column: str, profile: ColumnProfile, date_format: str | None = None) -> Self:
        """`date_format` is the one in which text was read as dates before it came here, if it was text."""
        seconds = np.asarray(profile.quantiles(_RANKS), dtype=np.float64)
        grid = np.unique(np.rint(seconds[np.isfinite(seconds)] * 1e6)).astype(np.int64)
        if len(grid) == 0:
            raise RejectColumn("it has no values")
        content: dict[str, Any] = {
            "time_of_day": profile.group == "time",
            "zone": zone_of(profile.type),
            "format": profile.time_format if profile.group == "string" else date_format,
            "start_us": int(grid[0]),
            "features": [],
        }
        reader = cls(column, content)
        local = reader._local(grid)
        if not reader._time_of_day and reader._is_daily(profile):
            local -= local % DAY_US  # quantiles may lie between the days
        features = reader._describe(local, grid)
        if not features:
            raise RejectColumn("no part of the date varies")
        return cls(column, {**content, "features": [feature.to_json() for feature in features]})

    def _is_daily(self, profile: ColumnProfile) -> bool:
        """Whether all values are midnights, so far as the profile has kept some."""
        if profile.group == "date":
            return True
        known = pa.array([text for text, _ in profile.top], pa.string())
        midnights = self._local(_parse(known, self.reads[0], self._format).to_numpy()) % DAY_US == 0
        return len(known) > 0 and bool(midnights.all())

    def _describe(self, local: np.ndarray, instants: np.ndarray) -> list[Feature]:
        """Features of the parts that vary on the grid of quantiles."""
        column = self.reads[0]
        features = []
        for part in _NAMES:
            if self._time_of_day and not part.startswith("hour"):
                continue
            values = _part(part, _Clock(local, (instants - self._start_us) / DAY_US))
            if not np.ptp(values) > 0:
                continue
            if part == "weekend":
                flag = Feature(name=f"{column}:{part}", source=column, kind=FeatureKind.FLAG, redundant=True)
                features.append(flag)
                continue
            center, scale = float(values.mean()), float(values.std())
            features.append(
                Feature(
                    name=f"{column}:{part}",
                    source=column,
                    kind=FeatureKind.NUMBER,
                    low=float(values.min()) if part == "elapsed_days" else -np.inf,
                    high=float(values.max()) if part == "elapsed_days" else np.inf,
                    fill=float(np.median(values)),
                    center=center,
                    scale=scale,
                    redundant=part.endswith(("_sin", "_cos")),
                )
            )
        return features

    def output(self) -> Sequence[Feature]:
        return self._features

    def write(self, batch: pa.RecordBatch, out: np.ndarray) -> None:
        column = self.reads[0]
        array = batch.column(column)
        instants = read_times(array, column) if self._time_of_day else read_instants(array, column, self._format)
        missing = instants.is_null().to_numpy(zero_copy_only=False) if instants.null_count else None
        micros = pc.fill_null(instants, self._start_us).to_numpy(zero_copy_only=False)
        clock = _Clock(self._local(micros), (micros - self._start_us) / DAY_US)
        for place, part in enumerate(self._parts):
            np.copyto(out[:, place], _part(part, clock), casting="unsafe")
            if missing is not None:
                out[missing, place] = 0.0 if part == "weekend" else np.nan

    def cell(self, kind: pa.DataType) -> Cell | None:
        other_format = self._format is not None and "%" in self._format
        if self._time_of_day or self._zone not in (None, "UTC") or other_format:
            return None
        read = micros_reader(kind)
        if read is None:
            return None
        missing = [0.0 if part == "weekend" else float("nan") for part in self._parts]
        return moment_cell(read, [part_reader(part, _WAVES) for part in self._parts], missing, self._start_us)

    def _local(self, micros: np.ndarray) -> np.ndarray:
        """Microseconds on the clocks of the column's zone."""
        if self._zone is None or self._zone == "UTC":
            return micros
        stamps = pa.array(micros, pa.int64()).cast(pa.timestamp("us")).cast(pa.timestamp("us", tz=self._zone))
        local: np.ndarray = pc.local_timestamp(stamps).cast(pa.int64()).to_numpy(zero_copy_only=False)
        return local

    def state(self) -> State:
        return {
            "column": self.reads[0],
            "time_of_day": self._time_of_day,
            "zone": self._zone,
            "format": self._format,
            "start_us": self._start_us,
            "features": [feature.to_json() for feature in self._features],
        }

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls(state["column"], state)


class _Clock:
    """Calendar parts of local microseconds, each computed once."""

    def __init__(self, local: np.ndarray, elapsed_days: np.ndarray) -> None:
        days = np.floor_divide(local, DAY_US)
        self.elapsed_days = elapsed_days
        self.hour = (local - days * DAY_US) / HOUR_US
        self.weekday = (days + 3) % 7  # 1970-01-01 was a Thursday; Monday is 0
        self.year, self.month, self.day, self.day_of_year = civil(days)


def civil(days: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Year, month, day and day of the year of days since 1970-01-01 in the proleptic Gregorian calendar.

    Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`: years begin in March.

    >>> [int(part[0]) for part in civil(np.array([19782]))]
    [2024, 2, 29, 60]
    """
    shifted = days + 719_468
    era = np.floor_divide(shifted, 146_097)
    of_era = shifted - era * 146_097
    year_of_era = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    march_month = (5 * of_year + 2) // 153
    day = of_year - (153 * march_month + 2) // 5 + 1
    month = np.where(march_month < 10, march_month + 3, march_month - 9)
    year = year_of_era + era * 400 + (month <= 2)
    leap = ((year % 4 == 0) & (year % 100 != 0)) | (year % 400 == 0)
    day_of_year = np.where(march_month < 10, of_year + 60 + leap, of_year - 305)
    return year, month, day, day_of_year


_NAMES = (
    "year", "month", "day", "weekday", "hour", "day_of_year", "elapsed_days", "weekend",
    "month_sin", "month_cos", "weekday_sin", "weekday_cos", "hour_sin", "hour_cos",
)  # fmt: skip


def _part(name: str, clock: _Clock) -> np.ndarray:
    if name == "weekend":
        return np.asarray(clock.weekday >= 5, dtype=np.float32)
    base, _, wave = name.partition("_")
    if wave not in ("sin", "cos"):
        return np.asarray(getattr(clock, name))
    if base == "hour":  # has fractions
        return np.asarray(getattr(np, wave)(clock.hour * (2 * np.pi / 24)))
    return np.asarray(_WAVES[base, wave][getattr(clock, base)])


_WAVES = {
    (base, wave): getattr(np, wave)((np.arange(first + period) - first) * (2 * np.pi / period))
    for base, first, period in (("month", 1, 12), ("weekday", 0, 7))
    for wave in ("sin", "cos")
}


def zone_of(kind: object) -> str | None:
    """The time zone of an Arrow type or of its text; None when there is none.

    >>> zone_of(pa.timestamp("us", tz="Europe/Paris"))
    'Europe/Paris'
    """
    text = str(kind)
    return text.split("tz=")[1].rstrip("]") if "tz=" in text else None


def read_instants(values: pa.Array, column: str, time_format: str | None = None) -> pa.Array:
    """Int64 microseconds since 1970 UTC of dates, timestamps of any unit and zone, or text; null where missing.

    Raises `SchemaError` for other types, and for text that is no date of `time_format` nor ISO 8601.

    >>> read_instants(pa.array(["1970-01-01 00:00:01", None]), "at").to_pylist()
    [1000000, None]
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        return read_instants(values.dictionary, column, time_format).take(values.indices)
    if pa.types.is_null(kind):
        return pa.nulls(len(values), pa.int64())
    if is_string(kind):
        return _parse(pc.cast(values, pa.string()), column, time_format)
    if not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        raise _wrong_type(column, kind, "dates or timestamps")
    zone = kind.tz if pa.types.is_timestamp(kind) else None
    return pc.cast(values, pa.timestamp("us", tz=zone), safe=False).cast(pa.int64())


def read_times(values: pa.Array, column: str) -> pa.Array:
    """Int64 microseconds since midnight of times of day, timestamps or text like 17:30:00; null where missing."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        return read_times(values.dictionary, column).take(values.indices)
    if pa.types.is_null(kind):
        return pa.nulls(len(values), pa.int64())
    if is_string(kind):
        texts = _blank_to_null(pc.cast(values, pa.string()))
        try:
            return _on_the_first_day(texts).cast(pa.int64())
        except pa.ArrowInvalid as error:
            found = _first_bad(texts, lambda single: _on_the_first_day(single).null_count == 0)
            raise _bad_text(column, found, "a time of day like 17:30:00") from error
    if not pa.types.is_time(kind):
        raise _wrong_type(column, kind, "times of day")
    return pc.cast(values, pa.time64("us"), safe=False).cast(pa.int64())


def _parse(texts: pa.Array, column: str, time_format: str | None) -> pa.Array:
    """Each cell by itself in `time_format`, in ISO 8601, or in ISO 8601 with a zone."""
    texts = _blank_to_null(texts)
    found = pa.nulls(len(texts), pa.int64())
    if time_format is not None and "%" in time_format:
        found = pc.cast(pc.cast(dates.parse(texts, time_format), pa.timestamp("us")), pa.int64())
    if found.null_count > texts.null_count:
        rest = pc.if_else(pc.is_null(found), texts, None)
        found = pc.coalesce(found, _of_iso(rest, column, time_format))
    return found


def _of_iso(texts: pa.Array, column: str, time_format: str | None) -> pa.Array:
    for zone in (None, "UTC"):
        whole = _as_micros(texts, zone)
        if whole is not None:
            return whole
    found = _of_either(texts)
    if found is None:
        bad = _first_bad(texts, lambda single: _of_either(single) is not None)
        raise _bad_text(column, bad, f"a date like {time_format or '2024-12-31'}")
    return found


def _of_either(texts: pa.Array) -> pa.Array | None:
    """Some with a zone and some without; beyond microseconds the digits are cut off."""
    cut = pc.replace_substring_regex(texts, r"(\.[0-9]{6})[0-9]+", r"\1")
    zoned = pc.match_substring_regex(cut, _ZONED)
    with_zone = _as_micros(pc.if_else(zoned, cut, None), "UTC")
    without = _as_micros(pc.if_else(zoned, None, cut), None)
    return None if with_zone is None or without is None else pc.coalesce(with_zone, without)


def _as_micros(texts: pa.Array, zone: str | None) -> pa.Array | None:
    """None where a text is none in ISO 8601, with a zone or without."""
    for unit in ("us", "ns"):
        try:
            parsed = pc.cast(texts, pa.timestamp(unit, tz=zone))
        except pa.ArrowInvalid:
            continue
        return pc.cast(parsed, pa.timestamp("us", tz=zone), safe=False).cast(pa.int64())
    return None


def _blank_to_null(texts: pa.Array) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(texts)
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed)


def _wrong_type(column: str, kind: pa.DataType, expected: str) -> SchemaError:
    return SchemaError(
        f"column {column!r} holds {kind}, {expected} were expected",
        hint="Cast it to the type that it was trained with.",
    )


def _bad_text(column: str, text: str, expected: str) -> SchemaError:
    return SchemaError(
        f"column {column!r} holds {text!r}, {expected} was expected",
        hint="Correct the value, or leave the cell empty: missing values are understood.",
    )


def _on_the_first_day(times: pa.Array) -> pa.Array:
    """Timestamps on 1970-01-01; Arrow has no cast from text to times of day."""
    return pc.cast(pc.binary_join_element_wise("1970-01-01", times, " "), pa.timestamp("us"))


def _first_bad(texts: pa.Array, is_good: Callable[[pa.Array], bool]) -> str:
    """The first text that cannot be read."""
    for text in texts.drop_null().unique().to_pylist():
        try:
            if is_good(pa.array([text])):
                continue
        except pa.ArrowInvalid:
            pass
        return str(text)
    return ""
