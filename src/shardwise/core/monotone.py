"""`monotone` of a config: predictions that never fall, or never rise, as a column of numbers rises."""

from collections.abc import Mapping
from typing import Any

from shardwise.core.errors import ConfigError

FAMILIES = ("baseline", "trees")  # that hold constraints
_SIGNS = {"+1": 1, "1": 1, "-1": -1, "0": 0}


def read_monotone(given: Mapping[str, object]) -> dict[str, int]:
    """Signs by column, of numbers or text; a 0 is left out. Raises `ConfigError` for anything else.

    >>> read_monotone({"age": "+1", "price": -1})
    {'age': 1, 'price': -1}
    """
    found = {}
    for column, text in given.items():
        sign = _SIGNS.get(str(text).strip())
        if sign is None:
            raise ConfigError(f"monotone {column!r} is {text!r}", hint="Give +1 (rises) or -1 (falls), as in age=+1.")
        found[column] = sign
    return {column: sign for column, sign in found.items() if sign}


def with_monotone(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options with `monotone` as a param that is held for trees, which are then the only family.

    Raises `ConfigError` where a family was asked for that does not hold constraints.

    >>> with_monotone({"monotone": {"age": "+1"}})
    {'params': {'trees': {'monotone': {'age': 1}}}, 'families': ('trees',)}
    """
    rest = {name: value for name, value in given.items() if name != "monotone"}
    signs = read_monotone(given.get("monotone") or {})
    if not signs:
        return rest
    families = rest.get("families") or ("trees",)
    families = (families,) if isinstance(families, str) else tuple(families)
    unable = [family for family in families if family not in FAMILIES]
    if unable:
        raise ConfigError(f"{unable[0]} models hold no monotone constraints", hint="Ask for trees alone.")
    params = dict(rest.get("params") or {})
    return {**rest, "params": {**params, "trees": {**params.get("trees", {}), "monotone": signs}}, "families": families}
