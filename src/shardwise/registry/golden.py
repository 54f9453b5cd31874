"""Golden rows: raw rows with the predictions that the package gave when it was made.

Loading a package predicts them again. On the machine and with the libraries of the making the answer is the same to the
bit; another processor or other versions round differently, so a difference is measured against the greatest golden
prediction: up to `SAME_LIBRARIES` with the same versions, up to `OTHER_LIBRARIES` with others. More is an error.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from shardwise.core.errors import PackageError

SAME_LIBRARIES = 1e-6
OTHER_LIBRARIES = 1e-4
ROWS = "golden/rows.arrow"
PREDICTIONS = "golden/predictions.npy"
Score = Callable[[pa.RecordBatch], np.ndarray]


def write_golden(folder: Path, rows: pa.RecordBatch, predictions: np.ndarray) -> None:
    """Write raw rows and predictions, float64 `(rows,)` or `(rows, classes)`."""
    (folder / ROWS).parent.mkdir(exist_ok=True)
    plain = rows.replace_schema_metadata(None)
    with pa.OSFile(str(folder / ROWS), "wb") as file, pa.ipc.new_file(file, plain.schema) as writer:
        writer.write_batch(plain)
    np.save(folder / PREDICTIONS, predictions, allow_pickle=False)


def read_golden(folder: Path) -> tuple[pa.RecordBatch, np.ndarray]:
    """What `write_golden` wrote."""
    with pa.OSFile(str(folder / ROWS), "rb") as file:
        rows = pa.ipc.open_file(file).get_batch(0)
    return rows, np.load(folder / PREDICTIONS, allow_pickle=False)


def check_golden(folder: Path, score: Score, *, same_libraries: bool) -> float:
    """The greatest relative difference; raises `PackageError` when it is above the tolerance."""
    rows, expected = read_golden(folder)
    found = difference(score(rows), expected)
    tolerance = SAME_LIBRARIES if same_libraries else OTHER_LIBRARIES
    if not found <= tolerance:
        message = f"the golden rows are predicted differently than when the package was made, by {found:.2g}"
        hint = "Train it anew." if same_libraries else "Install the library versions of its manifest, or train it anew."
        raise PackageError(f"{message} (tolerance {tolerance:g})", hint=hint)
    return found


def difference(predictions: np.ndarray, expected: np.ndarray) -> float:
    """Greatest absolute difference over the greatest absolute expected value; infinite for other shapes."""
    if predictions.shape != expected.shape:
        return float("inf")
    if np.array_equal(predictions, expected):
        return 0.0
    return float(np.abs(predictions - expected).max() / np.abs(expected).max(initial=np.finfo(np.float64).tiny))
