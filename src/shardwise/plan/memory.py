"""Sizes to bytes of memory: what learning trees takes, and what the processes take that learn nothing.

Notation: n training rows, v validation rows, f binned features, k outputs (classes, else 1), l leaves. LightGBM holds

    n (f + 34 + 16 k) + v (f + 12 + 8 k) + 16 * 255 f (l + 1)

bytes: a byte a cell; label, indices and their copies; score, gradient and hessian of each output (ordered copies among
the 34); histograms of all leaves. Measured: 80.2 bytes for each of 4 million rows of 30 features and one output, the
labels that were handed over among them; the formula gives 83.9.
"""

PROCESS_BYTES = 150_000_000  # an interpreter with the libraries: 141 MB of its own, the rest is shared
MAIN_BYTES = 450_000_000  # the process that merges profiles and summaries: 260 to 510 MB on 2 million rows x 30
PASS_BYTES = 380_000_000  # a worker of a pass over the raw data: 240 to 365 MB
_ROW, _ROW_OUTPUT = 34, 16
_VALID_ROW, _VALID_OUTPUT = 12, 8
_HISTOGRAM = 16 * 255


def trees_bytes(rows: int, features: int, outputs: int = 1, *, valid_rows: int = 0, leaves: int = 127) -> int:
    """Memory that learning trees takes beside the process.

    >>> round(trees_bytes(4_000_000, 30) / 4_000_000, 1)
    83.9
    """
    train = rows * (features + _ROW + _ROW_OUTPUT * outputs)
    valid = valid_rows * (features + _VALID_ROW + _VALID_OUTPUT * outputs)
    return train + valid + histogram_bytes(features, leaves)


def histogram_bytes(features: int, leaves: int) -> int:
    """Histograms of all leaves of a tree."""
    return _HISTOGRAM * features * (leaves + 1)
