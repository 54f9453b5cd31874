"""What every family checks before it learns or predicts."""

from collections.abc import Sequence

import numpy as np

from shardwise.core.errors import DataError, TargetError
from shardwise.core.schema import Feature
from shardwise.core.target import Target, Task
from shardwise.models.base import Rows


def not_fitted(family: str) -> DataError:
    """The error of a model that is used before `fit`."""
    return DataError(f"the {family} model is not fitted", hint="Call fit first.")


def labels(rows: Rows) -> tuple[np.ndarray, np.ndarray | None]:
    """Target and weight of rows that can be learned from; raises `DataError` when there are none."""
    y, weight = rows.target(), rows.weight()
    if len(y) == 0:
        raise DataError(
            "there are no training rows",
            hint="Give more data, or a smaller share for validation and test. Rows without a label or a weight above 0 "
            "do not count.",
        )
    if weight is not None and not weight.sum() > 0:
        raise DataError("the weights of all training rows are zero", hint="Check the weight column.")
    return y, weight


def check_counts(target: Target, y: np.ndarray) -> None:
    """Raise `TargetError` where counts are to be learned and some are negative."""
    if target.task is Task.COUNT and y.min() < 0:
        raise TargetError(
            f"a count cannot be negative, {y.min():g} was found in {target.column!r}", hint="Use --task regression."
        )


def check_matrix(X: np.ndarray, features: Sequence[Feature]) -> None:
    """Raise `DataError` unless X is `(rows, features)`."""
    if X.ndim != 2 or X.shape[1] != len(features):
        raise DataError(f"rows of {len(features)} features are expected, X has the shape {X.shape}")
