"""Seeds have names, so that a result never depends on which worker computed it, or in which order."""

import hashlib


def derive_seed(root: int, *names: object) -> int:
    """A seed below 2**31 from a root seed and the names of what it is for.

    >>> derive_seed(0, "tune", 3) == derive_seed(0, "tune", 3) != derive_seed(0, "tune", 4)
    True
    """
    text = "\x1f".join([str(root), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 33
