"""Tensors that are cut over the shares of the rows, worked with block by block, so that nobody has a whole one.

A block is a run of one share's piece. Its owner sends it to the other shares; each computes what needs it, and forgets
it before the next one comes. On the way back the blocks that are needed come once more, and what each share adds to a
block's gradient is summed where the block lies. So beside its own pieces a worker has one block at a time, of a
sixteenth of the network at most (`cuts.Cuts.lent`); without shares the piece itself is the only block.

| operation    | x                      | tensor                               | result                 |
|--------------|------------------------|--------------------------------------|------------------------|
| `product`    | `(batch, rows, inner)` | `(batch, inner, columns)`, see there | `(batch, rows, columns)` |
| `times`, `plus` | `(rows, a, b)`      | `(a, b)`                             | `(rows, a, b)`         |
| `looked_up`  | `(rows, codes)`        | `(slots, width)`                     | `(rows, codes, width)` |
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch.autograd.function import once_differentiable
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional

from shardwise.models.neural.network import Tensors
from shardwise.models.neural.parts.cuts import chunk
from shardwise.models.neural.parts.group import Place
from shardwise.models.neural.parts.spread import own_rows

Use = Callable[[slice, torch.Tensor], None]
Gradient = Callable[[slice, torch.Tensor | None], torch.Tensor]
_LEFT = {0: 0, 1: 2, 2: None}  # the dimension of a product's left factor that goes with one of its right factor
_RESULT = {0: 0, 1: None, 2: 2}


class Lender:
    """What a worker has of a network, lent to the other shares and borrowed from them.

    All workers of a part do the same operations in the same order. `most` is the largest number of borrowed parameters
    that were here at once.
    """

    def __init__(self, place: Place, tensors: Tensors) -> None:
        self.place, self.cuts, self.tensors = place, place.cuts, tensors
        self.most = 0
        self._group = place.shares.get_group()
        self._here: list[tuple[StorageWeakRef, int]] = []

    # -- operations ---------------------------------------------------------------------------------------------------

    def product(self, x: torch.Tensor, name: str, lift: int | None = None) -> torch.Tensor:
        """The batched product; `lift` is the dimension of size 1 that a tensor of two dimensions gets for it."""
        result: torch.Tensor = _Product.apply(x, self.tensors[name], self, (name, lift))  # type: ignore[no-untyped-call]
        return result

    def times(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """The product with each row."""
        result: torch.Tensor = _Times.apply(x, self.tensors[name], self, name)  # type: ignore[no-untyped-call]
        return result

    def plus(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """The sum with each row."""
        result: torch.Tensor = _Plus.apply(x, self.tensors[name], self, name)  # type: ignore[no-untyped-call]
        return result

    def looked_up(self, slots: torch.Tensor) -> torch.Tensor:
        """This share's rows out of the table of categories, `slots` those of all shares, in order: no block is lent.

        Each looks up for all shares what it has. DTensor's own lookup gives each worker a gradient of the size of the
        whole table before it is cut; here it has the rows of the batch alone (it is sparse).
        """
        table = self.tensors["categories"]
        if self.cuts.shares == 1:
            return functional.embedding(slots, table, sparse=True)
        mine = self._mine("categories", 0)
        if len(table):
            here = (slots >= mine.start) & (slots < mine.stop)
            place = (slots - mine.start).clamp(0, len(table) - 1)
            found = functional.embedding(place, table, sparse=True) * here.unsqueeze(2)
        else:
            found = table.sum() + table.new_zeros(*slots.shape, table.shape[1])  # it takes part in the sums nonetheless
        return own_rows(found, self.place)

    # -- blocks -------------------------------------------------------------------------------------------------------

    def size(self, name: str, piece: torch.Tensor) -> list[int]:
        """The shape of what all shares have together."""
        axis, size = self.cuts.by_share(name), list(piece.shape)
        if axis is not None:
            size[axis] = self.cuts.tensors[name][axis]
        return size

    def each(self, name: str, piece: torch.Tensor, use: Use) -> None:
        """`use(run, block)` for all blocks; runs are along the dimension `by_share`, or all of the first one."""
        axis = self.cuts.by_share(name)
        if axis is None:
            use(slice(0, piece.shape[0]), piece)
            return
        for owner, run in self.cuts.runs(name, self.place.rank):
            use(run, self._borrowed(name, piece, owner, run))

    def summed(self, name: str, piece: torch.Tensor, use: Gradient, *, needed: bool = True) -> torch.Tensor:
        """The gradient of this piece: of what `use(run, block)` gives in all shares. The block where it is `needed`."""
        axis = self.cuts.by_share(name)
        if axis is None:
            return use(slice(0, piece.shape[0]), piece)
        gradient, mine = torch.empty_like(piece), self._mine(name, axis)
        for owner, run in self.cuts.runs(name, self.place.rank):
            given = use(run, self._borrowed(name, piece, owner, run) if needed else None).contiguous()
            with self.place.member.talking():
                dist.reduce(given, group=self._group, group_dst=owner)
            if owner == self.place.share:
                gradient.narrow(axis, run.start - mine.start, run.stop - run.start).copy_(given)
        return gradient

    def _mine(self, name: str, axis: int) -> slice:
        return chunk(self.cuts.tensors[name][axis], self.cuts.shares, self.place.share)

    def _borrowed(self, name: str, piece: torch.Tensor, owner: int, run: slice) -> torch.Tensor:
        axis = self.cuts.by_share(name)
        assert axis is not None
        if owner == self.place.share:
            block = piece.detach().narrow(axis, run.start - self._mine(name, axis).start, run.stop - run.start)
            block = block.contiguous()
        else:
            size = self.size(name, piece)
            size[axis] = run.stop - run.start
            block = piece.new_empty(size)
        if block.untyped_storage().data_ptr() != piece.untyped_storage().data_ptr():
            self._count(block)
        with self.place.member.talking():
            dist.broadcast(block, group=self._group, group_src=owner)
        return block

    def _count(self, block: torch.Tensor) -> None:
        self._here = [(seen, cells) for seen, cells in self._here if not seen.expired()]  # type: ignore[no-untyped-call]
        self._here.append((StorageWeakRef(block.untyped_storage()), block.numel()))  # type: ignore[no-untyped-call]
        self.most = max(self.most, sum(cells for _, cells in self._here))


def _at(x: torch.Tensor, axis: int | None, run: slice) -> torch.Tensor:
    return x if axis is None else x.narrow(axis, run.start, run.stop - run.start)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, piece: torch.Tensor, lender: Lender, lifted: tuple[str, int | None]
    ) -> torch.Tensor:
        ctx.save_for_backward(x, piece)
        ctx.lender, (name, lift) = lender, lifted
        ctx.name, ctx.lift = lifted
        axis, size = lender.cuts.by_share(name) or 0, lender.size(name, piece)
        if lift is not None:
            axis += lift <= axis
            size.insert(lift, 1)
        ctx.axis = axis
        result = x.new_zeros((x.shape[0], x.shape[1], size[2]))

        def add(run: slice, block: torch.Tensor) -> None:
            right = block if lift is None else block.unsqueeze(lift)
            _at(result, _RESULT[axis], run).baddbmm_(_at(x, _LEFT[axis], run), right)

        lender.each(name, piece, add)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, piece = ctx.saved_tensors
        axis, lift = ctx.axis, ctx.lift
        of_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None

        def use(run: slice, block: torch.Tensor | None) -> torch.Tensor:
            left, given = _at(x, _LEFT[axis], run), _at(g, _RESULT[axis], run)
            if of_x is not None and block is not None:
                right = block if lift is None else block.unsqueeze(lift)
                _at(of_x, _LEFT[axis], run).baddbmm_(given, right.transpose(1, 2))
            product = torch.bmm(left.transpose(1, 2), given)
            return product if lift is None else product.squeeze(lift)

        return of_x, ctx.lender.summed(ctx.name, piece, use, needed=of_x is not None), None, None


class _Times(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, piece: torch.Tensor, lender: Lender, name: str) -> torch.Tensor:
        ctx.save_for_backward(x, piece)
        ctx.lender, ctx.name = lender, name
        ctx.axis = 1 + (lender.cuts.by_share(name) or 0)
        result = torch.empty_like(x, memory_format=torch.contiguous_format)
        lender.each(name, piece, lambda run, block: _multiply(x, block, result, ctx.axis, run))
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, piece = ctx.saved_tensors
        of_x = torch.empty_like(g, memory_format=torch.contiguous_format)

        def use(run: slice, block: torch.Tensor | None) -> torch.Tensor:
            assert block is not None
            _multiply(g, block, of_x, ctx.axis, run)
            return (_at(g, ctx.axis, run) * _at(x, ctx.axis, run)).sum(0)

        return of_x, ctx.lender.summed(ctx.name, piece, use), None, None


def _multiply(x: torch.Tensor, block: torch.Tensor, result: torch.Tensor, axis: int, run: slice) -> None:
    torch.mul(_at(x, axis, run), block, out=_at(result, axis, run))


class _Plus(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, piece: torch.Tensor, lender: Lender, name: str) -> torch.Tensor:
        ctx.save_for_backward(piece)
        ctx.lender, ctx.name = lender, name
        axis = ctx.axis = 1 + (lender.cuts.by_share(name) or 0)
        result = torch.empty_like(x, memory_format=torch.contiguous_format)

        def add(run: slice, block: torch.Tensor) -> None:
            torch.add(_at(x, axis, run), block, out=_at(result, axis, run))

        lender.each(name, piece, add)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (piece,) = ctx.saved_tensors

        def use(run: slice, _block: torch.Tensor | None) -> torch.Tensor:
            return _at(g, ctx.axis, run).sum(0)

        return g, ctx.lender.summed(ctx.name, piece, use, needed=False), None, None
