"""What a sampler and a pruner are told of a trial."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A candidate and how far it got.

    `losses` has a value for each rung that was reached, the last one the current (lower is better, NaN: it failed), and
    none while nothing is known of it yet;
    `curve` are `(step, loss)` of its training, `step` counted in the unit of the rungs; `cost_s` is what a trial takes
    by the cost model, the same on every machine, unlike seconds that were measured. `done`: there is no further rung.
    """

    number: int
    family: str
    params: Mapping[str, Any]
    losses: tuple[float, ...] = ()
    curve: tuple[tuple[float, float], ...] = field(default=(), repr=False)
    cost_s: float = 0.0
    done: bool = True

    @property
    def loss(self) -> float:
        """At the highest rung that was reached."""
        return self.losses[-1] if self.losses else math.nan

    @property
    def rung(self) -> int:
        """The highest one that was reached, from 0."""
        return len(self.losses) - 1

    @property
    def pending(self) -> bool:
        """It was begun, and nothing is known of it yet."""
        return not self.losses

    @property
    def failed(self) -> bool:
        return not self.pending and not math.isfinite(self.loss)
