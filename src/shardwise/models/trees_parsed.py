"""LightGBM's trees as arrays, read from their texts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

CATEGORICAL, DEFAULT_LEFT = 1, 2  # bits of LightGBM's decision type; two more say what counts as missing
NONE, ZERO, NAN = 0, 1, 2
TINY = 1e-35  # what LightGBM takes for zero, where zeros are missing


@dataclass(frozen=True)
class ParsedTree:
    """A tree as its text has it; children below 0 are leaves, `~child` their numbers.

    Bits of a `decision`: `CATEGORICAL`, `DEFAULT_LEFT`, and from the third on `NONE`, `ZERO` or `NAN`, what is missing.
    """

    feature: np.ndarray
    threshold: np.ndarray
    decision: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray  # float64, of the leaves
    bitsets: tuple[np.ndarray, ...]  # categories that go to the left, one bit each, of categorical splits


def parse_trees(trees: Iterable[str]) -> Iterator[ParsedTree]:
    """The trees of LightGBM's texts, in their order: those of a round lie beside each other, one for each output."""
    for text in trees:
        fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        value = _floats(fields["leaf_value"])
        bounds = _whole(fields.get("cat_boundaries", ""))
        bits = np.array(fields.get("cat_threshold", "").split(), np.uint32)
        sets = tuple(bits[start:stop] for start, stop in pairwise(bounds.tolist()))
        names = ("split_feature", "decision_type", "left_child", "right_child")
        feature, decision, left, right = (_whole(fields.get(name, "")) for name in names)
        yield ParsedTree(feature, _floats(fields.get("threshold", "")), decision, left, right, value, sets)


def _whole(text: str) -> np.ndarray:
    return np.array(text.split(), np.int64)


def _floats(text: str) -> np.ndarray:
    return np.array(text.split(), np.float64)
