"""A network whose layers lie on several workers: micro-batches follow each other through them (one forward, one back).

The schedule is PyTorch's `Schedule1F1B` (Narayanan et al. 2019, https://arxiv.org/abs/1806.03377): a worker begins with
the gradients of the first micro-batch as soon as it comes back, so that few of them are kept at a time.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.nn import functional

from shardwise.models.neural.losses import Loss
from shardwise.models.neural.network import Tensors, mask
from shardwise.models.neural.parts.cuts import chunk
from shardwise.models.neural.parts.group import Place
from shardwise.models.neural.parts.layers import Layers
from shardwise.models.neural.steps import Batch

MICRO = 2  # micro-batches a stage: as many stand still at the beginning and the end of a step as there are stages


class Pipeline:
    """The kind `pipeline`; see `parts.training.Parts`. Batches are filled up with rows of the weight 0 to one size."""

    def __init__(self, place: Place, tensors: Tensors, loss: Loss, dropout: float, batch_rows: int) -> None:
        self.place, self.tensors = place, tensors
        self._loss, self._of_rows = loss, 1
        self._first, self._last = place.part == 0, place.part == place.cuts.parts - 1
        micro = MICRO * place.cuts.parts
        self._rows = math.ceil(batch_rows / (place.cuts.shares * micro)) * micro
        self._layers = _Stage(place, tensors, dropout)
        self.layers = self._layers.layers
        group = place.parts.get_group()
        stage = _Turns(self._layers, place.part, place.cuts.parts, torch.device("cpu"), group=group)
        stage.work = self._layers.work = self._working
        self._schedule = Schedule1F1B(stage, micro, loss_fn=self._losses, scale_grads=False)
        self._group, self._talk = group, ExitStack()

    def gradients(self, batch: Batch) -> torch.Tensor:
        """This share's summed loss over the rows of the whole batch; gradients are added to those of the tensors."""
        self._of_rows = len(batch)
        self._layers.train()
        rows = chunk(len(batch), self.place.cuts.shares, self.place.share)
        losses = self._run(batch.part(rows.start, rows.stop), learn=True)[1]
        return torch.stack(losses).sum().detach() if losses else torch.zeros(())

    def scores(self, batch: Batch) -> torch.Tensor:
        """Raw scores float32 `(rows, members, scores)` of all rows, in all workers."""
        self._layers.eval()
        parts = []
        for start in range(0, len(batch), self._rows):
            part = batch.part(start, start + self._rows)
            found = self._run(part, learn=False)[0]
            shape = self.place.cuts.shape
            whole = torch.empty((self._rows, shape.members, shape.scores)) if found is None else found.contiguous()
            with self.place.member.talking():
                dist.broadcast(whole, group=self._group, group_src=self.place.cuts.parts - 1)
            parts.append(whole[: len(part)])
        return torch.cat(parts)

    def _run(self, batch: Batch, *, learn: bool) -> tuple[torch.Tensor | None, list[torch.Tensor]]:
        """Scores and losses, where they come out."""
        whole = _filled(batch, self._rows)
        given = (whole.numbers, whole.slots) if self._first else ()
        losses: list[torch.Tensor] = []
        assert whole.weight is not None
        told: dict[str, Any] = (
            {"target": torch.stack([whole.y, whole.weight], dim=1), "losses": losses} if self._last else {}
        )
        with torch.set_grad_enabled(learn), self._talk:
            self._talk.enter_context(self.place.member.talking())
            scores = self._schedule.step(*given, **told) if learn else self._schedule.eval(*given, **told)
        return scores, losses

    def _losses(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        with self._working():
            return (self._loss(scores, target[:, 0]) * target[:, 1]).sum() / self._of_rows

    @contextmanager
    def _working(self) -> Iterator[None]:
        """What is done in a step, all else of which is talking to the other stages."""
        self._talk.close()
        try:
            yield
        finally:
            self._talk.enter_context(self.place.member.talking())


class _Turns(PipelineStage):
    """A stage whose way back counts as work."""

    work: Callable[[], AbstractContextManager[None]]

    def backward_one_chunk(self, *args: Any, **kwargs: Any) -> Any:
        with self.work():
            return super().backward_one_chunk(*args, **kwargs)


class _Stage(nn.Module):
    """What a worker computes: the embedding, layers, the head, as it has tensors of them."""

    work: Callable[[], AbstractContextManager[None]]

    def __init__(self, place: Place, tensors: Tensors, dropout: float) -> None:
        super().__init__()
        self._place, self._tensors, self._dropout = place, tensors, dropout
        self.layers = Layers(place, tensors)
        for name, tensor in tensors.items():
            if tensor.requires_grad:
                self.register_parameter(name, nn.Parameter(tensor))
                tensors[name] = self.get_parameter(name)

    def forward(self, *given: torch.Tensor) -> torch.Tensor:
        """Hidden state or scores of the rows of a micro-batch."""
        with self.work():
            return self._forward(*given)

    def _forward(self, *given: torch.Tensor) -> torch.Tensor:
        hidden, shape = given[0], self._place.cuts.shape
        if "knots" in self._tensors:
            numbers, slots = given
            hidden = self.layers.embedded(numbers, self._of_all(slots))
        for layer in range(shape.depth):
            if f"w{layer}" in self._tensors:
                dropout = self._dropout if self.training else 0.0
                kept = mask(len(hidden), shape.width, dropout, hidden.device) if dropout else None
                hidden = self.layers.layer(layer, hidden, kept)
        return self.layers.head(hidden) if "head" in self._tensors else hidden

    def _of_all(self, slots: torch.Tensor) -> torch.Tensor:
        """Those of all shares, which have equally many rows."""
        shares = self._place.cuts.shares
        if shares == 1:
            return slots
        found = slots.new_empty((shares * len(slots), slots.shape[1]))
        with self._place.member.talking():
            dist.all_gather_into_tensor(found, slots.contiguous(), group=self._place.shares.get_group())
        return found


def _filled(batch: Batch, rows: int) -> Batch:
    """The batch with so many rows, those that are added with the weight 0."""
    more = rows - len(batch)
    weight = torch.ones(len(batch)) if batch.weight is None else batch.weight
    return Batch(
        functional.pad(batch.numbers, (0, 0, 0, more)), functional.pad(batch.slots, (0, 0, 0, more)),
        functional.pad(batch.y, (0, more)), functional.pad(weight, (0, more)),
    )  # fmt: skip
