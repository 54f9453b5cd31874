"""Scores as what people read: a label or a number, and the probability of each class."""

import numpy as np
import pyarrow as pa

from shardwise.core.target import Target, canonical_label

PREDICTION = "prediction"
PROBABILITY = "probability_"


def probability_names(target: Target) -> list[str]:
    """`probability_<class>` for each class."""
    return [f"{PROBABILITY}{canonical_label(label)}" for label in target.classes]


def answer_batch(target: Target, scores: np.ndarray) -> pa.RecordBatch:
    """Columns `prediction` (a label in its own type, or a number) and, for classes, `probability_<class>`."""
    if not target.task.is_classification:
        return pa.RecordBatch.from_arrays([pa.array(scores.reshape(-1))], names=[PREDICTION])
    labels = target.decode(scores.argmax(axis=1))
    names = [PREDICTION, *probability_names(target)]
    return pa.RecordBatch.from_arrays([labels, *map(pa.array, scores.T)], names=names)
