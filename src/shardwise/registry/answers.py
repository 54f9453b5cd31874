"""Scores as what people read: a label or a number, and the probability of each class; intervals and sets."""

import numpy as np
import pyarrow as pa

from shardwise.core.errors import ConfigError
from shardwise.core.target import Target, canonical_label
from shardwise.stats.conformal import Conformal

PREDICTION = "prediction"
PROBABILITY = "probability_"
LOW, HIGH = "prediction_low", "prediction_high"
IN_SET = "in_set_"


def probability_names(target: Target) -> list[str]:
    """`probability_<class>` for each class."""
    return [f"{PROBABILITY}{canonical_label(label)}" for label in target.classes]


def answer_batch(target: Target, scores: np.ndarray) -> pa.RecordBatch:
    """Columns `prediction` (a label in its own type, or a number) and, for classes, `probability_<class>`."""
    if not target.task.is_classification:
        return pa.RecordBatch.from_arrays([pa.array(scores.reshape(-1))], names=[PREDICTION])
    labels = target.decode(target.classes_of(scores))
    names = [PREDICTION, *probability_names(target)]
    return pa.RecordBatch.from_arrays([labels, *map(pa.array, scores.T)], names=names)


def bounds_batch(target: Target, conformal: Conformal | None, scores: np.ndarray, level: float) -> pa.RecordBatch:
    """Columns `prediction_low` and `prediction_high`, or for classes `in_set_<class>`: what holds the truth with a
    chance of at least `level`. Raises `ConfigError` where the package cannot promise it."""
    checked = check_level(conformal, level)
    if not target.task.is_classification:
        ends = checked.interval(scores.reshape(-1), level)
        return pa.RecordBatch.from_arrays([pa.array(end) for end in ends], names=[LOW, HIGH])
    names = [f"{IN_SET}{canonical_label(label)}" for label in target.classes]
    return pa.RecordBatch.from_arrays([pa.array(own) for own in checked.sets(scores, level).T], names=names)


def check_level(conformal: Conformal | None, level: float) -> Conformal:
    """The conformal scores, if they are there and rows enough for the level; else raises `ConfigError`."""
    if conformal is None:
        hint = "It takes 20 out-of-fold rows at least: train it anew, with more rows."
        raise ConfigError("the package has no scores of which intervals or sets could be made", hint=hint)
    conformal.check(level)
    return conformal
