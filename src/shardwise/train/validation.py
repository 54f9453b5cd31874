"""The rows on which candidates are compared, and what few of them may decide."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shardwise.core.findings import Finding
from shardwise.core.schema import Feature
from shardwise.core.target import Target, Task
from shardwise.data.limits import MOST_SHARE, limit_of
from shardwise.data.rows import DiskRows
from shardwise.train.passes import FLOATS

SQUARED = ("rmse", "r2")  # metrics that sum squared errors


def validation_rows(
    rows: Path, features: Sequence[Feature], folds: Sequence[int], target: Target, metric: str
) -> DiskRows:
    """The rows of these folds below the folder `rows`; each carries a limited share of squared errors."""
    valid = DiskRows(rows / FLOATS, features, folds)
    if target.task is not Task.REGRESSION or metric not in SQUARED:
        return valid
    return valid.limited(limit_of(valid.target(), valid.weight()))


def joint_weight(folds: Sequence[DiskRows]) -> np.ndarray | None:
    """Weights of the rows of all folds; where some alone have them, as few rows decide there, those of others are 1."""
    weights = [rows.weight() for rows in folds]
    if all(weight is None for weight in weights):
        return None
    return np.concatenate(
        [np.ones(rows.n_rows) if own is None else own for own, rows in zip(weights, folds, strict=True)]
    )


def joint_units(folds: Sequence[DiskRows]) -> np.ndarray | None:
    """Codes `(rows,)` of the groups whose rows depend on each other, over all folds; None: each row is on its own."""
    groups = [rows.group() for rows in folds]
    there = [group for group in groups if group is not None]
    return np.unique(np.concatenate(there), return_inverse=True)[1] if there and len(there) == len(groups) else None


def limit_findings(target: Target, valid: Sequence[DiskRows]) -> list[Finding]:
    """That few rows make most of the squared errors of the validation rows of each fold, where they do."""
    limited = [rows for rows in valid if rows.limit is not None]
    if not limited:
        return []
    many, share = 0, 0.0
    for rows in limited:
        assert rows.limit is not None
        y = rows.target()
        squares = np.square(y - rows.limit.center)
        beyond = rows.limit.weight(y) < 1.0
        many += int(beyond.sum())
        share = max(share, float(squares[beyond].sum() / squares.sum()))
    total = sum(rows.n_rows for rows in valid)
    return [
        Finding(
            code="few_rows_decide", severity="warning", columns=(target.column,),
            evidence={"rows": many, "of": total, "share": share, "most": MOST_SHARE},
            text=f"{many} of {total:,} validation rows would carry up to {share:.0%} of the squared error of a "
            f"constant. Where candidates are compared each counts for {MOST_SHARE:.0%} at most, so that validation "
            "scores are below the full ones; scores of the sealed test are not limited.",
            hint="Look at these rows: leave out what is a mistake; if they are real, --metric mae asks for what most "
            "rows are like.",
        )
    ]  # fmt: skip
