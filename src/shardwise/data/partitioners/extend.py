"""Partitioners for rows that are appended: what was fitted stays, new values and stretches get new partitions."""

from collections.abc import Callable

from shardwise.data.base import Partitioner
from shardwise.data.partitioners.base import Source
from shardwise.data.partitioners.lengths import cut_by_rows, cut_by_size
from shardwise.data.partitioners.nested import Nested
from shardwise.data.partitioners.positions import Stretches
from shardwise.data.partitioners.spec import Spec
from shardwise.data.partitioners.values import ValuePartitioner, plan_values

Renumber = Callable[[int], int]


def extend(known: Partitioner, specs: tuple[Spec, ...], source: Source) -> tuple[Partitioner, Renumber]:
    """The partitioner of the rows of `source`, and what becomes of the numbers of partitions that are there.

    Hashes, ranges and clusters stay as they are, and so do partitions that a remedy remade.
    """
    if isinstance(known, Nested):
        pairs = [_extend_level(level, spec, source) for level, spec in zip(known.levels, specs, strict=True)]
        levels = [level for level, _ in pairs]
        return Nested(levels), lambda number: _renumber_nested(number, known, levels, [move for _, move in pairs])
    return _extend_level(known, specs[0] if specs else None, source)


def _extend_level(known: Partitioner, spec: Spec | None, source: Source) -> tuple[Partitioner, Renumber]:
    if isinstance(known, ValuePartitioner):
        longer = plan_values(source, known.columns[0], known.grain, known.values)
        last = known.count - 1  # nulls are always the last
        return longer, lambda number: longer.count - 1 if number == last else number
    if isinstance(known, Stretches) and spec is not None:
        if spec.kind in ("rows", "bytes"):
            cuts = cut_by_size(source, float(spec.number or 1), by_bytes=spec.kind == "bytes")
        else:
            cuts = cut_by_rows(source, [1.0] * (known.count - known.first))
        return Stretches(cuts, name=known.name, first=known.count), lambda number: number
    return known, lambda number: number


def _renumber_nested(number: int, known: Nested, levels: list[Partitioner], moves: list[Renumber]) -> int:
    places = []
    for level in reversed(known.levels):
        number, place = divmod(number, level.count)
        places.append(place)
    found = 0
    for level, move, place in zip(levels, moves, reversed(places), strict=True):
        found = found * level.count + move(place)
    return found
