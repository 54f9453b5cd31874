"""Spaces as users narrow and extend them, and as samplers see them: a unit cube.

space:
  trees:
    num_leaves: [16, 64]                 # of a number: from, to
    categorical: [native]                # of a choice: the values
    subsample: 0.8                       # held at one value
    extra_trees: null                    # left at the family's default
    max_depth: {low: 3, high: 12}        # a param that the family does not search by itself: from, to
    max_bin: {values: [63, 255]}         # and one of which these values are tried
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest
from shardwise.core.space import Choice, Dimension, Float, Int, Space
from shardwise.core.units import is_number

_KEYS = ("low", "high", "log", "values", "default", "when", "cost")


def narrowed(spaces: Mapping[str, Space], given: Mapping[str, Mapping[str, Any]]) -> dict[str, Space]:
    """The spaces with what a user says of them; raises `ConfigError` for what cannot be meant, or leaves no point."""
    found = {family: dict(space) for family, space in spaces.items()}
    for family, changes in given.items():
        if family not in found:
            raise ConfigError(f"no space is searched for the family {family!r}", hint=nearest(family, found))
        if not isinstance(changes, Mapping):
            raise ConfigError(f"the space of {family!r} is {changes!r}", hint="Write it like {num_leaves: [16, 64]}.")
        for name, value in changes.items():
            if value is None:
                found[family].pop(name, None)
            else:
                found[family][name] = _dimension(f"{family}.{name}", found[family].get(name), value)
    return {family: space for family, space in found.items() if space}


def _dimension(name: str, known: Dimension | None, given: Any) -> Dimension:
    """One dimension from what was written, and what the family says of it."""
    if isinstance(given, Mapping):
        return _from_mapping(name, known, given)
    if not isinstance(given, list | tuple):
        return _checked(name, Choice((given,), default=given, when=known.when if known else None))
    if not given:
        raise ConfigError(f"the space of {name} has no point", hint="Name a value, or leave it out.")
    if known is None and len(given) == 2 and all(map(is_number, given)):
        low, high = sorted(given)
        raise ConfigError(
            f"the space of {name} is {list(given)}, of which no range is known: from, to, or two values?",
            hint=f"Write {{low: {low}, high: {high}}}, or {{values: {list(given)}}}.",
        )
    if known is None or isinstance(known, Choice):
        return Choice(tuple(given), default=_first_known(known, given), when=known.when if known else None)
    if len(given) != 2:
        raise ConfigError(f"the space of {name} is {list(given)}", hint="Give two numbers: from, to.")
    return _checked(name, _ranged(name, known, given))


def _ranged(name: str, known: Float | Int, given: Sequence[Any]) -> Dimension:
    low, high = (_number(name, value) for value in given)
    whole = isinstance(low, int) and isinstance(high, int)
    if isinstance(known, Int) and not whole:
        raise ConfigError(f"the space of {name} is {list(given)}", hint="Give whole numbers: from, to.")
    return replace(known, low=low, high=high)  # type: ignore[arg-type]  # a default beyond an end is taken for that end


def _from_mapping(name: str, known: Dimension | None, given: Mapping[str, Any]) -> Dimension:
    for key in given:
        if key not in _KEYS:
            raise ConfigError(f"the space of {name} has no {key!r}", hint=nearest(str(key), _KEYS))
    content = dict(given)
    if content.get("when") is not None:
        if not isinstance(content["when"], Mapping) or len(content["when"]) != 1:
            raise ConfigError(f"when of {name} is {content['when']!r}", hint="Write it like {categorical: [native]}.")
        other, values = next(iter(content["when"].items()))
        content["when"] = (str(other), tuple(values) if isinstance(values, list | tuple) else (values,))
    if "values" in content:
        listed = content.pop("values")
        if not isinstance(listed, list | tuple):
            raise ConfigError(f"the values of {name} are {listed!r}", hint="Give a list, such as [native, ordinal].")
        values = tuple(listed)
        if not values:
            raise ConfigError(f"the space of {name} has no point", hint="Name a value, or leave it out.")
        content = ({"when": known.when, "cost": known.cost} if known is not None else {}) | content
        return Choice(values, **{key: value for key, value in content.items() if key in ("default", "when", "cost")})
    if known is not None and not isinstance(known, Choice):
        content = {key: getattr(known, key) for key in ("low", "high", "log", "default", "when", "cost")} | content
    if not {"low", "high"} <= content.keys():
        raise ConfigError(f"the space of {name} is {dict(given)}", hint="Give low and high, or values.")
    low, high = (_number(name, content[key]) for key in ("low", "high"))
    whole = isinstance(low, int) and isinstance(high, int)
    if isinstance(known, Int) and not whole:
        raise ConfigError(f"the space of {name} is {low:g} to {high:g}", hint="Give whole numbers.")
    kind = Int if whole and not isinstance(known, Float) else Float
    return _checked(name, kind(**content))


def _checked(name: str, dimension: Dimension) -> Dimension:
    """Itself; raises `ConfigError` where there is no point in it."""
    if not isinstance(dimension, Choice):
        if dimension.low > dimension.high:
            span = f"{dimension.low:g} to {dimension.high:g}"
            raise ConfigError(f"the space of {name} has no point: {span}", hint="Give the lower number first.")
        if not isinstance(dimension.log, bool):
            raise ConfigError(f"log of {name} is {dimension.log!r}", hint="Give true or false.")
        if dimension.log and dimension.low <= 0:
            raise ConfigError(
                f"the space of {name} begins at {dimension.low:g}, and is searched by its logarithm",
                hint=f"A logarithm needs more than 0; or write {{low: {dimension.low:g}, high: {dimension.high:g}, "
                "log: false}.",
            )
        _number(name, dimension.cost, "cost")
        if dimension.default is not None:
            _number(name, dimension.default, "default")
    return dimension


def _number(name: str, value: Any, what: str = "end") -> float | int:
    if not is_number(value) or not math.isfinite(value):
        raise ConfigError(f"the space of {name} has the {what} {value!r}", hint="Give a number.")
    return value


def _first_known(known: Dimension | None, values: Sequence[Any]) -> Any:
    return known.default if known is not None and known.default in values else values[0]


@dataclass(frozen=True)
class Cube:
    """A space as the unit cube `[0, 1]^d`, its dimensions in the order of their names."""

    space: Space

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.space))

    @property
    def dimensions(self) -> list[Dimension]:
        return [self.space[name] for name in self.names]

    def params(self, point: Sequence[float] | np.ndarray) -> dict[str, Any]:
        """The params at a point `(d,)`; those that do not count under the others are left out."""
        values = {name: self.space[name].at(float(p)) for name, p in zip(self.names, point, strict=True)}
        return self.active(values)

    def active(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Without params whose condition does not hold; a condition on a param that is not there holds, unless that
        param is of the space and does not count itself."""
        return {name: value for name, value in values.items() if self._holds(name, values)}

    def _holds(self, name: str, values: Mapping[str, Any], above: tuple[str, ...] = ()) -> bool:
        """Of a param on which those `above` depend: conditions in a circle are asked once."""
        when = self.space[name].when if name in self.space else None
        if when is None:
            return True
        other, allowed = when
        if other not in above and not self._holds(other, values, (*above, name)):
            return False
        return other not in values or values[other] in allowed

    def point(self, params: Mapping[str, Any]) -> np.ndarray:
        """Where params lie, float64 `(d,)`: one that is not given at its default, one out of range at the next end."""
        return np.array([self._place(name, params) for name in self.names])

    def _place(self, name: str, params: Mapping[str, Any]) -> float:
        dimension = self.space[name]
        value = params.get(name, dimension.default)
        if value is None and not isinstance(dimension, Choice):
            return 0.5
        return dimension.place(value)

    def default(self) -> dict[str, Any]:
        """The params at the family's defaults."""
        return self.params(self.point({}))

    def log_cost(self, point: np.ndarray) -> float:
        """Logarithm of the seconds of a fit, up to a constant of the data, by the exponents that are declared."""
        total = 0.0
        for name, place in zip(self.names, point, strict=True):
            dimension = self.space[name]
            value = dimension.at(float(place))
            if dimension.cost and not isinstance(dimension, Choice) and value > 0:
                total += dimension.cost * math.log(value)
        return total
