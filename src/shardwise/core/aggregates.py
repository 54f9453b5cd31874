"""What a person asks of an aggregate: functions of a column by key, over a window of time; as a mapping or as a line.

    {key: [carrier], time: departure, window: 7d, lag: 2h, column: distance, functions: [mean, count]}
    mean,count(distance) by carrier over 7d of departure lag 2h

The line is FUNCTION,...[(COLUMN)] by KEY,... [over WINDOW] [of TIME] [lag LAG]; a name with blanks, commas or brackets
stands in double quotes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest
from shardwise.core.units import parse_duration

FUNCTIONS = ("count", "mean", "sum", "min", "max", "last", "trend")
TIMED = ("last", "trend")  # they need a time column
_NAME = r'(?:"[^"]+"|[^\s",()]+)'
_NAMES = rf"{_NAME}(?:\s*,\s*{_NAME})*"
_LINE = re.compile(
    rf"(?P<functions>\w+(?:\s*,\s*\w+)*)\s*(?:\(\s*(?P<column>{_NAME}|\*)\s*\))?\s+by\s+(?P<key>{_NAMES})"
    rf"(?:\s+over\s+(?P<window>\S+))?(?:\s+of\s+(?P<time>{_NAME}))?(?:\s+lag\s+(?P<lag>\S+))?"
)
_EXAMPLE = "mean,count(distance) by carrier over 7d of departure"


@dataclass(frozen=True, kw_only=True)
class AggregateSpec:
    """Functions of one column by key.

    key        columns whose values together name the group
    column     what is aggregated; None: rows, which can only be counted
    functions  of `FUNCTIONS`
    time       column of times or numbers: a row sees strictly earlier rows alone
    window     how far back it sees, a duration (7d), or of a numeric time a number in its unit; None: all of the past
    lag        what is not older than this is not seen yet: for values that are known late
    """

    key: tuple[str, ...]
    functions: tuple[str, ...]
    column: str | None = None
    time: str | None = None
    window: str | None = None
    lag: str | None = None

    def __post_init__(self) -> None:
        if not self.key or len(set(self.key)) < len(self.key):
            raise ConfigError(f"an aggregate has the key {list(self.key)}", hint="Name one column or more, each once.")
        self._check_functions()
        for name in ("window", "lag"):
            if (span := getattr(self, name)) is not None:
                if self.time is None:
                    raise ConfigError(f"aggregate {self}: {name} {span} without a time", hint="Name the time column.")
                parse_duration(span)

    def _check_functions(self) -> None:
        if not self.functions or len(set(self.functions)) < len(self.functions):
            raise ConfigError(f"an aggregate has the functions {list(self.functions)}", hint="Name each once.")
        for function in self.functions:
            if function not in FUNCTIONS:
                raise ConfigError(f"there is no function {function!r}", hint=nearest(function, FUNCTIONS))
            if function in TIMED and self.time is None:
                raise ConfigError(f"aggregate {self}: {function} needs a time column", hint="Name it: of TIME.")
            if function != "count" and self.column is None:
                raise ConfigError(f"aggregate {self}: {function} of what?", hint=f"Name a column, as in {_EXAMPLE!r}.")

    def __str__(self) -> str:
        return f"{','.join(self.functions)}{self.tail}"

    @property
    def tail(self) -> str:
        """The line without the functions."""
        parts = [f"({_quoted(self.column)})" if self.column else "", f" by {','.join(map(_quoted, self.key))}"]
        parts += [f" over {self.window}"] if self.window else []
        parts += [f" of {_quoted(self.time)}"] if self.time else []
        parts += [f" lag {self.lag}"] if self.lag else []
        return "".join(parts)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are named."""
        return tuple(name for name in (*self.key, self.time, self.column) if name is not None)

    def to_json(self) -> dict[str, Any]:
        content = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in content.items()}

    @classmethod
    def read(cls, asked: "str | Mapping[str, Any] | AggregateSpec") -> Self:
        """From a line, a mapping or itself; raises `ConfigError`.

        >>> str(AggregateSpec.read("mean, count( distance) by carrier over 7d of departure"))
        'mean,count(distance) by carrier over 7d of departure'
        """
        if isinstance(asked, AggregateSpec):
            return cls(**{item.name: getattr(asked, item.name) for item in fields(cls)})
        if isinstance(asked, str):
            return cls._of_line(asked)
        if not isinstance(asked, Mapping):
            raise ConfigError(f"{asked!r} is no aggregate", hint=f"Write it like {_EXAMPLE!r}, or as a mapping.")
        names = [item.name for item in fields(cls)]
        for name in asked:
            if name not in names:
                raise ConfigError(f"an aggregate has no {name!r}", hint=nearest(str(name), names))
        given: dict[str, Any] = {name: None if value is None else str(value) for name, value in asked.items()}
        for name in ("key", "functions"):
            given[name] = _listed(asked.get(name))
        return cls(**given)

    @classmethod
    def _of_line(cls, line: str) -> Self:
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise ConfigError(f"{line!r} is no aggregate", hint=f"Write it like {_EXAMPLE!r}.")
        found = {name: text.strip('"') if text else None for name, text in match.groupdict().items()}
        key = tuple(name.strip('"') for name in re.findall(_NAME, match["key"]))
        functions = tuple(word.strip() for word in match["functions"].split(",") if word.strip())
        column = None if found["column"] == "*" else found["column"]
        return cls(key=key, functions=functions, column=column, time=found["time"], window=found["window"],
                   lag=found["lag"])  # fmt: skip


def read_aggregates(asked: Any) -> tuple[AggregateSpec, ...]:
    """Specs of a line, a mapping, or a list of these; raises `ConfigError`, also where a feature is asked for twice."""
    if asked is None:
        return ()
    listed = [asked] if isinstance(asked, str | Mapping | AggregateSpec) else list(asked)
    specs = tuple(AggregateSpec.read(each) for each in listed)
    names = [f"{function}{spec.tail}" for spec in specs for function in spec.functions]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"the aggregate {twice!r} is asked for twice", hint="Leave one out.")
    return specs


def _listed(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    words: Sequence[Any] = [value] if isinstance(value, str) else value
    return tuple(map(str, words))


def _quoted(name: str | None) -> str:
    """
    >>> _quoted("flight no"), _quoted("carrier")
    ('"flight no"', 'carrier')
    """
    return f'"{name}"' if name and re.search(r"[\s,()]", name) else str(name)
