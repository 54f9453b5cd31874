"""Which piece of each tensor of a network a worker has. Pure; NumPy is not even needed.

Workers are numbered row by row: worker `share * parts + part` has the part `part` and sees the share `share` of the
rows. A dimension is cut as `torch.chunk` and DTensor do it.

| tensor (see `shape`)        | tensor-parallel, cut over the parts                                                   |
|-----------------------------|---------------------------------------------------------------------------------------|
| `pieces`, `linear`, `shift`, `categories` | by columns of the embedding; the embedded row is gathered               |
| `w`, `s`, `b` of layers 0, 2, .. | by columns; what comes out stays cut                                             |
| `r`, `w` of layers 1, 3, .. | by rows (Shoeybi et al. 2019, https://arxiv.org/abs/1909.08053); products are summed   |
| `head`, `bias`              | many classes: by columns, with a softmax that is cut too; else the head by rows       |
| all else                    | whole                                                                                 |

A pipeline's stages have consecutive layers. Over the shares of the rows what learns is cut too, in all kinds: the table
of categories by rows, all else by its largest dimension that is whole. It is lent block by block where it is used, and
its gradient is summed where it lies (`lent`), as is done with optimisers' states (Rajbhandari et al. 2020,
https://arxiv.org/abs/1910.02054).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

from shardwise.core.errors import ConfigError
from shardwise.core.parallel import Split
from shardwise.models.neural.shape import FIXED, Shape

Piece = tuple[slice, ...]
Name = str
_EMBEDDING = ("knots", "slopes", "pieces", "linear", "shift", "categories")
_BLOCK_SHARE = 16  # a block that is lent has at most that part of all parameters
_BLOCK = 2**22  # and no more parameters than this: larger messages are no faster


def chunk(size: int, parts: int, part: int) -> slice:
    """The piece `part` of a dimension.

    >>> [chunk(5, 4, part) for part in range(4)]
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None), slice(5, 5, None)]
    """
    step = -(-size // parts)
    return slice(min(part * step, size), min((part + 1) * step, size))


@dataclass(frozen=True)
class Cuts:
    """How a network of a shape lies on `size` workers. Raises `ConfigError` where it cannot."""

    shape: Shape
    split: Split
    size: int

    def __post_init__(self) -> None:
        problem = _misfit(self.shape, self.split)
        if problem:
            raise ConfigError(problem, hint="Give --parallel auto, which chooses what fits, or fewer --workers.")

    @property
    def parts(self) -> int:
        """Workers that have one copy of the layers between them: a table cut by rows counts as none."""
        return 1 if self.split.kind == "embedding" else self.split.parts

    @property
    def shares(self) -> int:
        """In how many shares the rows of a batch are worked on."""
        return self.size // self.parts

    @property
    def wide(self) -> bool:
        """Whether the output layer is cut by its columns."""
        return self.split.kind == "tensor" and self.shape.scores >= self.shape.width

    @cached_property
    def tensors(self) -> dict[Name, tuple[int, ...]]:
        """The whole network."""
        return self.shape.tensors()

    def learns(self, name: Name) -> bool:
        return name not in FIXED and math.prod(self.tensors[name]) > 0

    def by_part(self, name: Name) -> int | None:
        """The dimension that is cut over the parts."""
        if self.split.kind != "tensor" or name in FIXED:
            return None
        ends = {"pieces": 2, "linear": 1, "shift": 1, "categories": 1, "head": 1, "bias": None}
        ends |= {"head": 2, "bias": 1} if self.wide else {}
        if name in ends:
            return ends[name]
        columns = int(name[1:]) % 2 == 0
        return {"w": 1, "s": 1, "b": 1}.get(name[0]) if columns else {"w": 0, "r": 1}.get(name[0])

    def by_share(self, name: Name) -> int | None:
        """The dimension that is cut over the shares of the rows."""
        if self.shares == 1 or not self.learns(name):
            return None
        if name == "categories":
            return 0
        sizes = self.tensors[name]
        left = [axis for axis in range(len(sizes)) if axis != self.by_part(name)]
        return max(left, key=lambda axis: (sizes[axis], -axis))

    def piece(self, name: Name, rank: int) -> Piece | None:
        """What a worker has of a tensor; None: another stage has it."""
        share, part = divmod(rank, self.parts)
        if self.split.kind == "pipeline" and name not in self.stages[part]:
            return None
        piece = [slice(0, size) for size in self.tensors[name]]
        for axis, count, place in (
            (self.by_part(name), self.parts, part), (self.by_share(name), self.shares, share),
        ):  # fmt: skip
            if axis is not None:
                piece[axis] = chunk(self.tensors[name][axis], count, place)
        return tuple(piece)

    def pieces(self, rank: int) -> dict[Name, Piece]:
        """All that a worker has."""
        found = {name: self.piece(name, rank) for name in self.tensors}
        return {name: piece for name, piece in found.items() if piece is not None}

    def owner(self, name: Name, rank: int) -> int:
        """The first worker that has the same piece, or all of what a stage has."""
        piece = self.piece(name, rank)
        return next(other for other in range(self.size) if self.piece(name, other) == piece)

    @cached_property
    def stages(self) -> tuple[tuple[Name, ...], ...]:
        """The tensors of each stage of a pipeline: layers in order, the largest stage as small as it can be."""
        units = units_of(self.shape)
        sizes = [sum(math.prod(self.tensors[name]) for name in unit) for unit in units]
        bounds = balanced(sizes, self.parts)
        return tuple(tuple(name for unit in units[start:stop] for name in unit) for start, stop in pairwise(bounds))

    @property
    def largest(self) -> int:
        """Parameters of the worker that has most."""
        held = (self.pieces(rank).values() for rank in range(self.size))
        sizes = [sum(math.prod(int(s.stop - s.start) for s in piece) for piece in pieces) for pieces in held]
        return max(sizes)

    def runs(self, name: Name, rank: int) -> list[tuple[int, slice]]:
        """In which runs along the dimension `by_share` a tensor is lent: the share that has it, and its bounds."""
        axis, piece = self.by_share(name), self.piece(name, rank)
        if axis is None or piece is None:
            return []
        cells = [part.stop - part.start for part in piece]
        step = max(1, self._most_lent // max(1, math.prod(cells[:axis] + cells[axis + 1 :])))
        bounds = [(share, chunk(self.tensors[name][axis], self.shares, share)) for share in range(self.shares)]
        return [(share, slice(start, min(start + step, run.stop))) for share, run in bounds
                for start in range(run.start, run.stop, step)]  # fmt: skip

    @property
    def _most_lent(self) -> int:
        return min(_BLOCK, sum(map(math.prod, self.tensors.values())) // _BLOCK_SHARE)

    @cached_property
    def lent(self) -> int:
        """Parameters that another share's block has, at most: so many are in a worker beside its own, one at a time."""
        if self.shares == 1:
            return 0
        sizes = []
        for rank in range(self.parts):
            for name, piece in self.pieces(rank).items():
                axis, runs = self.by_share(name), self.runs(name, rank)
                if axis is not None and runs and name != "categories":
                    cells = math.prod(part.stop - part.start for i, part in enumerate(piece) if i != axis)
                    sizes.append(cells * max(run.stop - run.start for _, run in runs))
        return max(sizes, default=0)


def units_of(shape: Shape) -> list[tuple[Name, ...]]:
    """What a pipeline cannot cut: the embedding, each layer, the head."""
    layers = [tuple(f"{kind}{layer}" for kind in "rwsb") for layer in range(shape.depth)]
    return [_EMBEDDING, *layers, ("head", "bias")]


def balanced(sizes: Sequence[int], parts: int) -> list[int]:
    """Bounds of `parts` consecutive runs, none of them empty, whose largest sum is least; the earliest such bounds.

    By dynamic programming over how many of the last units so many runs have: `parts * len(sizes) ** 2` steps.

    >>> balanced([5, 1, 1, 1, 4], 3)
    [0, 1, 3, 5]
    """
    count, sums = len(sizes), [0, *accumulate(sizes)]
    least = [[sums[-1] - sums[start] for start in range(count)]]  # [runs - 1][start]: the largest of all from there on
    for runs in range(2, parts + 1):
        rest, stop = least[-1], count - runs + 2
        starts = range(stop - 1)
        least.append([min(max(sums[i] - sums[start], rest[i]) for i in range(start + 1, stop)) for start in starts])
    bounds = [0]
    for rest in reversed(least[:-1]):
        start, most = bounds[-1], least[-1][0]
        bounds.append(next(i for i in range(start + 1, len(rest)) if max(sums[i] - sums[start], rest[i]) <= most))
    return [*bounds, count]


def _misfit(shape: Shape, split: Split) -> str:
    """Why a network cannot lie in such parts; empty when it can."""
    what = f"--parallel {split.kind} cannot cut this network into {split.parts} parts"
    if shape.trunk is not None:
        return f"{what}: layers for images and sequences stay whole, only networks of the family neural are cut"
    if split.kind == "tensor" and shape.width < split.parts:
        return f"{what}: its layers are {shape.width} columns wide, and a part needs one at least"
    if split.kind == "pipeline" and len(units_of(shape)) < split.parts:
        return f"{what}: an embedding, {shape.depth} layer(s) and the head are {len(units_of(shape))} stages at most"
    if split.kind == "embedding" and shape.codes == 0:
        return f"{what}: no category is looked up in a table, so that there is none to cut"
    return ""
