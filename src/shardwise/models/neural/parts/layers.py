"""A network whose layers or table are cut: what one process computes, and what flows between them (`spread`).

A worker has plain tensors, its pieces. Those over the shares of the rows are lent to it (`lent`); those over the parts
stay where they are. Below, P is a sum that is still spread over the workers.

    layers 0, 2, ..   (rows, in) whole   @ w cut by columns = (rows, width) cut by columns
    layers 1, 3, ..   (rows, in) cut     @ w cut by rows    = (rows, width) P, summed: whole
"""

import torch
import torch.distributed as dist

from shardwise.models.neural.losses import Loss
from shardwise.models.neural.network import ACTIVATIONS, Tensors, beside, mask, number_places
from shardwise.models.neural.parts.cuts import chunk
from shardwise.models.neural.parts.group import Place
from shardwise.models.neural.parts.lent import Lender
from shardwise.models.neural.parts.spread import all_rows, columns, joined, repeated, summed
from shardwise.models.neural.steps import Batch


class Layers:
    """The units of a network, of which a worker has pieces of all, or all of some: hidden is `(rows, members, width)`.

    Members' vectors are multiplied into the rows: into a matrix they would make one of the size of a layer for each
    member, and keep it for the way back.
    """

    def __init__(self, place: Place, tensors: Tensors) -> None:
        self.cuts, self.lender, self._tensors = place.cuts, Lender(place, tensors), tensors
        self._place = place
        self._cut = place.cuts.split.kind == "tensor"
        self._own = chunk(place.cuts.shape.width, place.cuts.parts, place.part)

    def embedded(self, numbers: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        """`(rows, 1, inputs)` of this share's numbers and of the slots of all shares, in order."""
        shape, found = self.cuts.shape, []
        if shape.numbers:
            column, places = number_places(self._tensors, numbers[:, : shape.numbers])
            values = self.lender.product(places, "pieces") + self.lender.product(column, "linear", 1)
            values = self.lender.plus(values.transpose(0, 1), "shift")
            found.append(beside(joined(values, self._place, shape.embedding) if self._cut else values))
        if shape.codes:
            codes = self.lender.looked_up(slots)
            found.append(beside(joined(codes, self._place, shape.code_embedding) if self._cut else codes))
        return torch.cat(found, dim=1).unsqueeze(1)

    def layer(self, number: int, hidden: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        """What follows; `kept` is the mask of dropout, for all columns."""
        shape, lender, by_columns = self.cuts.shape, self.lender, self._cut and number % 2 == 0
        scaled = lender.times(hidden.expand(-1, shape.members, -1), f"r{number}")
        scaled = repeated(scaled, self._place) if by_columns else scaled
        product = lender.product(scaled.flatten(0, 1).unsqueeze(0), f"w{number}", 0)
        product = product.reshape(len(hidden), shape.members, product.shape[2])
        product = summed(product, self._place) if self._cut and not by_columns else product
        hidden = ACTIVATIONS[shape.activation](lender.plus(lender.times(product, f"s{number}"), f"b{number}"))
        if kept is None:
            return hidden
        return hidden * (kept[:, :, self._own] if by_columns else kept)

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Scores `(rows, members, scores)`; some columns of them where the output layer is wide."""
        cut, wide, width = self._cut and self.cuts.shape.depth % 2 == 1, self.cuts.wide, self.cuts.shape.width
        if wide:
            hidden = joined(hidden, self._place, width, partial=True) if cut else repeated(hidden, self._place)
        elif self._cut and not cut:
            hidden = columns(hidden, self._place)
        product = self.lender.product(hidden.transpose(0, 1), "head").transpose(0, 1)
        product = summed(product, self._place) if self._cut and not wide else product
        return self.lender.plus(product, "bias")


class CutLayers:
    """Kinds `tensor` and `embedding`; see `parts.training.Parts`."""

    def __init__(self, place: Place, tensors: Tensors, loss: Loss, dropout: float, smoothing: float) -> None:
        self.place, self.cuts, self.layers = place, place.cuts, Layers(place, tensors)
        self._loss, self._dropout, self._smoothing = loss, dropout, smoothing

    def gradients(self, batch: Batch) -> torch.Tensor:
        """This share's summed loss over the rows of the whole batch; gradients are added to those of the tensors."""
        scores, rows = self._forward(batch, self._dropout), self._rows(len(batch))
        own = batch.part(rows.start, rows.stop)
        if self.cuts.wide:
            losses = _cut_softmax(scores, own.y, self._smoothing, self.place)
        else:
            losses = self._loss(scores, own.y)
        total = (losses if own.weight is None else losses * own.weight).sum() / len(batch)
        total.backward()  # type: ignore[no-untyped-call]
        return total.detach() if self.place.part == 0 else torch.zeros(())

    def scores(self, batch: Batch) -> torch.Tensor:
        """Raw scores float32 `(rows, members, scores)` of all rows, in all workers."""
        with torch.no_grad():
            own = self._forward(batch, 0.0)
            own = joined(own, self.place, self.cuts.shape.scores) if self.cuts.wide else own
            return all_rows(own, self.place, len(batch))

    def _rows(self, count: int) -> slice:
        return chunk(count, self.cuts.shares, self.place.share)

    def _forward(self, batch: Batch, dropout: float) -> torch.Tensor:
        """Scores of this share's rows. Dropout is drawn for the whole batch, so that it is what one process draws."""
        rows, shape = self._rows(len(batch)), self.cuts.shape
        hidden = self.layers.embedded(batch.numbers[rows], batch.slots)
        for layer in range(shape.depth):
            kept = mask(len(batch), shape.width, dropout, torch.device("cpu"))[rows] if dropout else None
            hidden = self.layers.layer(layer, hidden, kept)
        return self.layers.head(hidden)


def _cut_softmax(scores: torch.Tensor, y: torch.Tensor, smoothing: float, place: Place) -> torch.Tensor:
    """The cross-entropy `(rows,)`, mean over the members, of scores `(rows, members, classes)` cut by their columns.

    Of a row only its maximum and three sums travel. PyTorch's `loss_parallel` does the same, but for labels that are
    smoothed its gradients leave out the softmax of what they are smoothed by.
    """
    classes = place.cuts.shape.scores
    mine = chunk(classes, place.cuts.parts, place.part)
    some = scores.shape[2] > 0
    most = scores.detach().amax(2) if some else scores.new_full(scores.shape[:2], -torch.inf)
    with place.member.talking():
        dist.all_reduce(most, dist.ReduceOp.MAX, group=place.parts.get_group())
    spot = y.long() - mine.start
    here = ((spot >= 0) & (spot < mine.stop - mine.start))[:, None]
    index = spot.clamp(0, max(0, scores.shape[2] - 1))[:, None, None].expand(*scores.shape[:2], 1)
    wanted = scores.gather(2, index).squeeze(2) * here if some else scores.sum(2)
    sums = torch.stack([(scores - most.unsqueeze(2)).exp().sum(2), wanted, scores.sum(2)])
    whole = summed(sums, place)
    losses = whole[0].log() + most - (1 - smoothing) * whole[1] - smoothing / classes * whole[2]
    return losses.mean(1)
