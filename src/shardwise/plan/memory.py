"""Sizes to bytes of memory: what learning trees takes, and what the processes take that learn nothing.

Notation: n training rows, v validation rows, f binned features, k outputs (classes, else 1), l leaves. LightGBM holds

    n (f + 34 + 16 k) + v (f + 12 + 8 k) + 16 * 255 f (l + 1)

bytes: a byte a cell; label, indices and their copies; score, gradient and hessian of each output (ordered copies among
the 34); histograms of all leaves. Measured: 80.2 bytes for each of 4 million rows of 30 features and one output, the
labels that were handed over among them; the formula gives 83.9.

Trees that grow take more the longer it lasts: `GROWN_LEAF_BYTES` for each leaf. A fit has as much for them as all its
rounds may need, but a fifth of what it has in all; where that is not enough, fewer rounds are boosted.
"""

from collections.abc import Mapping
from typing import Any

from shardwise.models.trees_data import GROWN_LEAF_BYTES
from shardwise.models.trees_params import TreesParams

PROCESS_BYTES = 150_000_000  # an interpreter with the libraries: 141 MB of its own, the rest is shared
MAIN_BYTES = 450_000_000  # the process that merges profiles and summaries: 260 to 510 MB on 2 million rows x 30
PASS_BYTES = 380_000_000  # a worker of a pass over the raw data: 240 to 365 MB
_ROW, _ROW_OUTPUT = 34, 16
_VALID_ROW, _VALID_OUTPUT = 12, 8
_HISTOGRAM = 16 * 255
LARGE_LEAVES = 127  # of a tree that is larger than most
MOST_ROUNDS = TreesParams().n_estimators
_GROWING_SHARE = 0.2


def trees_bytes(rows: int, features: int, outputs: int = 1, *, valid_rows: int = 0, leaves: int = LARGE_LEAVES) -> int:
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


def held_rounds(params: Mapping[str, Mapping[str, Any]]) -> int:
    """The most rounds of trees, by the params that are held down for all candidates of a family."""
    rounds: int = params.get("trees", {}).get("n_estimators", MOST_ROUNDS)
    return rounds


def growing_bytes(room_bytes: float, outputs: int, rounds: int = MOST_ROUNDS) -> float:
    """What of the memory of a fit is kept for at most so many rounds of trees."""
    return min(_GROWING_SHARE * max(0.0, room_bytes), float(rounds) * outputs * LARGE_LEAVES * GROWN_LEAF_BYTES)
