"""Sizes and durations as people write them, and back: `2GB`, `512MiB`, `5m`, `1h30m`; and what is a number."""

import re
from typing import TypeGuard

from shardwise.core.errors import ConfigError

_SIZES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT]?I?)B?\s*", re.IGNORECASE)
_DURATION = re.compile(r"([0-9]*\.?[0-9]+)\s*(ms|s|m|h|d|w)?")


def is_number(value: object) -> TypeGuard[float]:
    """Whether something that was read, as from YAML or JSON, is a number; a truth value is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def parse_size(text: str | int) -> int:
    """Bytes of a size: decimal units (`2GB` is 2 * 10**9) or binary ones (`2GiB`).

    >>> parse_size("2GB"), parse_size("1.5MiB"), parse_size(4096)
    (2000000000, 1572864, 4096)
    """
    match = _SIZE.fullmatch(str(text))
    if not match or match[2].upper() not in _SIZES or float(match[1]) <= 0:
        raise ConfigError(f"{text!r} is not a size", hint="Write it like 2GB, 512MiB or 1500000000.")
    return int(float(match[1]) * _SIZES[match[2].upper()])


def format_size(size_bytes: float) -> str:
    """A size for people, in decimal units.

    >>> format_size(1_234_567_890), format_size(999)
    ('1.23 GB', '999 B')
    """
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if abs(size_bytes) >= factor:
            scaled = size_bytes / factor
            return f"{scaled:.3g} {unit}" if abs(scaled) < 999 else f"{scaled:.0f} {unit}"
    return f"{size_bytes:.0f} B"


def parse_duration(text: str | float) -> float:
    """Seconds of a duration; a bare number means seconds.

    >>> parse_duration("5m"), parse_duration("1h30m"), parse_duration(90)
    (300.0, 5400.0, 90.0)
    """
    content = str(text).strip().lower()
    parts = _DURATION.findall(content)
    rest = _DURATION.sub("", content).strip()
    if not parts or rest or (len(parts) > 1 and any(not unit for _, unit in parts)):
        raise ConfigError(f"{text!r} is not a duration", hint="Write it like 90s, 5m or 1h30m.")
    total = sum(float(number) * _SECONDS[unit or "s"] for number, unit in parts)
    if total <= 0:
        raise ConfigError(f"{text!r} is not a duration", hint="It must be longer than nothing: write 90s, 5m or 1h30m.")
    return total


def format_duration(seconds: float) -> str:
    """A duration for people.

    >>> format_duration(0.25), format_duration(75), format_duration(3700)
    ('0.25s', '1m15s', '1h01m')
    """
    if seconds < 60:
        return f"{seconds:.3g}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m"
