"""Values as JSON has them: it knows no NaN and no infinity, which Python's `json` writes all the same."""

import math
from collections.abc import Mapping
from typing import Any


def finite(value: Any) -> Any:
    """The value, and all that is in it, with None in the place of numbers that are not finite.

    >>> finite({"p": float("nan"), "range": (0.0, float("inf"))})
    {'p': None, 'range': [0.0, None]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    return [finite(part) for part in value] if isinstance(value, list | tuple) else value
