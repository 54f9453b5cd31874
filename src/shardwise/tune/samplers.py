"""Samplers: history and seed in, params out. Pure: no state of their own."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from shardwise.core.space import Space

Trial = Mapping[str, Any]  # {"params": {...}, "loss": float}


class Sampler(Protocol):
    """Proposes the next params."""

    def suggest(self, space: Space, trials: Sequence[Trial], seed: int) -> dict[str, Any]:
        """Params inside `space`, a pure function of the history and the seed."""
        ...


class RandomSampler:
    """Draws every param on its own; what comes does not depend on the history."""

    def suggest(self, space: Space, trials: Sequence[Trial], seed: int) -> dict[str, Any]:  # noqa: ARG002 - the plug point
        """
        >>> from shardwise.core.space import Choice, Int
        >>> RandomSampler().suggest({"depth": Int(3, 3), "loss": Choice(("l2",))}, [], seed=0)
        {'depth': 3, 'loss': 'l2'}
        """
        rng = np.random.default_rng(seed)
        return {name: space[name].draw(rng) for name in sorted(space)}


SAMPLERS: dict[str, type[Sampler]] = {"random": RandomSampler}
