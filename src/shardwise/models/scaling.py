"""Targets of regression and quantiles, standardised for learning and brought back for predicting."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

_LARGEST = 700.0  # exp of more is not finite


@dataclass(frozen=True, kw_only=True)
class TargetScale:
    """z = (t(y) - center) / scale, where t is the identity or log1p.

    >>> scale = TargetScale.of(np.array([1e12, 1e12 + 2.0]))
    >>> scale.apply(np.array([1e12, 1e12 + 2.0])), scale.invert(np.array([0.0]))
    (array([-1.,  1.]), array([1.e+12]))
    """

    center: float = 0.0
    scale: float = 1.0
    transform: str | None = None

    @classmethod
    def of(cls, y: np.ndarray, transform: str | None = None) -> Self:
        """Mean and standard deviation of the transformed targets, float64 `(rows,)`; a constant has the scale 1."""
        shifted = np.log1p(y) if transform == "log1p" else y
        center = float(shifted.mean())
        scale = float(np.sqrt(np.mean((shifted - center) ** 2)))
        usable = np.isfinite(scale) and scale > 1e-12 * abs(center) and scale > 0
        return cls(center=center, scale=scale if usable else 1.0, transform=transform)

    def apply(self, y: np.ndarray) -> np.ndarray:
        """Targets at or below -1, where log1p has no value, count as almost -1."""
        shifted = np.log1p(np.maximum(y, -1 + 1e-9)) if self.transform == "log1p" else y
        return np.asarray((shifted - self.center) / self.scale)

    def invert(self, z: np.ndarray) -> np.ndarray:
        shifted = z * self.scale + self.center
        return np.expm1(np.minimum(shifted, _LARGEST)) if self.transform == "log1p" else shifted

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(**content)
