"""What a study asks for, and what it is told."""

from dataclasses import dataclass
from typing import Self

from shardwise.core.candidate import Candidate


@dataclass(frozen=True, kw_only=True)
class Step:
    """An evaluation of trial `number` on a rung; on the `last` one it is trained to its end."""

    number: int
    candidate: Candidate
    rung: int = 0
    last: bool = True
    below: tuple[int, ...] = ()  # rungs on which it was evaluated before
    proposed: bool = False  # by a sampler, not by the portfolio
    after: Self | None = None  # in a population: the leg of a trial, this or another one, from which it goes on
    aside: bool = False  # not of the sequence: it brings a trial to its end, of which nothing else depends

    @property
    def source(self) -> int | None:
        """The other trial from which this one goes on; None where it goes on from itself, or begins."""
        return None if self.after is None or self.after.number == self.number else self.after.number


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a step found: `loss` (lower is better, NaN: it failed), the course of the training, the cost by the model;
    `done` says that there is nothing to go on with, such as when early stopping has ended the training."""

    loss: float
    curve: tuple[tuple[float, float], ...] = ()
    cost_s: float = 0.0
    done: bool = True
