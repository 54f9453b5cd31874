"""Rounding that makes sums of products exact: factors are whole multiples of 2**-18 and 2**-20 (see `forward`)."""

import numpy as np

_WEIGHT = 2.0**20
ACTIVATION = 2.0**18
_TABLE = "categories"
_FACTORS = ("pieces", "head", "w")  # first letters of what is a factor in a product of matrices


def exact(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Float64 weights for `forward`, rounded where they are factors; the table of categories stays as it is: it may be
    large, and lie in a file."""
    doubles = {name: array if name == _TABLE else array.astype(np.float64) for name, array in weights.items()}
    factors = {name: _rounded(array, _WEIGHT) for name, array in doubles.items() if name.startswith(_FACTORS)}
    return {**doubles, **factors}


def settled(values: np.ndarray) -> np.ndarray:
    """Activations to the nearest multiple, in place."""
    return _rounded(values, ACTIVATION)


def _rounded(values: np.ndarray, steps: float) -> np.ndarray:
    """To the nearest multiple of 1 / steps, in place."""
    values *= steps
    np.rint(values, out=values)
    values *= 1 / steps
    return values
