"""What a fit needs to go on where it was killed: weights, moments and the best so far, after each round."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shardwise.core.errors import PackageError
from shardwise.models.neural.shape import Weights
from shardwise.models.neural.tensors import dump_tensors, read_tensors
from shardwise.store.files import write_atomic

_FILE = "round.safetensors"
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
    def waited(self) -> int:
        """Rounds since the best one, or since training began again from it."""
        if not self.losses:
            return 0
        return len(self.losses) - max(self.losses.index(min(self.losses)) + 1, self.since)


def write_progress(folder: Path, progress: Progress) -> None:
    """Whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        f"{kind}/{name}": array
        for kind in ("weights", "best", "moments")
        for name, array in getattr(progress, kind).items()
    }
    state = {name: getattr(progress, name) for name in _STATE}
    write_atomic(folder / _FILE, dump_tensors(arrays, {"state": json.dumps(state)}))


def read_progress(folder: Path) -> Progress | None:
    """What was written last; None when there is nothing, or nothing that can be read."""
    if not (folder / _FILE).exists():
        return None
    try:
        arrays, metadata = read_tensors(folder / _FILE)
    except PackageError:
        return None  # of a disk that lost power: the fit begins anew
    parts: dict[str, Weights] = {"weights": {}, "best": {}, "moments": {}}
    for place, array in arrays.items():
        kind, _, name = place.partition("/")
        parts[kind][name] = array
    state = json.loads(metadata["state"])
    return Progress(
        weights=parts["weights"], best=parts["best"], moments=parts["moments"],
        **{name: state[name] for name in _STATE if name in state},
    )  # fmt: skip


def drop_progress(folder: Path) -> None:
    """Remove what was written."""
    (folder / _FILE).unlink(missing_ok=True)
    if folder.exists():
        os.rmdir(folder)
