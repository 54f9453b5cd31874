"""Remedies for what `data.health` finds, as another partitioner for the rows that are there. Planning is pure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from shardwise.core.errors import AnswerIsNo, ConfigError
from shardwise.core.names import nearest
from shardwise.data.base import Partitioner
from shardwise.data.health import OVERSIZE, HotKey
from shardwise.data.partitioners.remade import HotKeys, Remapped

FEWEST = 16  # partitions that merging leaves, so that there is work for several workers
_EVEN = 1.2  # times the mean: what is not worth a cut


@dataclass(frozen=True, kw_only=True)
class Ailment:
    """What a remedy is planned from.

    rows        of each partition
    hot_keys    frequent keys of the columns `key`, with their row `hashes`
    room_rows   rows of a partition that is not too large: up to there small ones are merged
    """

    partitioner: Partitioner
    rows: Sequence[int]
    key: tuple[str, ...] = ()
    hot_keys: Sequence[HotKey] = ()
    hashes: Sequence[np.uint64] = ()
    room_rows: float = 0.0

    @property
    def even_rows(self) -> float:
        """Rows of a partition if all were even; those that are empty are not counted."""
        return sum(self.rows) / max(1, sum(count > 0 for count in self.rows))


def salt(ailment: Ailment) -> Partitioner:
    """Hot keys leave their partitions for as many of about even size as they fill."""
    return _take_out(ailment, lambda hot: max(2, round(hot.rows / ailment.even_rows)))


def isolate(ailment: Ailment) -> Partitioner:
    """Each hot key gets a partition of its own."""
    return _take_out(ailment, lambda _: 1)


def _take_out(ailment: Ailment, pieces: Callable[[HotKey], int]) -> Partitioner:
    least = max(0.01 * sum(ailment.rows), 0.75 * ailment.even_rows)
    pairs = zip(ailment.hot_keys, ailment.hashes, strict=True)
    hot = [(each, hashed) for each, hashed in pairs if each.rows >= least]
    if not hot:
        raise AnswerIsNo(f"no key of {', '.join(ailment.key) or 'this dataset'} is hot: none fills a partition",
                         hint="Name another --key, or look with shardwise profile DATA --partitions.")  # fmt: skip
    return HotKeys(
        ailment.partitioner, ailment.key, np.array([hashed for _, hashed in hot], dtype=np.uint64),
        [pieces(each) for each, _ in hot], [each.name for each, _ in hot],
    )  # fmt: skip


def split(ailment: Ailment) -> Partitioner:
    """Partitions that are oversize become as many of about the mean as they fill."""
    even = ailment.even_rows
    limit = min(OVERSIZE, _EVEN + 0.3) * even
    pieces = [math.ceil(rows / (_EVEN * even)) if rows > limit else 1 for rows in ailment.rows]
    if max(pieces) == 1:
        raise AnswerIsNo("no partition is oversize", hint="Look with shardwise profile DATA --partitions.")
    starts = (np.cumsum(pieces) - pieces).tolist()
    return Remapped(ailment.partitioner, starts, pieces)


def merge(ailment: Ailment) -> Partitioner:
    """Neighbours are put together while they stay within the mean, or a sixteenth of all rows where there is room.

    Empty partitions vanish.
    """
    limit = max(ailment.even_rows, min(sum(ailment.rows) / FEWEST, ailment.room_rows))
    starts, number, filled = [], 0, 0
    for rows in ailment.rows:
        if filled and filled + rows > limit:
            number, filled = number + 1, 0
        starts.append(number)
        filled += rows
    if number + 1 == len(ailment.rows):
        raise AnswerIsNo("no partition is so small that it could be merged with its neighbour",
                         hint="Look with shardwise profile DATA --partitions.")  # fmt: skip
    return Remapped(ailment.partitioner, starts, [1] * len(starts))


REMEDIES: dict[str, Callable[[Ailment], Partitioner]] = {
    "salt": salt, "isolate": isolate, "split": split, "merge": merge,
}  # fmt: skip
"""Remedies that are planned from counts; `rerange` plans ranges anew from the rows."""

REMEDY_NAMES = (*REMEDIES, "rerange")


def choose_remedy(name: str) -> Callable[[Ailment], Partitioner]:
    """A remedy by its name; raises `ConfigError` for one that is not known."""
    if name not in REMEDIES:
        raise ConfigError(f"there is no remedy {name!r}", hint=nearest(name, REMEDY_NAMES))
    return REMEDIES[name]
