"""The plug point of pruners: which trials that stand on a rung may go on.

A rung is a low fidelity of a trial: some rounds of boosting, or some of the partitions. A trial that has reached one
waits there with a checkpoint. Nobody waits for it: it is asked about again whenever results come in, so that one that
was stopped today goes on tomorrow where it turns out to be among the best.
"""

from collections.abc import Hashable, Sequence
from typing import Protocol

from shardwise.tune.trial import Trial


class Pruner(Protocol):
    """Pure: what is known of the trials in, a decision out."""

    @property
    def prunes(self) -> bool:
        """Whether anything is ever stopped."""
        ...

    def should_stop(self, trial: Trial, trials: Sequence[Trial]) -> bool:
        """Whether `trial` stays on its rung, for now; `trials` are all of which something is known, itself included."""
        ...

    def rivals(self, trial: Trial) -> Hashable | None:
        """What those have in common that are compared on a rung by their losses there alone: where the best of them
        stays, all others do, and nobody else counts. None: each trial is asked about by itself, among all."""
        ...

    def first_rung(self, number: int, rungs: int) -> int:
        """On which rung, from 0 to `rungs` - 1, trial `number` is evaluated first."""
        ...


def on_rung(trial: Trial, trials: Sequence[Trial]) -> list[float]:
    """Losses of the trials of the same family at the rung where `trial` stands, of itself and of those gone on too.

    Families are not compared: the same rung is not the same fidelity for both.
    """
    family, rung = trial.family, trial.rung
    losses = [other.losses[rung] for other in trials if other.family == family and len(other.losses) > rung]
    return [loss for loss in losses if loss == loss and abs(loss) != float("inf")]
