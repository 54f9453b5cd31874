"""A linear stack of models: a generalised linear model on their scores. What learns it is in `stacking`.

The score of a prediction is its link: log-odds of two classes, logarithms of the probabilities of several, the
logarithm of a count, a number itself. With s_m the score of member m,

    prediction = inverse link(bias + sum over m of slope_m s_m),   slope_m >= 0

Of a mean it differs in that slopes need not sum to one, so that it can sharpen or soften, and shift.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

import numpy as np

from shardwise.core.target import Task
from shardwise.ensemble.combine import MeanCombiner
from shardwise.models.links import link, unlink


@dataclass(frozen=True)
class Stack:
    """A fitted stack over models: consecutive ones of the same group are averaged, each group has a slope."""

    task: Task
    slopes: tuple[float, ...]
    bias: tuple[float, ...]
    groups: tuple[int, ...]  # of each model, in order

    def combine(self, predictions: Iterable[np.ndarray]) -> np.ndarray:
        """Float64 `(rows, classes)` or `(rows,)`; each row by itself, so that it gets the same bits in any batch."""
        total: np.ndarray | None = None
        for slope, mean in zip(self.slopes, self._means(predictions), strict=True):
            part = slope * unlink(self.task, mean)
            total = part if total is None else np.add(total, part, out=total)
        assert total is not None
        return link(self.task, total + np.array(self.bias))

    def _means(self, predictions: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        models = iter(predictions)
        for group in range(len(self.slopes)):
            size = self.groups.count(group)
            yield MeanCombiner([1.0] * size).combine(islice(models, size))

    def to_json(self) -> dict[str, Any]:
        return {"kind": "stack", "task": self.task.value, "slopes": list(self.slopes), "bias": list(self.bias),
                "groups": list(self.groups)}  # fmt: skip

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`; raises `KeyError` or `ValueError` for another content."""
        slopes, bias = (tuple(map(float, content[name])) for name in ("slopes", "bias"))
        groups = tuple(map(int, content["groups"]))
        if content["kind"] != "stack" or list(dict.fromkeys(groups)) != list(range(len(slopes))):
            raise ValueError("no stack")
        return cls(Task(content["task"]), slopes, bias, groups)
