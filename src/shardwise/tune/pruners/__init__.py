"""Pruners: which trials may go on from the rung that they have reached."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest
from shardwise.tune.pruners.base import Pruner
from shardwise.tune.pruners.curves import CurvePruner, MedianPruner
from shardwise.tune.pruners.halving import PARTITIONS_ETA, ASHAPruner, HyperbandPruner
from shardwise.tune.trial import Trial

__all__ = ["PRUNERS", "NoPruner", "Pruner", "make_pruner"]


@dataclass(frozen=True)
class NoPruner:
    """Every trial is evaluated in full at once."""

    prunes: bool = False

    def should_stop(self, trial: Trial, trials: Sequence[Trial]) -> bool:  # noqa: ARG002 - the plug point
        return False

    def rivals(self, trial: Trial) -> Hashable | None:  # noqa: ARG002
        return None

    def first_rung(self, number: int, rungs: int) -> int:  # noqa: ARG002
        return rungs - 1


PRUNERS: dict[str, Callable[[], Pruner]] = {
    "none": NoPruner,
    "asha": ASHAPruner,
    "hyperband": HyperbandPruner,
    "median": MedianPruner,
    "curve": CurvePruner,
}


def make_pruner(name: str, rungs: str = "rounds") -> Pruner:
    """For rungs of `rounds` or of `partitions`; raises `ConfigError` for an unknown name."""
    if name not in PRUNERS:
        raise ConfigError(f"there is no pruner {name!r}", hint=nearest(name, PRUNERS))
    pruner = PRUNERS[name]()
    if isinstance(pruner, ASHAPruner) and rungs == "partitions":
        return replace(pruner, lowest_eta=PARTITIONS_ETA)
    return pruner
