"""A stack of models: a generalised linear model on their scores, with or without small trees. `stacking` learns it.

The score of a prediction is its link: log-odds of two classes, logarithms of the probabilities of several, the
logarithm of a count, a number itself. With s_m the score of member m,

    prediction = inverse link(bias + sum over m of slope_m s_m + sum of trees(s)),   slope_m >= 0

Of a mean it differs in that slopes need not sum to one, so that it can sharpen or soften, and shift. Trees see the
scores of all members side by side.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

import numpy as np

from shardwise.core.target import Task
from shardwise.ensemble.combine import MeanCombiner
from shardwise.ensemble.score_trees import ScoreTrees
from shardwise.models.links import link, unlink

_KINDS = "stack", "stack_trees"  # without and with trees: what does not know them must not pass them over


@dataclass(frozen=True)
class Stack:
    """A fitted stack over models: consecutive ones of the same group are averaged, each group has a slope."""

    task: Task
    slopes: tuple[float, ...]
    bias: tuple[float, ...]
    groups: tuple[int, ...]  # of each model, in order
    trees: ScoreTrees | None = None

    def combine(self, predictions: Iterable[np.ndarray]) -> np.ndarray:
        """Float64 `(rows, classes)` or `(rows,)`; each row by itself, so that it gets the same bits in any batch."""
        return link(self.task, self.scored(unlink(self.task, mean) for mean in self._means(predictions)))

    def scored(self, scores: Iterable[np.ndarray]) -> np.ndarray:
        """The raw score `(rows, columns)` of those of each group, which only trees need all at once."""
        total: np.ndarray | None = None
        scores = scores if self.trees is None else list(scores)
        for slope, score in zip(self.slopes, scores, strict=True):
            part = slope * score
            total = part if total is None else np.add(total, part, out=total)
        assert total is not None
        total += np.array(self.bias)
        return total if self.trees is None else total + self.trees.added(np.hstack(list(scores)), total.shape[1])

    def _means(self, predictions: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        models = iter(predictions)
        for group in range(len(self.slopes)):
            size = self.groups.count(group)
            yield MeanCombiner([1.0] * size).combine(islice(models, size))

    def to_json(self) -> dict[str, Any]:
        trees = {} if self.trees is None else {"trees": self.trees.to_json()}
        return {"kind": _KINDS[bool(trees)], "task": self.task.value, "slopes": list(self.slopes),
                "bias": list(self.bias), "groups": list(self.groups), **trees}  # fmt: skip

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`; raises `KeyError`, `TypeError` or `ValueError` for another content."""
        slopes, bias = (tuple(map(float, content[name])) for name in ("slopes", "bias"))
        groups = tuple(map(int, content["groups"]))
        if content["kind"] != _KINDS["trees" in content] or list(dict.fromkeys(groups)) != list(range(len(slopes))):
            raise ValueError("no stack")
        trees = ScoreTrees.from_json(content["trees"]) if "trees" in content else None
        return cls(Task(content["task"]), slopes, bias, groups, trees)
