"""Whether a network has to lie in parts, in which, and what each of its workers then needs. Pure.

Notation: p parameters of a network; training takes `4 * COPIES * p` bytes, of a part of p `4 * PART_COPIES * p`. A
worker has a share of the memory, of which the process itself takes `TORCH_BYTES`, or half where that is more than half.
"""

from collections.abc import Iterator, Sequence
from math import prod

from shardwise.core.errors import ConfigError
from shardwise.core.parallel import Parallel, Split
from shardwise.core.units import format_size
from shardwise.models.neural.parts.cuts import Cuts
from shardwise.models.neural.shape import Shape

COPIES = 8  # a parameter, its gradient, two moments; parameter and moments of the round before; the best
PART_COPIES = 4  # what is kept of a part lies in files
TORCH_BYTES = 450_000_000  # a process with PyTorch and its distributed tensors


def parameters(shape: Shape) -> int:
    """Numbers that a network learns, about."""
    return sum(prod(size) for size in shape.tensors().values())


def training_bytes(count: int) -> int:
    """Memory that training of so many parameters takes, beside the process and the rows."""
    return 4 * COPIES * count


def part_bytes(cuts: Cuts) -> int:
    """What training takes in a worker that has its part, and a block of another one's with its gradient."""
    return 4 * (PART_COPIES * cuts.largest + 2 * cuts.lent)


def needed_bytes(shape: Shape, split: Split, workers: int) -> int:
    """What training takes in each of so many workers, which have parts; in one alone, which has the whole."""
    if workers == 1:
        return training_bytes(parameters(shape))
    return part_bytes(Cuts(shape, split.on(workers), workers))


def room_bytes(worker_bytes: int) -> int:
    """What a worker has to train with, beside its process."""
    return max(worker_bytes - TORCH_BYTES, worker_bytes // 2)


def predicting_bytes(shape: Shape) -> int:
    """Memory that predicting takes beside the process: all but the table of categories, in double precision."""
    return 8 * (parameters(shape) - shape.slots * shape.code_embedding)


def choose_split(
    asked: Parallel, shapes: Sequence[Shape], *, workers: int, worker_bytes: int | None
) -> tuple[Split | None, str]:
    """In which parts networks of these shapes lie on the workers, and a sentence; None: whole, in each worker.

    `worker_bytes` is the memory of a worker, None where it is not known. Raises `ConfigError` where what was asked for
    cannot be.
    """
    largest = max(shapes, key=parameters, default=None)
    if asked.splits:
        split = asked.split(workers)
        lies = [Cuts(shape, split, workers) for shape in shapes]
        return split, _told(split, lies[shapes.index(largest)], "as asked") if largest else _plain(split, workers)
    if largest is None or worker_bytes is None or workers < 2 or asked.kind != "auto":
        return None, ""
    room, needed = room_bytes(worker_bytes), training_bytes(parameters(largest))
    able = list(_possible(largest, workers)) if needed > room else []
    if not able:
        return None, ""
    found = next((cuts for cuts in able if part_bytes(cuts) <= room), None)
    chosen = found or min(able, key=part_bytes)
    why = f"as one whole takes {format_size(needed)} to train, and a worker has {format_size(room)} for it"
    return chosen.split, _told(chosen.split, chosen, why if found else f"{why}; even so it may not suffice")


def _possible(shape: Shape, workers: int) -> Iterator[Cuts]:
    """In the order of preference: a large table by rows, then few parts before many, cut layers before stages."""
    splits = [Split(kind=kind, parts=parts) for parts in range(2, workers + 1) if workers % parts == 0
              for kind in ("tensor", "pipeline")]  # fmt: skip
    if 2 * shape.slots * shape.code_embedding > parameters(shape):
        splits.insert(0, Split(kind="embedding", parts=workers))
    for split in splits:
        try:
            yield Cuts(shape, split, workers)
        except ConfigError:  # not of this shape
            continue


def _told(split: Split, cuts: Cuts, why: str) -> str:
    whole, each = parameters(cuts.shape), format_size(part_bytes(cuts))
    rows = "" if cuts.shares == 1 or split.kind == "embedding" else f" and the rows in {cuts.shares} shares"
    lies = f"lie in {split.parts} parts{rows} on {cuts.size} workers ({split.kind}), {why}"
    has = f"a worker has at most {cuts.largest / whole:.0%} of them, {each} to train"
    return f"Networks of {whole:,} parameters {lies}: {has}."


def _plain(split: Split, workers: int) -> str:
    return f"Networks lie in {split.parts} parts on {workers} workers ({split.kind}), as asked."
