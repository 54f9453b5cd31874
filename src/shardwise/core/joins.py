"""What a person asks of a join: a further table by key; as a mapping or as a line.

    {data: weather.parquet, on: [origin], time: at, prefix: weather_}
    weather.parquet on origin at time_hour prefix weather_

The line is PATH on KEY,... [at TIME] [prefix PREFIX]; a name with blanks or commas stands in double quotes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest

_NAME = r'(?:"[^"]+"|[^\s",]+)'
_LINE = re.compile(
    rf"(?P<data>.+?)\s+on\s+(?P<on>{_NAME}(?:\s*,\s*{_NAME})*)(?:\s+at\s+(?P<time>{_NAME}))?"
    r"(?:\s+prefix\s+(?P<prefix>\S+))?"
)
_EXAMPLE = "weather.parquet on origin at time_hour prefix weather_"
HOW = ("left",)


@dataclass(frozen=True, kw_only=True)
class JoinSpec:
    """A table that is joined from the left.

    data    file, folder, glob or URL
    on      columns that both tables have; keys are compared by their canonical spelling
    how     `left`: rows without a partner stay, with nulls
    time    column that both have: of the partners the latest that is not later than the row
    prefix  before the names of the joined columns
    """

    data: str
    on: tuple[str, ...]
    how: str = "left"
    time: str | None = None
    prefix: str = ""

    def __post_init__(self) -> None:
        if not self.on or len(set(self.on)) < len(self.on):
            raise ConfigError(f"join of {self.data}: on {list(self.on)}", hint="Name one column or more, each once.")
        if self.how not in HOW:
            raise ConfigError(f"join of {self.data}: how {self.how!r}", hint=nearest(self.how, HOW))

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns of the left table by which partners are found."""
        return (*self.on, *([self.time] if self.time else []))

    def to_json(self) -> dict[str, Any]:
        return {**{item.name: getattr(self, item.name) for item in fields(self)}, "on": list(self.on)}

    @classmethod
    def read(cls, asked: "str | Mapping[str, Any] | JoinSpec") -> Self:
        """From a line, a mapping or itself; raises `ConfigError`.

        >>> JoinSpec.read("weather.parquet on origin at hour").reads
        ('origin', 'hour')
        """
        if isinstance(asked, JoinSpec):
            return cls(**{item.name: getattr(asked, item.name) for item in fields(cls)})
        if isinstance(asked, str):
            match = _LINE.fullmatch(asked.strip())
            if match is None:
                raise ConfigError(f"{asked!r} is no join", hint=f"Write it like {_EXAMPLE!r}.")
            on = tuple(name.strip('"') for name in re.findall(_NAME, match["on"]))
            time = match["time"].strip('"') if match["time"] else None
            return cls(data=match["data"], on=on, time=time, prefix=match["prefix"] or "")
        if not isinstance(asked, Mapping):
            raise ConfigError(f"{asked!r} is no join", hint=f"Write it like {_EXAMPLE!r}, or as a mapping.")
        names = [item.name for item in fields(cls)]
        for name in asked:
            if name not in names:
                raise ConfigError(f"a join has no {name!r}", hint=nearest(str(name), names))
        if not asked.get("data") or not asked.get("on"):
            raise ConfigError(f"the join {dict(asked)} lacks data or on", hint=f"Write it like {_EXAMPLE!r}.")
        on = asked["on"]
        return cls(**{**asked, "on": (on,) if isinstance(on, str) else tuple(map(str, on))})


def read_joins(asked: Any) -> tuple[JoinSpec, ...]:
    """Specs of a line, a mapping, or a list of these; raises `ConfigError`."""
    if asked is None:
        return ()
    listed = [asked] if isinstance(asked, str | Mapping | JoinSpec) else list(asked)
    return tuple(JoinSpec.read(each) for each in listed)
