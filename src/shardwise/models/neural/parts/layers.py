"""A network whose layers or table are cut, by PyTorch's DTensor: what one process has, and what flows between them.

A worker holds plain tensors, its pieces. For a batch they become distributed ones: pieces over the shares of the rows
are gathered (the gradient is summed where the piece lies), pieces over the parts stay where they are, and DTensor knows
what a product of two cut matrices is: `P` below is a sum that is still spread over the workers.

    layers 0, 2, ..   (rows, in) whole   @ w cut by columns = (rows, width) cut by columns
    layers 1, 3, ..   (rows, in) cut     @ w cut by rows    = (rows, width) P, summed: whole
"""

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard
from torch.nn import functional

from shardwise.core.parallel import Split
from shardwise.models.neural.losses import Loss
from shardwise.models.neural.network import ACTIVATIONS, Tensors, beside, head, mask, number_columns
from shardwise.models.neural.parts.cuts import chunk
from shardwise.models.neural.parts.group import Place
from shardwise.models.neural.steps import Batch


class CutLayers:
    """Kinds `tensor` and `embedding`; see `parts.training.Parts`."""

    def __init__(self, place: Place, tensors: Tensors, loss: Loss, dropout: float, smoothing: float) -> None:
        self.place, self.cuts, self.tensors = place, place.cuts, tensors
        self._loss, self._dropout, self._smoothing = loss, dropout, smoothing
        self._shares, self._parts = place.shares, place.parts

    @property
    def split(self) -> Split:
        return self.cuts.split

    def gradients(self, batch: Batch) -> torch.Tensor:
        """This share's summed loss over the rows of the whole batch; gradients are added to those of the tensors."""
        scores, own = self._forward(batch, self._dropout), self._own(batch)
        wide = self.cuts.wide
        losses = _cut_softmax(scores, own.y, self._smoothing) if wide else self._loss(_plain(scores), own.y)
        total = (losses if own.weight is None else losses * own.weight).sum() / len(batch)
        total.backward()  # type: ignore[no-untyped-call]
        return total.detach() if self.place.part == 0 else torch.zeros(())

    def scores(self, batch: Batch) -> torch.Tensor:
        """Raw scores float32 `(rows, members, scores)` of all rows, in all workers."""
        with torch.no_grad():
            own = _plain(self._forward(batch, 0.0))
            whole = (len(batch), *own.shape[1:])
            return _distributed(own.contiguous(), self._shares, Shard(0), whole).full_tensor()

    def _own(self, batch: Batch) -> Batch:
        rows = chunk(len(batch), self.cuts.shares, self.place.share)
        return batch.part(rows.start, rows.stop)

    # -- tensors ------------------------------------------------------------------------------------------------------

    def _used(self, name: str) -> torch.Tensor:
        """A tensor as it is computed with: whole over the shares, cut over the parts."""
        local = self.tensors[name]
        if self.cuts.shares > 1 and self.cuts.learns(name):
            axis = self.cuts.by_share(name)
            kept: Placement = Replicate() if axis is None else Shard(axis)
            held = _distributed(local, self._shares, kept, self._of_part(name))
            local = held.redistribute(placements=[Replicate()]).to_local(grad_placements=[Partial()])
        return local

    def _of_part(self, name: str) -> tuple[int, ...]:
        """The shape of what all shares of this part have together."""
        size, axis = list(self.cuts.tensors[name]), self.cuts.by_part(name)
        if axis is not None:
            piece = chunk(size[axis], self.cuts.parts, self.place.part)
            size[axis] = piece.stop - piece.start
        return tuple(size)

    def _over_parts(self, name: str) -> torch.Tensor:
        if self.cuts.parts == 1:
            return self._used(name)
        axis = self.cuts.by_part(name)
        placement: Placement = Replicate() if axis is None else Shard(axis)
        return _distributed(self._used(name), self._parts, placement, self.cuts.tensors[name])

    # -- the network --------------------------------------------------------------------------------------------------

    def _forward(self, batch: Batch, dropout: float) -> torch.Tensor:
        """Scores of this share's rows; cut over the parts where the output layer is wide."""
        hidden, activate = self._embedded(batch).unsqueeze(1), ACTIVATIONS[self.cuts.shape.activation]
        for layer in range(self.cuts.shape.depth):
            r, w, s, b = (self._over_parts(f"{kind}{layer}") for kind in "rwsb")
            hidden = activate(_summed((hidden * r) @ w) * s + b)
            if dropout:
                hidden = hidden * self._mask(len(batch), dropout)
        if self.cuts.parts == 1:
            return head({name: self._used(name) for name in ("head", "bias")}, hidden.transpose(0, 1))
        return self._head(hidden)

    def _head(self, hidden: torch.Tensor) -> torch.Tensor:
        assert isinstance(hidden, DTensor)
        wanted: Placement = Replicate() if self.cuts.wide else Shard(2)
        by_member = hidden.redistribute(placements=[wanted]).transpose(0, 1)
        product = _summed(torch.bmm(by_member, self._over_parts("head")))
        return (product + self._over_parts("bias").unsqueeze(1)).transpose(0, 1)

    def _mask(self, rows: int, dropout: float) -> torch.Tensor:
        """Drawn for the whole batch in each worker, so that it is what a single process draws."""
        whole = mask(rows, self.cuts.shape.width, dropout, torch.device("cpu"))
        own = whole[chunk(rows, self.cuts.shares, self.place.share)]
        return own if self.cuts.parts == 1 else _distributed(own, self._parts, Replicate(), tuple(own.shape))

    def _embedded(self, batch: Batch) -> torch.Tensor:
        own, shape, columns = self._own(batch), self.cuts.shape, []
        if shape.numbers:
            used = {name: self._used(name) for name in ("knots", "slopes", "pieces", "linear", "shift")}
            values = number_columns(used, own.numbers[:, : shape.numbers]).transpose(0, 1)
            columns.append(beside(self._gathered(values, shape.embedding)))
        if shape.codes and self.split.kind == "embedding":
            columns.append(beside(self._looked_up(batch)))
        elif shape.codes:
            codes = functional.embedding(own.slots, self._used("categories"))
            columns.append(beside(self._gathered(codes, shape.code_embedding)))
        return torch.cat(columns, dim=1)

    def _gathered(self, values: torch.Tensor, width: int) -> torch.Tensor:
        """`(rows, features, width)` of some of its columns."""
        if self.cuts.parts == 1:
            return values
        whole = (*values.shape[:2], width)
        return _distributed(values.contiguous(), self._parts, Shard(2), whole).redistribute(placements=[Replicate()])

    def _looked_up(self, batch: Batch) -> torch.Tensor:
        """This share's rows out of a table of which each worker has some rows: each looks up for all what it has.

        DTensor's own lookup gives each worker a gradient of the size of the whole table before it is cut.
        """
        table, whole = self.tensors["categories"], self.cuts.tensors["categories"]
        mine = chunk(whole[0], self.cuts.shares, self.place.share)
        if len(table):
            here = (batch.slots >= mine.start) & (batch.slots < mine.stop)
            place = (batch.slots - mine.start).clamp(0, len(table) - 1)
            found = functional.embedding(place, table) * here.unsqueeze(2)
        else:
            found = table.sum() + table.new_zeros(*batch.slots.shape, whole[1])  # it takes part in the sums nonetheless
        spread = _distributed(found, self._shares, Partial(), (*batch.slots.shape, whole[1]))
        own: torch.Tensor = spread.redistribute(placements=[Shard(0)]).to_local()
        return own


def _distributed(local: torch.Tensor, mesh: DeviceMesh, placement: Placement, whole: tuple[int, ...]) -> DTensor:
    """A piece as part of a whole of that shape."""
    stride = torch.empty(whole, device="meta").stride()
    return DTensor.from_local(local, mesh, [placement], run_check=False, shape=torch.Size(whole), stride=stride)


def _summed(product: torch.Tensor) -> torch.Tensor:
    """Whole, where its parts are still to be added."""
    if isinstance(product, DTensor) and product.placements[0].is_partial():
        return product.redistribute(placements=[Replicate()])
    return product


def _plain(scores: torch.Tensor) -> torch.Tensor:
    return scores.redistribute(placements=[Replicate()]).to_local() if isinstance(scores, DTensor) else scores


def _cut_softmax(scores: torch.Tensor, y: torch.Tensor, smoothing: float) -> torch.Tensor:
    """The cross-entropy `(rows,)`, mean over the members, of scores `(rows, members, scores)` cut by their columns.

    Of a row only its maximum and three sums travel. PyTorch's `loss_parallel` does the same, but for labels that are
    smoothed its gradients leave out the softmax of what they are smoothed by.
    """
    assert isinstance(scores, DTensor)
    mesh, classes, local = scores.device_mesh, scores.shape[2], scores.to_local()
    mine = chunk(classes, mesh.size(), mesh.get_local_rank())
    some = local.shape[2] > 0
    most = local.detach().amax(2) if some else local.new_full(local.shape[:2], -torch.inf)
    dist.all_reduce(most, dist.ReduceOp.MAX, group=mesh.get_group())
    place = y.long() - mine.start
    here = ((place >= 0) & (place < mine.stop - mine.start))[:, None]
    index = place.clamp(0, max(0, local.shape[2] - 1))[:, None, None].expand(*local.shape[:2], 1)
    wanted = local.gather(2, index).squeeze(2) * here if some else local.sum(2)
    sums = torch.stack([(local - most.unsqueeze(2)).exp().sum(2), wanted, local.sum(2)])
    whole = _distributed(sums, mesh, Partial(), tuple(sums.shape)).redistribute(placements=[Replicate()]).to_local()
    losses = whole[0].log() + most - (1 - smoothing) * whole[1] - smoothing / classes * whole[2]
    return losses.mean(1)
