"""How often rows that were held back have been looked at: each look at a score makes the next one less surprising.

A look is a blob under the hash of the rows and the hash of what was scored on them, so that the same thing scored again
is no further look, and any number of processes may look at the same time.

After k looks at different models on the same rows, a bound that each look keeps with a chance of 1 - a / k is kept by
all of them with a chance of 1 - a (Bonferroni). Where what is tried next depends on the scores before, as it does with
people, that is a lower bound of what is lost (Dwork et al. 2015, "The reusable holdout", Science 349).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shardwise.store.blobs import FolderBlobs
from shardwise.store.ledger import unit_key

FOLDER = "looks"  # in the folder of runs
SHARED = 0.5  # of the rows of the smaller test, from which on two tests are the same


@dataclass(frozen=True)
class Marks:
    """By what a test is known again in data that were changed: `exact` where it is equal, else `smallest`, rising
    hashes of rows, of which all below the last one are there."""

    exact: str = ""
    smallest: Sequence[int] = ()

    def is_like(self, other: "Marks") -> bool:
        if self.exact == other.exact:
            return True
        if not self.smallest or not other.smallest:
            return False
        reach = min(self.smallest[-1], other.smallest[-1])
        first, second = ({value for value in each.smallest if value <= reach} for each in (self, other))
        return len(first & second) >= max(1.0, SHARED * min(len(first), len(second)))


class Looks:
    """The looks that are known in a folder of runs."""

    def __init__(self, runs_folder: Path) -> None:
        self._folder = runs_folder / FOLDER

    def count(self, rows: object, by: object, marks: Marks | None = None) -> int:
        """Note that `rows` (JSON that tells which) were looked at `by` (JSON that tells what was scored); how many
        different things were scored on them, this one among them. With `marks`, on such of them as are like these."""
        marks = marks or Marks()
        content = {"exact": marks.exact, "smallest": list(marks.smallest)}
        blobs = FolderBlobs(self._folder / unit_key("looks", rows))
        scored, test = unit_key("by", by), unit_key("test", content)
        known: dict[str, set[str]] = {}
        for key in list(blobs.keys()):
            known.setdefault(key.split("/")[0], set()).add(key)
        if f"{scored}/{test}" not in known.get(scored, ()):
            blobs.write(f"{scored}/{test}", json.dumps(content).encode())
        others = (keys for each, keys in known.items() if each != scored)
        return 1 + sum(any(Marks(**json.loads(blobs.read(key))).is_like(marks) for key in keys) for keys in others)
