"""The ladder: what is tried when a model does not fit under the ceiling on memory, rung by rung.

| rung | what is given up                                                            |
|------|-----------------------------------------------------------------------------|
| 0    | rows, as few as the estimate asks for; often none                           |
| 1    | the binned data kept for the next candidate                                 |
| 2    | a third of the rows                                                         |
| 3    | half of what is left, and leaves: at most 31 a tree                         |
| 4    | half of that again, and bins: 15 values, of which LightGBM packs two a byte |

Each rung has a limit on what the trees of a model may take while they grow: what rows and processes leave. A fit that
reaches it ends there, with the trees that it has.

Rows come first because they cost least: on 20 million rows a tenth of them moves an AUC by less than 0.001, and 15 bins
move it by more. A rung that was needed once is where the next candidates start: they would need it too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from shardwise.core.errors import OverBudget
from shardwise.core.units import format_size
from shardwise.plan.memory import (
    LARGE_LEAVES,
    MAIN_BYTES,
    MOST_ROUNDS,
    PROCESS_BYTES,
    growing_bytes,
    histogram_bytes,
    trees_bytes,
)

SAFETY = 0.97  # of the ceiling: the watch looks a few times a second, and ends what is above
LEAST_ROWS = 2_000


@dataclass(frozen=True, kw_only=True)
class Rung:
    """How a model is fitted: on which share of the rows, with which params held down, and how large it may grow."""

    number: int
    share: float
    model_bytes: int = 2**62
    lean: bool = False
    leaves: int | None = None
    bins: int | None = None

    def held_down(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The params of trees, with leaves and bins at most those of the rung."""
        held = dict(params)
        for name, most in (("num_leaves", self.leaves), ("max_bin", self.bins)):
            if most is not None:
                held[name] = min(most, params.get(name, most))
        return held

    def __str__(self) -> str:
        parts = [f"{self.share:.0%} of the rows"]
        parts += ["nothing kept"] if self.lean else []
        parts += [f"at most {self.leaves} leaves"] if self.leaves else []
        parts += [f"{self.bins} bins"] if self.bins else []
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """The rungs for a data set and a ceiling."""

    rungs: tuple[Rung, ...]

    @property
    def share(self) -> float:
        """Of the rows, on the first rung."""
        return self.rungs[0].share


def make_ladder(
    memory_bytes: int, rows: int, features: int, outputs: int, *, valid_rows: int = 0, at_once: int = 1,
    workers: int = 1, rounds: int = MOST_ROUNDS,
) -> Ladder:  # fmt: skip
    """The rungs for `rows` training rows of `features` binned features, learned by `at_once` models at a time.

    `workers` counts the processes beside the main one; a model has at most so many `rounds`. Raises `OverBudget` when
    not even a few rows fit, with the least that works.
    """
    processes = MAIN_BYTES + workers * PROCESS_BYTES
    room = (SAFETY * memory_bytes - processes) / at_once
    fixed = trees_bytes(0, features, outputs, valid_rows=valid_rows)
    per_row = trees_bytes(1, features, outputs) - histogram_bytes(features, LARGE_LEAVES)
    least = min(rows, LEAST_ROWS)
    needed = fixed + least * per_row
    spare = room - growing_bytes(room, outputs, rounds)
    if spare < needed:
        _refuse(memory_bytes, processes + at_once * (needed + growing_bytes(5 / 4 * needed, outputs, rounds)))
    share = min(1.0, (spare - fixed) / max(1, rows * per_row))
    share = 1.0 if share >= 1.0 else max(least / rows, int(share * 1000) / 1000)
    make = partial(_rung, room - fixed, rows * per_row)
    return Ladder(
        rungs=(
            make(number=0, share=share),
            make(number=1, share=share, lean=True),
            make(number=2, share=share * 2 / 3, lean=True),
            make(number=3, share=share / 3, lean=True, leaves=31),
            make(number=4, share=share / 6, lean=True, leaves=31, bins=15),
        )
    )


def _rung(room_bytes: float, rows_bytes: float, *, share: float, **fields: Any) -> Rung:
    """A rung whose models may take what the rows leave of the room."""
    return Rung(share=share, model_bytes=int(room_bytes - share * rows_bytes), **fields)


def check_floor(memory_bytes: int, columns: int) -> None:
    """Refuse a ceiling under which not even a few rows of so many columns could be learned, before any of them is read.

    What the data takes is known only when it was read: `make_ladder` may refuse what passes here.
    """
    needed = MAIN_BYTES + trees_bytes(LEAST_ROWS, columns)
    if SAFETY * memory_bytes < needed:
        _refuse(memory_bytes, needed + PROCESS_BYTES)


def _refuse(memory_bytes: int, needed_bytes: float) -> NoReturn:
    raise OverBudget(
        f"{format_size(memory_bytes)} of memory are too little to train on this data",
        hint=f"Give at least {format_size(needed_bytes / SAFETY)}.",
    )
