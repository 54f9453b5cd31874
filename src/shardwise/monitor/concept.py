"""Does the relation of inputs and outcome still hold? Losses of labelled rows, as labels arrive, watched by detectors.

ADWIN (Bifet and Gavalda 2007, "Learning from time-changing data with adaptive windowing") and Page-Hinkley (Page 1954,
"Continuous inspection schemes"), as river has them. A loss lies in [0, 1]: of classes (1 - p)^2 of the right one; of
numbers |y - p| / (|y - p| + s), where s is the standard deviation of the outcome in training.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from shardwise.core.errors import ConfigError
from shardwise.core.findings import Finding
from shardwise.core.names import nearest
from shardwise.core.target import Target

try:
    from river.drift import ADWIN, PageHinkley

    _MISSING = ""
except ModuleNotFoundError as error:
    _MISSING = str(error)

_LEAST = 300  # losses before anything is said


class Detector(Protocol):
    """What river's detectors offer."""

    @property
    def drift_detected(self) -> bool: ...

    def update(self, x: float) -> Any: ...


DETECTORS: dict[str, Callable[[], Detector]] = {
    "adwin": lambda: ADWIN(  # type: ignore[no-untyped-call]
        delta=1e-5, grace_period=_LEAST
    ),
    "page-hinkley": lambda: PageHinkley(min_instances=_LEAST, delta=0.02, threshold=20.0, alpha=1.0, mode="up"),
}


def missing_library() -> ConfigError | None:
    """What is to be told where labels cannot be watched; None where they can."""
    if not _MISSING:
        return None
    what = f"watching labels needs a library that is not installed ({_MISSING})"
    return ConfigError(what, hint="Run: pip install 'shardwise[monitor]'.")


class ConceptMonitor:
    """Takes labels and predictions in their order; says when the loss has risen."""

    def __init__(self, target: Target, spread: float, detector: str = "adwin") -> None:
        """`spread` is the standard deviation of the outcome in training; raises `ConfigError`."""
        if detector not in DETECTORS:
            raise ConfigError(f"there is no detector {detector!r}", hint=nearest(detector, DETECTORS))
        missing = missing_library()
        if missing is not None:
            raise missing
        self.name = detector
        self.rows = 0
        self._target, self._spread = target, spread if spread > 0 else 1.0
        self._detector = DETECTORS[detector]()
        self._total, self._before = 0.0, 0.0

    def add(self, y: np.ndarray, prediction: np.ndarray) -> list[Finding]:
        """Labels `(rows,)` and predictions as `Predictor.predict` gives them; rows without a label do not count."""
        losses = losses_of(self._target, y, prediction, self._spread)
        return [finding for loss in losses.tolist() for finding in self._step(loss)]

    def _step(self, loss: float) -> list[Finding]:
        self.rows += 1
        mean = self._total / max(self.rows - 1, 1)
        self._total += loss
        before = getattr(self._detector, "estimation", mean)
        self._detector.update(loss)
        if not self._detector.drift_detected:
            self._before = before
            return []
        after = getattr(self._detector, "estimation", loss)
        if self.name == "adwin" and after <= self._before:
            return []  # it has become better
        text = f"the loss has risen: {self.name} sees a change after {self.rows:,} labelled rows"
        evidence = {"detector": self.name, "rows": self.rows, "before": self._before, "after": after}
        return [Finding(code="concept_drift", severity="warning", text=text, evidence=evidence,
                        hint="Retrain with the rows since then.")]  # fmt: skip


def losses_of(target: Target, y: np.ndarray, prediction: np.ndarray, spread: float) -> np.ndarray:
    """Float64 in [0, 1] of the rows that have a label, in their order; numbers are `(rows,)` or `(rows, 1)`."""
    known = ~np.isnan(y)
    y, prediction = y[known], prediction[known]
    if target.task.is_classification:
        own = np.take_along_axis(prediction, y.astype(np.int64)[:, None], axis=1)[:, 0]
        return np.asarray((1.0 - own) ** 2)
    away = np.abs(y - prediction.reshape(-1))
    return np.asarray(away / (away + spread))
