"""The params of a family: a frozen dataclass, made from keywords; unknown names and wrong values are refused."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest

P = TypeVar("P")


def parse_params(kind: type[P], family: str, given: Mapping[str, Any]) -> P:
    """An instance of the dataclass `kind`; raises `ConfigError` that names the nearest param."""
    check_names(kind, family, given)
    return kind(**given)


def check_names(kind: type, family: str, names: Iterable[str]) -> None:
    """Raise `ConfigError` that names the nearest param, for one that the dataclass `kind` does not have."""
    allowed = [field.name for field in fields(kind)]
    for name in names:
        if name not in allowed:
            raise ConfigError(f"{family} models have no param {name!r}", hint=nearest(name, allowed))


def check_range(params: object, **ranges: tuple[float, float]) -> None:
    """Raise `ConfigError` unless each named number lies in its range, both ends included.

    An end that is an int asks for a whole number.
    """
    for name, (low, high) in ranges.items():
        value = getattr(params, name)
        whole = isinstance(low, int)
        right = isinstance(value, int) if whole else isinstance(value, int | float)
        if not right or isinstance(value, bool) or not low <= value <= high:
            kind = "a whole number" if whole else "a number"
            raise ConfigError(f"{name}={value!r} is not allowed", hint=f"Give {kind} from {low:g} to {high:g}.")


def check_choice(params: object, name: str, allowed: Collection[object]) -> None:
    """Raise `ConfigError` unless the value is one of `allowed`."""
    value = getattr(params, name)
    if value not in allowed:
        raise ConfigError(f"{name}={value!r} is not allowed", hint=f"Allowed: {', '.join(map(repr, allowed))}.")
