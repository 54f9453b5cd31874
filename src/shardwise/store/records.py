"""Records as JSON text, the same text for the same record."""

import json
from typing import Any

import numpy as np


def encode(value: Any, *, sort: bool = False) -> str:
    """JSON in one line; NumPy scalars become numbers, NaN and infinities are kept; `TypeError` for anything else.

    >>> encode({"rows": np.int64(3), "columns": ("a", "b")})
    '{"rows":3,"columns":["a","b"]}'
    """
    return json.dumps(value, sort_keys=sort, separators=(",", ":"), ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__} cannot be part of a record")
