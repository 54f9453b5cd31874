"""Names that people mistype."""

import difflib
from collections.abc import Collection


def nearest(name: str, allowed: Collection[str]) -> str:
    """A hint that names what is nearest to `name` among `allowed`, or all of them.

    >>> nearest("traget", ["target", "trials"])
    "Did you mean 'target'?"
    """
    close = difflib.get_close_matches(name, list(allowed), n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    shown = sorted(allowed)[:30]
    return f"Allowed: {', '.join(shown)}{' ...' if len(allowed) > len(shown) else ''}."
