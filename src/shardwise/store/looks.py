"""How often rows that were held back have been looked at: each look at a score makes the next one less surprising.

A look is an empty blob under the hash of the rows and the hash of what was scored on them, so that the same thing
scored again is no further look, and any number of processes may look at the same time.

After k looks at different models on the same rows, a bound that each look keeps with a chance of 1 - a / k is kept by
all of them with a chance of 1 - a (Bonferroni). Where what is tried next depends on the scores before, as it does with
people, that is a lower bound of what is lost (Dwork et al. 2015, "The reusable holdout", Science 349).
"""

from pathlib import Path

from shardwise.store.blobs import FolderBlobs
from shardwise.store.ledger import unit_key

FOLDER = "looks"  # in the folder of runs


class Looks:
    """The looks that are known in a folder of runs."""

    def __init__(self, runs_folder: Path) -> None:
        self._folder = runs_folder / FOLDER

    def count(self, rows: object, by: object) -> int:
        """Note that `rows` (JSON that tells which) were looked at `by` (JSON that tells what was scored); how many
        different things were scored on them, this one among them."""
        blobs = FolderBlobs(self._folder / unit_key("looks", rows))
        key = unit_key("by", by)
        known = set(blobs.keys())
        if key not in known:
            blobs.write(key, b"")
        return len(known | {key})
