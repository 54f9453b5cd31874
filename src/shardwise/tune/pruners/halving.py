"""Successive halving: of the trials on a rung the best 1 / eta go on."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from shardwise.tune.pruners.base import on_rung
from shardwise.tune.trial import Trial

ETA = 3
PARTITIONS_ETA = 2  # on the lowest rung of partitions: what is best on a ninth of the rows often is not on all


@dataclass(frozen=True)
class ASHAPruner:
    """Asynchronous successive halving (Li et al. 2020): a trial goes on as soon as it is among the best 1 / eta of
    those that have reached its rung so far; on the lowest rung, where it is given, the best 1 / lowest_eta."""

    prunes: bool = True
    eta: int = ETA
    lowest_eta: int | None = None

    def should_stop(self, trial: Trial, trials: Sequence[Trial]) -> bool:
        if trial.done or trial.failed:
            return True
        losses = on_rung(trial, trials)
        eta = self.lowest_eta if self.lowest_eta is not None and trial.rung == 0 else self.eta
        return sum(loss < trial.loss for loss in losses) >= len(losses) // eta

    def rivals(self, trial: Trial) -> Hashable | None:
        return trial.family

    def first_rung(self, number: int, rungs: int) -> int:  # noqa: ARG002 - the plug point
        return 0


@dataclass(frozen=True)
class HyperbandPruner:
    """Hyperband (Li et al. 2018), asynchronous: trials are dealt to brackets that begin on different rungs.

    A bracket that begins s rungs below the last one gets eta^s / (s + 1) of the trials, so that all brackets cost
    about the same: where low rungs mislead, the brackets that begin high do not care.
    """

    prunes: bool = True
    eta: int = ETA

    def should_stop(self, trial: Trial, trials: Sequence[Trial]) -> bool:
        mine = self._bracket(trial)
        return ASHAPruner(eta=self.eta).should_stop(trial, [other for other in trials if self._bracket(other) == mine])

    def rivals(self, trial: Trial) -> Hashable | None:
        return trial.family, self._bracket(trial)

    @staticmethod
    def _bracket(trial: Trial) -> int:
        """The rung on which a trial began; what it did not see below counts as NaN."""
        return next((rung for rung, loss in enumerate(trial.losses) if loss == loss), 0)

    def first_rung(self, number: int, rungs: int) -> int:
        """
        >>> [HyperbandPruner().first_rung(number, 3) for number in range(8)]
        [0, 0, 0, 1, 1, 2, 0, 0]
        """
        shares = [max(1, round(self.eta**s / (s + 1))) for s in range(rungs - 1, -1, -1)]
        place = number % sum(shares)
        for rung, share in enumerate(shares):
            if place < share:
                return rung
            place -= share
        raise AssertionError("the shares cover all places")
