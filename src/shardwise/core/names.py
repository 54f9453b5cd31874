"""Names that people mistype."""

import difflib
from collections.abc import Collection

_COMPARED = 200  # characters of a name: a client may send one of megabytes


def nearest(name: str, allowed: Collection[str], what: str = "Allowed") -> str:
    """A hint that names what is nearest to `name` among `allowed`, or all of them.

    >>> nearest("traget", ["target", "trials"])
    "Did you mean 'target'?"
    """
    close = difflib.get_close_matches(name[:_COMPARED], list(allowed), n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    shown = sorted(allowed)[:30]
    return f"{what}: {', '.join(shown)}{' ...' if len(allowed) > len(shown) else ''}."


def nearest_column(name: str, columns: Collection[str]) -> str:
    """The same for a column that the data lacks.

    >>> nearest_column("x", ["age", "sex"])
    'The data has: age, sex.'
    """
    return nearest(name, columns, "The data has")
