"""What a gate asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest

REQUIRED = ("not-worse", "better")


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """Limits, and what to look at.

    metric               by which the models are compared; None: the default one of the task
    require              `not-worse` than the champion by more than the margin, or `better`; shown, not just seen
    margin               in units of the metric, or a share of the champion's value (`1%`)
    level                of intervals; a challenger at the margin passes with a chance of (1 - level) / 2
    slices               columns by whose values to compare as well
    slice_margin         by how much a slice may be worse; what counts is what is shown, with all slices in mind
    group, weight        columns: rows of one group belong together; how much a row counts
    calibration_margin   by how much the calibration error may grow (`stats.calibration`)
    latency_ratio, size_ratio, memory_ratio   challenger over champion, at most
    costs                whether latency, size and memory are measured
    new_columns          whether the challenger may read columns that the champion does not
    strict               warnings stop as well
    seed                 of resampling and of the rows that are drawn
    """

    metric: str | None = None
    require: str = "not-worse"
    margin: str | float = "1%"
    level: float = 0.95
    slices: tuple[str, ...] = ()
    slice_margin: str | float = "5%"
    group: str | None = None
    weight: str | None = None
    calibration_margin: float = 0.02
    latency_ratio: float = 1.5
    size_ratio: float = 3.0
    memory_ratio: float = 2.0
    costs: bool = True
    new_columns: bool = False
    strict: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.require not in REQUIRED:
            raise ConfigError(f"require is {self.require!r}", hint=nearest(self.require, REQUIRED))
        if not 0.5 < self.level < 1:
            raise ConfigError(f"level is {self.level}", hint="Give a share between 0.5 and 1, such as 0.95.")
        for name in ("margin", "slice_margin"):
            margin_in(getattr(self, name), 1.0)
        for name in ("latency_ratio", "size_ratio", "memory_ratio", "calibration_margin"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint="Give a number above 0.")

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any]) -> Self:
        """From keywords or a YAML mapping; raises `ConfigError` for an unknown key or a value of another type."""
        types = {item.name: item.default for item in fields(cls)}
        given = {}
        for raw, value in content.items():
            key = str(raw).replace("-", "_")
            if key not in types:
                raise ConfigError(f"there is no option {raw!r} of a gate", hint=nearest(key, types))
            given[key] = _checked(key, value, types[key])
        return cls(**given)


def _checked(key: str, value: Any, default: Any) -> Any:
    if key == "slices":
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"slices is {value!r}", hint="Name a column, or a list of columns: [town, hour].")
        return tuple(names)
    kinds = {str: (str, int, float), float: (int, float), bool: (bool,), int: (int,), type(None): (str, type(None))}
    if not isinstance(value, kinds[type(default)]) or (isinstance(value, bool) and not isinstance(default, bool)):
        raise ConfigError(f"{key} is {value!r}", hint=f"Give a value such as {default!r}.")
    return value


def margin_in(margin: str | float, value: float) -> float:
    """A margin in units of the metric whose value is given.

    >>> margin_in("1%", 20.0), margin_in(0.5, 20.0)
    (0.2, 0.5)
    """
    text = str(margin).strip()
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ConfigError(f"{margin!r} is no margin", hint="Give a number from 0 up, or a share such as 1%.")
    return number / 100 * abs(value) if text.endswith("%") else number
