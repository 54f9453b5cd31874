"""Where a descent has come to after a round: weights, moments, and its place in the order of the rows."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shardwise.core.errors import DataError
from shardwise.core.state import dump_state, load_state
from shardwise.store.files import write_atomic

_FILE = "descent.state"


@dataclass
class Progress:
    """`seen` rows were learned from, over all epochs; `losses` are those of the validation rows, one a round.

    `adam` is the optimiser's own state, `best` the weights of the round with the lowest loss. The learning rate was
    lowered `lowered` times, the last time after `since` rounds; `noticed` are the anomalies so far.
    """

    seen: int = 0
    losses: list[float] = field(default_factory=list)
    best: np.ndarray | None = None
    adam: dict[str, np.ndarray] = field(default_factory=dict)
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
    write_atomic(folder / _FILE, dump_state(vars(progress)))


def read_progress(folder: Path) -> Progress | None:
    """What was written last; None when there is nothing, or nothing that can be read."""
    if not (folder / _FILE).exists():
        return None
    try:
        return Progress(**load_state((folder / _FILE).read_bytes()))
    except DataError:
        return None  # of a disk that lost power: the fit begins anew
