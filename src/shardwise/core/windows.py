"""What a person asks of windows: stretches of consecutive rows of one key, each of which becomes a row; as a line.

    acc_x,acc_y,acc_z by recording over 128 step 64 of t

The line is COLUMN,... by KEY,... over ROWS [step ROWS] of TIME; a name with blanks or commas stands in double quotes.
"""

import re
from dataclasses import dataclass
from typing import Self

from shardwise.core.errors import ConfigError

_NAME = r'(?:"[^"]+"|[^\s",]+)'
_NAMES = rf"{_NAME}(?:\s*,\s*{_NAME})*"
_LINE = re.compile(
    rf"(?P<columns>{_NAMES})\s+by\s+(?P<key>{_NAMES})\s+over\s+(?P<rows>\d+)(?:\s+step\s+(?P<step>\d+))?"
    rf"\s+of\s+(?P<time>{_NAME})"
)
_EXAMPLE = "acc_x,acc_y by recording over 128 step 64 of t"


@dataclass(frozen=True, kw_only=True)
class WindowSpec:
    """Windows of `rows` rows of a key in the order of `time`, one beginning `step` rows after the other.

    `columns` are those whose values in the window become columns of their own.
    """

    columns: tuple[str, ...]
    key: tuple[str, ...]
    time: str
    rows: int
    step: int

    def __post_init__(self) -> None:
        for name in ("rows", "step"):
            if getattr(self, name) < 1:
                hint = "Give a whole number of rows of at least 1."
                raise ConfigError(f"windows have {name} {getattr(self, name)}", hint=hint)
        names = (*self.columns, *self.key, self.time)
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"windows name the column {twice!r} twice", hint="Name each column in one role.")

    @property
    def reads(self) -> tuple[str, ...]:
        return (*self.columns, *self.key, self.time)

    def name(self, column: str, place: int) -> str:
        """Of the value in the row of this place in the window; the last place is that of the newest row."""
        return f"{column}_{place}"

    @property
    def sequence(self) -> str:
        """What `--sequence` is for the rows that are made."""
        return f"{','.join(f'{column}_*' for column in self.columns)}:{self.rows}"

    @classmethod
    def read(cls, line: str) -> Self:
        """Raises `ConfigError`.

        >>> WindowSpec.read("x,y by id over 8 of t").sequence
        'x_*,y_*:8'
        """
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise ConfigError(f"{line!r} says no windows", hint=f"Write it like {_EXAMPLE!r}.")
        columns, key = (
            tuple(name.strip('"') for name in re.findall(_NAME, match[part])) for part in ("columns", "key")
        )
        rows = int(match["rows"])
        step = int(match["step"] or rows)
        return cls(columns=columns, key=key, time=match["time"].strip('"'), rows=rows, step=step)
