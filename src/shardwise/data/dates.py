"""Dates in text: ISO 8601, and the spellings that people use where the rows themselves prove which one it is.

`1/2/2024` may be the first of February or the second of January. A column is read as one of them only when some other
value rules the other out (`31/1/2024`); without such a proof it stays text, and the report says so.
"""

import re
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

_DATES = {
    "%Y/%m/%d": r"[0-9]{4}/[0-9]{1,2}/(?P<day>[0-9]{1,2})",
    "%d/%m/%Y": r"(?P<day>[0-9]{1,2})/[0-9]{1,2}/[0-9]{4}",
    "%m/%d/%Y": r"[0-9]{1,2}/(?P<day>[0-9]{1,2})/[0-9]{4}",
    "%d-%m-%Y": r"(?P<day>[0-9]{1,2})-[0-9]{1,2}-[0-9]{4}",
    "%m-%d-%Y": r"[0-9]{1,2}-(?P<day>[0-9]{1,2})-[0-9]{4}",
    "%d.%m.%Y": r"(?P<day>[0-9]{1,2})\.[0-9]{1,2}\.[0-9]{4}",
    "%d-%b-%Y": r"(?P<day>[0-9]{1,2})-[A-Za-z]{3,9}-[0-9]{4}",
    "%d %b %Y": r"(?P<day>[0-9]{1,2}) [A-Za-z]{3,9} [0-9]{4}",
    "%b %d, %Y": r"[A-Za-z]{3,9} (?P<day>[0-9]{1,2}), [0-9]{4}",
    "%b %d %Y": r"[A-Za-z]{3,9} (?P<day>[0-9]{1,2}) [0-9]{4}",
}
_TIMES = {
    "": "",
    " %H:%M": " [0-9]{1,2}:[0-9]{2}",
    " %H:%M:%S": " [0-9]{1,2}:[0-9]{2}:[0-9]{2}",
    " %I:%M %p": " [0-9]{1,2}:[0-9]{2} [AaPp][Mm]",
    " %I:%M:%S %p": " [0-9]{1,2}:[0-9]{2}:[0-9]{2} [AaPp][Mm]",
}
_PATTERNS = {date + time: f"^{_DATES[date]}{_TIMES[time]}$" for date in _DATES for time in _TIMES}
_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def type_of(date_format: str) -> pa.DataType:
    """`date32` for a format without a time of day, else `timestamp[us]`."""
    return pa.timestamp("us") if re.search("%[HIMSTRXcfs]", date_format) else pa.date32()


def parse(texts: pa.Array, date_format: str) -> pa.Array:
    """Texts in a format of `strptime` as `type_of(date_format)`; null where a text is none, or no day of its month.

    >>> parse(pa.array(["31/1/2024", "31/2/2024", "x"]), "%d/%m/%Y").to_pylist()
    [datetime.date(2024, 1, 31), None, None]
    """
    trimmed = pc.utf8_trim_whitespace(texts)
    pattern = _PATTERNS.get(date_format)
    if pattern is not None:
        days = pc.struct_field(pc.extract_regex(trimmed, pattern), "day")
        trimmed = pc.if_else(pc.is_valid(days), trimmed, None)
    moments = pc.strptime(trimmed, format=date_format, unit="us", error_is_null=True)
    if pattern is not None:
        # strptime turns February 31 into March 2
        real = pc.equal(pc.day(moments), pc.cast(pc.if_else(pc.is_valid(moments), days, None), pa.int64()))
        moments = pc.if_else(real, moments, None)
    return pc.cast(moments, type_of(date_format), safe=False)


def guess(texts: pa.Array) -> tuple[str, ...]:
    """The formats in which every text is a date: none, one, or two when day and month could be either.

    >>> guess(pa.array(["1/2/2024", "3/4/2024"])), guess(pa.array(["1/2/2024", "31/4/2024", "30/4/2024"]))
    (('%d/%m/%Y', '%m/%d/%Y'), ())
    """
    known = texts.drop_null()
    if len(known) == 0:
        return ()
    first = known[0].as_py().strip()
    fitting = [date_format for date_format, pattern in _compiled() if pattern.match(first)]
    return tuple(fit for fit in fitting if parse(known, fit).null_count == 0)


def guess_iso(texts: pa.Array) -> pa.DataType | None:
    """`date32` or a timestamp when every text is one in ISO 8601; None when not."""
    known = texts.drop_null()
    if len(known) == 0 or not _ISO.match(known[0].as_py()):
        return None
    for kind in (pa.date32(), pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("us", "UTC")):
        try:
            pc.cast(known, kind)
        except pa.ArrowInvalid:
            continue
        return kind
    return None


@lru_cache(maxsize=1)
def _compiled() -> list[tuple[str, re.Pattern[str]]]:
    return [(date_format, re.compile(pattern)) for date_format, pattern in _PATTERNS.items()]
