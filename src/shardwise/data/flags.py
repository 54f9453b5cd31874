"""What a person would notice about a column: pure functions of its statistics."""

from typing import Any, Protocol

import numpy as np

_LEAST_ROWS = 20
_EPOCHS = {"epoch s": 1, "epoch ms": 10**3, "epoch us": 10**6, "epoch ns": 10**9}
_EPOCH_1990_S, _EPOCH_2050_S = 631_152_000, 2_524_608_000


def is_text_id(present: int, unique_share: float, mean_words: float) -> bool:
    """Strings: nearly all distinct, and no sentences."""
    return present >= _LEAST_ROWS and unique_share >= 0.95 and mean_words < 2.5


def is_integer_id(present: int, unique_share: float, span: int) -> bool:
    """Whole numbers: nearly all distinct, and by design rather than by chance.

    Of n amounts spread over a span of S numbers, at least n**2 / (2 S) meet another by chance (the birthday problem;
    more if they are spread unevenly). An identifier has far fewer such meetings. Where the span is so wide that chance
    would give none, only one as wide as a hash counts.
    """
    if present < _LEAST_ROWS or not unique_share >= 0.95:
        return False
    by_chance = present * present / (2 * span)
    met = present * (1 - unique_share)
    return met < 0.2 * by_chance if by_chance >= 5 else unique_share == 1.0 and span > 2**48


def time_hint(low: int, high: int, values: np.ndarray) -> str | None:
    """`yyyymmdd` when all of `values` (a sample of whole numbers) are days, `epoch s` ... when in 1990 to 2050.

    >>> time_hint(20240101, 20241231, np.array([20240131.0, 20240229.0])), time_hint(0, 9, np.array([3.0]))
    ('yyyymmdd', None)
    """
    if 19000101 <= low < high <= 21001231:
        months, days = values // 100 % 100, values % 100
        if ((months >= 1) & (months <= 12) & (days >= 1) & (days <= 31)).all():
            return "yyyymmdd"
    for name, factor in _EPOCHS.items():
        if _EPOCH_1990_S * factor <= low < high <= _EPOCH_2050_S * factor:
            return name
    return None


class Described(Protocol):
    """What `flags_of` looks at; `data.column_profile.ColumnProfile` is one."""

    group: str
    count: int
    infinities: int

    @property
    def present(self) -> int: ...
    @property
    def nulls(self) -> int: ...
    @property
    def is_constant(self) -> bool: ...
    @property
    def is_id_like(self) -> bool: ...
    @property
    def is_time_like(self) -> bool: ...
    @property
    def time_hint(self) -> str | None: ...
    @property
    def is_numeric_text(self) -> bool: ...
    @property
    def mean_words(self) -> float: ...
    @property
    def distinct(self) -> float: ...
    @property
    def text(self) -> Any: ...


def flags_of(column: Described) -> tuple[str, ...]:
    """Names of what holds, in a fixed order."""
    holds = {
        "all_missing": column.count > 0 and column.present == 0,
        "mostly_missing": 0.5 * column.count < column.nulls < column.count,
        "constant": column.is_constant,
        "id_like": column.is_id_like,
        "time_like": column.is_time_like,
        "numeric_text": column.is_numeric_text,
        "ambiguous_date": column.text.times is not None and len(column.text.times) > 1,
        "free_text": column.mean_words >= 4 and column.distinct >= 100,
        "infinite": column.infinities > 0,
    }
    hint = column.time_hint
    return (
        *(name for name, true in holds.items() if true),
        *([f"looks_like_{hint.replace(' ', '_')}"] if hint else []),
    )
