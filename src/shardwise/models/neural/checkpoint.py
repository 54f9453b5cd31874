"""What a fit needs to go on where it was killed: weights, moments and the best so far, after each round; and now and
then within one, in a second file, since a round that fails is taken again from its beginning."""

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
WITHIN = "within.safetensors"
KEPT = ("weights", "best", "moments")
_STATE = ("rounds", "losses", "lowered", "since", "noticed", "steps", "random")


@dataclass
class Progress:
    """The state between two rounds, or within one.

    `rounds` are done; `losses` are those of the validation rows, one a round; `best` are the weights of the round with
    the lowest one. `lowered` counts how often the learning rate was, the last time after `since` rounds; `noticed` are
    the anomalies so far. Within a round `steps` batches of it are learned from, and `random` is the state of PyTorch's
    random numbers by device, as hexadecimal digits.
    """

    weights: Weights
    best: Weights
    moments: Weights = field(default_factory=dict)
    rounds: int = 0
    losses: list[float] = field(default_factory=list)
    lowered: int = 0
    since: int = 0
    noticed: list[dict[str, Any]] = field(default_factory=list)
    steps: int = 0
    random: dict[str, str] = field(default_factory=dict)

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


def write_progress(folder: Path, progress: Progress, file: str = FILE) -> None:
    """Whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / file, dump_tensors(progress.arrays(), {"state": progress.state}))


def read_progress(folder: Path, file: str = FILE) -> Progress | None:
    """What was written last; None when there is nothing, or nothing that can be read."""
    if not (folder / file).exists():
        return None
    try:
        arrays, metadata = read_tensors(folder / file)
    except PackageError:
        return None  # of a disk that lost power: the fit begins anew
    return Progress.of(arrays, metadata["state"])
