"""Training of a network that lies in parts: as `training`, on pieces of its tensors."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from shardwise.compute.ceiling import return_at_once
from shardwise.core.errors import ConfigError, Pruned
from shardwise.models.base import FitRun, Rows
from shardwise.models.neural.adamw import MOMENTS, begin_state, fused_step
from shardwise.models.neural.checkpoint import FILE, Progress
from shardwise.models.neural.device import find_device
from shardwise.models.neural.network import Tensors
from shardwise.models.neural.parts.cuts import Cuts
from shardwise.models.neural.parts.group import Place, placed
from shardwise.models.neural.parts.keeping import read_parts, set_aside, whole_weights, write_parts
from shardwise.models.neural.parts.layers import CutLayers
from shardwise.models.neural.parts.pipeline import Pipeline
from shardwise.models.neural.shape import Weights
from shardwise.models.neural.steps import Batch, Steps
from shardwise.models.neural.training import Training
from shardwise.models.slices import Slices

AT_ONCE = 2**18  # numbers of a gradient
RETURNED_BYTES = 2**24  # memory of that size goes back when it is free: pieces come and go


class Parts(Protocol):
    """A network of which each process has a part; all of them call the same methods in the same order."""

    def gradients(self, batch: Batch) -> torch.Tensor:
        """What this process adds to the mean loss of the batch; gradients, whole, are added to those of the tensors."""
        ...

    def scores(self, batch: Batch) -> torch.Tensor:
        """Raw scores float32 `(rows, members, scores)` of all rows, in all processes."""
        ...


class PartedTraining(Training):
    """One fit in a member of a gang. In the end `best` is whole in the first one, and of no use in the others."""

    _cuts: Cuts
    _place: Place
    _parts: Parts
    _folder: Path | None

    def lie(self, cuts: Cuts) -> None:
        """Say how the network lies; `begin` is given this member's pieces."""
        self._cuts = cuts

    def run(self, train: Rows, valid: Rows | None, run: FitRun) -> None:
        """As `Training.run`; raises `GangBroken` when another member is lost, `ConfigError` for another device."""
        assert run.member is not None
        return_at_once(RETURNED_BYTES)
        self._folder = None if run.checkpoint is None else run.checkpoint.parent
        self.best = self._start = set_aside(self._start, self._folder)
        with placed(run.member, self._cuts) as self._place:
            try:
                super().run(train, valid, run)
            except Pruned:
                self._gather()
                raise
            self._gather()

    def _gather(self) -> None:
        self._steps.optimizer.state.clear()  # nothing more is learned
        self.best = whole_weights(self._place, self.best, self._folder)

    def _chosen_device(self, name: str) -> torch.device:
        if name not in ("auto", "cpu"):
            find_device(name)
            raise ConfigError(
                f"--device {name} cannot hold a part of a network",
                hint="Parts are trained on processors: give --device cpu, or --parallel data.",
            )
        return torch.device("cpu")

    def _slices_here(self) -> Slices:
        """None: all members look at the same rows, and take from them what is theirs."""
        return Slices(1, None)

    def _placed(self) -> Tensors:
        tensors = {name: torch.tensor(array) for name, array in self.best.items()}
        for name, tensor in tensors.items():
            tensor.requires_grad_(self._cuts.learns(name))
        return tensors

    def _made_steps(self) -> Steps:
        settings, place = self._settings, self._place
        if self._cuts.split.kind == "pipeline":
            self._parts = Pipeline(place, self._tensors, self._loss, settings.dropout, self._order.batch_rows)
        else:
            smoothing = settings.label_smoothing
            self._parts = CutLayers(place, self._tensors, self._loss, settings.dropout, smoothing)
        steps = PartedSteps(
            self._tensors, self._sum, settings.weight_decay, settings.gradient_clip, self._order.batch_rows,
            self._run.note, beta2=settings.beta2,
        )  # fmt: skip
        steps.lie(self._parts, place)
        return steps

    def _kept(self) -> tuple[Weights, Weights]:
        """In files, as is all that is not worked with: a worker has a piece, its gradient and its two moments."""
        self._steps.optimizer.zero_grad()  # nothing else is in memory while it is sent
        kept = (self._tensors, self._steps.remembered())
        weights, moments = (
            set_aside({name: each.detach().numpy() for name, each in tensors.items()}, self._folder) for tensors in kept
        )
        return weights, moments

    def _read(self, folder: Path, file: str = FILE) -> Progress | None:
        return read_parts(folder, self._place, file)

    def _write(self, folder: Path, progress: Progress, file: str = FILE) -> None:
        write_parts(folder, self._place, progress, file)

    def _raw(self, batch: Batch) -> np.ndarray:
        return self._parts.scores(batch).numpy()


class PartedSteps(Steps):
    """AdamW over the pieces that this process has."""

    _parts: Parts
    _place: Place

    def lie(self, parts: Parts, place: Place) -> None:
        """Say of which network the tensors are pieces."""
        self._parts, self._place = parts, place
        self._counted = {name for name in self._learned if place.cuts.owner(name, place.rank) == place.rank}

    def step(self, batch: Batch, rate: float, number: int, *, going: bool = True) -> bool:
        """One step of all members, unless one is not `going`; see `Steps.step`."""
        self.optimizer.zero_grad()
        loss = self._parts.gradients(batch)
        found = {name: _values(tensor) for name, tensor in self._learned.items() if tensor.grad is not None}
        squares = [_squares(values) for name, values in found.items() if name in self._counted]
        norm = torch.stack(squares).sum() if squares else torch.zeros(())
        summed = self._place.all_reduce(torch.stack([loss, torch.tensor(float(not going)), norm]))
        if summed[1] > 0:
            return False
        self._place.member.saw(len(batch))
        norm = summed[2].sqrt()
        shrink = (self.gradient_clip / (norm + 1e-6)).clamp(max=1.0)  # as `clip_grad_norm_`
        for values in found.values():
            values.mul_(shrink)
        self._take(rate, number, summed[0] + norm)
        return True

    def _apply(self) -> None:
        rows = {name: tensor.grad for name, tensor in self._learned.items()
                if tensor.grad is not None and tensor.grad.is_sparse}  # fmt: skip
        for name in rows:
            self._learned[name].grad = None
        self.optimizer.step()
        for group in self.optimizer.param_groups:
            for name, gradient in rows.items():
                if any(each is self._learned[name] for each in group["params"]):
                    self._take_rows(self._learned[name].detach(), self.optimizer.state[self._learned[name]],
                                    gradient, group)  # fmt: skip

    def _take_rows(
        self, table: torch.Tensor, state: dict[str, torch.Tensor], gradient: torch.Tensor, group: dict[str, Any]
    ) -> None:
        """The optimiser's step of a table whose gradient has few rows: the same one, some rows at a time."""
        begin_state(state, table)
        places, values = gradient.indices()[0], gradient.values()
        for start in range(0, len(table), step := max(1, AT_ONCE // table.shape[1])):
            low, high = torch.searchsorted(places, torch.tensor([start, start + step])).tolist()
            given = torch.zeros_like(table[start : start + step])
            given[places[low:high] - start] = values[low:high]
            piece = {name: state[name][start : start + step] for name in MOMENTS}
            fused_step([table[start : start + step]], [given], [{**piece, "step": state["step"].clone()}], group)
        state["step"] += 1


def _values(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers of a tensor's gradient, which may have few rows."""
    assert tensor.grad is not None
    if not tensor.grad.is_sparse:
        return tensor.grad
    tensor.grad = tensor.grad.coalesce()
    return tensor.grad.values()


def _squares(values: torch.Tensor) -> torch.Tensor:
    """The sum of the squares, without all of them in memory at once."""
    return torch.stack([part.square().sum() for part in torch.split(values.flatten(), AT_ONCE)]).sum()
