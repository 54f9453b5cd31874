"""Training of a network that lies in parts: as `training`, on pieces of its tensors."""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from shardwise.core.errors import ConfigError, Pruned
from shardwise.models.base import FitRun, Rows
from shardwise.models.neural.checkpoint import FILE, Progress
from shardwise.models.neural.device import find_device
from shardwise.models.neural.network import Tensors
from shardwise.models.neural.parts.cuts import Cuts
from shardwise.models.neural.parts.group import Place, placed
from shardwise.models.neural.parts.keeping import read_parts, whole_weights, write_parts
from shardwise.models.neural.parts.layers import CutLayers
from shardwise.models.neural.parts.pipeline import Pipeline
from shardwise.models.neural.steps import Batch, Steps
from shardwise.models.neural.training import Training
from shardwise.models.slices import Slices


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

    def lie(self, cuts: Cuts) -> None:
        """Say how the network lies; `begin` is given this member's pieces."""
        self._cuts = cuts

    def run(self, train: Rows, valid: Rows | None, run: FitRun) -> None:
        """As `Training.run`; raises `GangBroken` when another member is lost, `ConfigError` for another device."""
        assert run.member is not None
        with placed(run.member, self._cuts) as self._place:
            try:
                super().run(train, valid, run)
            except Pruned:
                self._gather(run.checkpoint)
                raise
            self._gather(run.checkpoint)

    def _gather(self, checkpoint: Path | None) -> None:
        self.best = whole_weights(self._place, self.best, None if checkpoint is None else checkpoint.parent)

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
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._parts.gradients(batch)
        squares = [tensor.grad.square().sum() for name, tensor in self._learned.items()
                   if name in self._counted and tensor.grad is not None]  # fmt: skip
        norm = torch.stack(squares).sum() if squares else torch.zeros(())
        summed = self._place.all_reduce(torch.stack([loss, torch.tensor(float(not going)), norm]))
        if summed[1] > 0:
            return False
        self._place.member.saw(len(batch))
        norm = summed[2].sqrt()
        shrink = (self.gradient_clip / (norm + 1e-6)).clamp(max=1.0)  # as `clip_grad_norm_`
        for tensor in self._learned.values():
            if tensor.grad is not None:
                tensor.grad.mul_(shrink)
        self._take(rate, number, summed[0] + norm)
        return True
