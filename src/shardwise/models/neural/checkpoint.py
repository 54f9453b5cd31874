"""What a fit needs to go on where it was killed: weights, moments and the best so far, after each round."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from shardwise.core.errors import PackageError
from shardwise.models.neural.shape import Weights
from shardwise.models.neural.tensors import dump_tensors, read_tensors
from shardwise.store.files import write_atomic

FILE = "round.safetensors"
KEPT = ("weights", "best", "moments")
_STATE = ("rounds", "losses", "lowered", "since", "noticed")


@dataclass
class Progress:
    """The state between two rounds.

    `rounds` are done; `losses` are those of the validation rows, one a round; `best` are the weights of the round with
    the lowest one. `lowered` counts how often the learning rate was, the last time after `since` rounds; `noticed` are
    the anomalies so far.
    """

    weights: Weights
    best: Weights
    moments: Weights = field(default_factory=dict)
    rounds: int = 0
    losses: list[float] = field(default_factory=list)
    lowered: int = 0
    since: int = 0
    noticed: list[dict[str, Any]] = field(default_factory=list)

    @property
    def state(self) -> str:
        """All but the arrays, as JSON."""
        return json.dumps({name: getattr(self, name) for name in _STATE})

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], state: str) -> Self:
        """From arrays named `<kind>/<name>` and a `state`."""
        parts: dict[str, Weights] = {kind: {} for kind in KEPT}
        for place, array in arrays.items():
            kind, _, name = place.partition("/")
            parts[kind][name] = array
        told = json.loads(state)
        state_ = {name: told[name] for name in _STATE if name in told}
        return cls(weights=parts["weights"], best=parts["best"], moments=parts["moments"], **state_)

    def arrays(self) -> dict[str, np.ndarray]:
        """Named `<kind>/<name>`."""
        return {f"{kind}/{name}": array for kind in KEPT for name, array in getattr(self, kind).items()}

    @property
    def waited(self) -> int:
        """Rounds since the best one, or since training began again from it."""
        if not self.losses:
            return 0
        return len(self.losses) - max(self.losses.index(min(self.losses)) + 1, self.since)


def write_progress(folder: Path, progress: Progress) -> None:
    """Whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / FILE, dump_tensors(progress.arrays(), {"state": progress.state}))


def read_progress(folder: Path) -> Progress | None:
    """What was written last; None when there is nothing, or nothing that can be read."""
    if not (folder / FILE).exists():
        return None
    try:
        arrays, metadata = read_tensors(folder / FILE)
    except PackageError:
        return None  # of a disk that lost power: the fit begins anew
    return Progress.of(arrays, metadata["state"])
