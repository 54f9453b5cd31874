"""Parts of rows: what is learned from out-of-fold predictions is judged on each of them by what the others gave."""

import numpy as np

LEAST_REST = 0.2  # of the rows, that are left without any one of the parts: less tells too little of it


def group_parts(units: np.ndarray, parts: int) -> np.ndarray:
    """Int64 `(rows,)` below `parts`: whole groups, by their codes `units` `(rows,)`, dealt out by falling size.

    Of fewer groups than `parts` there are as many as there are groups; the rows of a single one are cut in their order.

    >>> group_parts(np.array([7, 7, 3, 9, 9, 9]), 2).tolist()
    [1, 1, 0, 0, 0, 0]
    """
    _, codes, sizes = np.unique(units, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        return np.arange(len(units)) * parts // max(1, len(units))
    dealt = np.empty(len(sizes), np.int64)
    dealt[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes)) % parts
    return dealt[codes]


def chosen_by_others(losses: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """For each part the candidate that is best on the other parts, int64 `(parts,)`, from the losses
    `(candidates, parts)` and the `rows` of each part; the first of those that are as good.

    >>> chosen_by_others(np.array([[0.1, 0.5], [0.2, 0.3]]), np.array([10.0, 10.0])).tolist()
    [1, 0]
    """
    others = (losses @ rows)[:, None] - losses * rows
    return np.asarray(others.argmin(axis=0))


def leave_enough(part: np.ndarray) -> bool:
    """Whether without any one of the parts `(rows,)` enough rows are left to learn from."""
    _, rows = np.unique(part, return_counts=True)
    return len(rows) > 1 and float(rows.max()) <= (1.0 - LEAST_REST) * len(part)
