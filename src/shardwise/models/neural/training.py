"""Epochs of minibatches: schedule, early stopping, the way back from a loss that diverges, checkpoints.

A round is an epoch, or about a million rows of one. What is random comes from seeds of (epoch) and (round), so that a
fit that goes on after a kill ends with the same bytes; within a round the state of random numbers is kept too.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from shardwise.core.errors import DataError
from shardwise.core.seeds import derive_seed
from shardwise.core.target import Target
from shardwise.data.chunk import thinned
from shardwise.models.base import Chunk, FitRun, Rows
from shardwise.models.design import Block, Design
from shardwise.models.guard import LOWER, LOWERED, Beginning, Guard
from shardwise.models.links import link
from shardwise.models.losses import task_loss
from shardwise.models.neural.checkpoint import FILE, WITHIN, Progress, read_progress, write_progress
from shardwise.models.neural.device import autocast, find_device, random_state, set_random_state, settled
from shardwise.models.neural.losses import Loss, loss_of
from shardwise.models.neural.network import Tensors, forward, on_device, to_numpy
from shardwise.models.neural.order import Order, usual_batch, usual_epochs
from shardwise.models.neural.schedule import Schedule
from shardwise.models.neural.shape import Shape, Weights
from shardwise.models.neural.steps import Batch, NotFinite, Steps
from shardwise.models.neural.within import Saving
from shardwise.models.scaling import TargetScale
from shardwise.models.slices import Slices
from shardwise.stats.anomalies import NOT_FINITE, Anomaly
from shardwise.store.files import remove_folder

SCORED_ROWS = 2**18  # validation rows that are looked at, at most
SCORE_ROWS = 2048  # at once


class Settings(Protocol):
    """The params that training reads; see `model.NeuralParams`."""

    @property
    def dropout(self) -> float: ...
    @property
    def label_smoothing(self) -> float: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def beta2(self) -> float: ...
    @property
    def gradient_clip(self) -> float: ...
    @property
    def warm_up(self) -> float: ...
    @property
    def epochs(self) -> int | None: ...
    @property
    def batch_rows(self) -> int | None: ...
    @property
    def patience(self) -> int: ...
    @property
    def mixed(self) -> bool: ...


class Training:
    """One fit; `best` holds the weights of the best round so far."""

    def __init__(self, settings: Settings, shape: Shape, design: Design, scale: TargetScale, target: Target) -> None:
        self._settings = settings
        self._shape = shape
        self._design = design
        self._scale = scale
        self._target = target
        self._late = False
        self._within: Progress | None = None  # where the first round goes on

    def begin(self, weights: Weights, constant: np.ndarray, mean_weight: float, begins: Beginning) -> None:
        """From these weights; `constant` is the best constant prediction, on the scale of the model."""
        self.best = self._start = weights
        self._loss: Loss = loss_of(self._target, constant, self._settings.label_smoothing)
        self._mean_weight = mean_weight
        self.begins = begins

    def run(self, train: Rows, valid: Rows | None, run: FitRun) -> None:
        """Raises `DataError` when the loss stays NaN or infinite however small the steps."""
        self._device = self._chosen_device(run.device)
        self._run = run
        self._slices = self._slices_here()
        self._saving = Saving(run)
        with settled(self._device):
            self._tensors = self._placed()
            self._order = Order(train, self._settings.batch_rows or usual_batch(train.n_rows), run.seed)
            self._schedule = Schedule(
                self._settings.learning_rate, self._settings.warm_up,
                self._settings.epochs or usual_epochs(train.n_rows), self._order.steps,
            )  # fmt: skip
            self._steps = self._made_steps()
            self._rounds(None if valid is None else Scorer(self, valid, self._slices))
        if run.checkpoint is not None and run.leads and run.rests_at is None:
            remove_folder(run.checkpoint)

    # -- what is otherwise where the network lies in parts: `parts.training` ------------------------------------------

    def _chosen_device(self, name: str) -> torch.device:
        return find_device(name)

    def _slices_here(self) -> Slices:
        return Slices(self._run.slices, self._run.member, self._run.saw)

    def _placed(self) -> Tensors:
        return on_device(self.best, self._device)

    def _made_steps(self) -> Steps:
        return Steps(
            self._tensors, self._sum, self._settings.weight_decay, self._settings.gradient_clip,
            self._order.batch_rows, self._run.note, self._slices, self._begin_slice, self._settings.beta2,
        )  # fmt: skip

    def _kept(self) -> tuple[Weights, Weights]:
        """Weights and moments as they are."""
        return to_numpy(self._tensors), to_numpy(self._steps.remembered())

    def _read(self, folder: Path, file: str = FILE) -> Progress | None:
        return read_progress(folder, file)

    def _write(self, folder: Path, progress: Progress, file: str = FILE) -> None:
        if self._run.leads:
            write_progress(folder, progress, file)

    def _raw(self, batch: Batch) -> np.ndarray:
        """Scores float32 `(rows, members, scores)` by the weights as they are."""
        with torch.no_grad():
            return np.asarray(self.scores(batch).cpu().numpy())

    # -----------------------------------------------------------------------------------------------------------------

    def _begin_slice(self, step: int, number: int) -> None:
        """What a slice drops out depends on its place alone, not on who works on it."""
        torch.manual_seed(derive_seed(self._run.seed, "dropout", self._first + step, number))

    def _rounds(self, score: "Scorer | None") -> None:
        progress = self._resumed()
        for anomaly in progress.noticed:
            self._run.notice(Anomaly.from_json(anomaly))
        for step, loss in enumerate(progress.losses, start=1):
            if not self._run.report(step, loss):
                return
        planned = self._schedule
        while progress.rounds < planned.epochs * self._order.rounds and progress.waited < self._settings.patience:
            if not self._round(progress):
                return
            going = self._scored(progress, score)
            if not self._late and (going or self._run.rests_at is not None):
                self._keep(progress)  # half a round is none
            if not going:
                return

    def _keep(self, progress: Progress) -> None:
        """Write a checkpoint at the end of a round; what was kept within it counts no more."""
        if self._run.checkpoint is None:
            return
        with self._saving.wrote():
            self._write(self._run.checkpoint, progress)
            if self._run.leads:
                (self._run.checkpoint / WITHIN).unlink(missing_ok=True)

    def _keep_within(self, progress: Progress, steps: int) -> None:
        """Write one after so many batches of a round, where that pays."""
        if self._run.checkpoint is None or not self._saving.due():
            return
        self._steps.check()
        with self._saving.wrote():
            weights, moments = self._kept()
            random = random_state(self._device)
            now = replace(progress, weights=weights, moments=moments, steps=steps, random=random)
            self._write(self._run.checkpoint, now, WITHIN)

    def _resumed(self) -> Progress:
        if self._run.checkpoint is None:
            return Progress(weights=self.best, best=self.best)
        kept, within = self._read(self._run.checkpoint), self._read(self._run.checkpoint, WITHIN)
        if kept is None:
            kept = Progress(weights=self.best, best=self.best)
        else:
            self._steps.restore(kept.weights, kept.moments)
            self.best = kept.best
        if within is not None and within.rounds == kept.rounds:
            kept.lowered, kept.noticed = within.lowered, within.noticed
            self._within = within
        return kept

    def _round(self, progress: Progress) -> bool:
        """One round from `progress`, taken again with smaller steps while its loss is not finite; False at the end."""
        while True:
            try:
                self._late = self._descend(progress)
                self._steps.check()
            except NotFinite as problem:
                self._steps.restore(progress.weights, progress.moments)
                if not self._lower(progress, problem.batch):
                    return False
                continue
            if self._late and progress.rounds:
                return False  # the best of the rounds before counts
            progress.weights, progress.moments = {}, {}  # the old ones go before the new ones come
            progress.weights, progress.moments = self._kept()
            progress.rounds += 1
            if progress.rounds == 1:
                self.best = progress.best = progress.weights
            return True

    def _lower(self, progress: Progress, batch: int) -> bool:
        """Whether to try again; raises `DataError` when nothing was learned before."""
        where = f"The loss is not finite in batch {batch + 1:,} of round {progress.rounds + 1}"
        if progress.lowered >= LOWERED and progress.rounds == 0:
            raise DataError(
                f"{where[0].lower()}{where[1:]}, even with a learning rate of "
                f"{self._settings.learning_rate * LOWER**LOWERED:.2g}",
                hint="Look for wild values in the target and the weights, or give a smaller learning_rate.",
            )
        evidence = {"batch": batch + 1.0}
        return self._noticed(
            progress, Anomaly(kind=NOT_FINITE, step=progress.rounds + 1, text=f"{where}.", evidence=evidence)
        )

    def _noticed(self, progress: Progress, anomaly: Anomaly) -> bool:
        """Tell it and lower the learning rate; False where it was lowered often enough."""
        again = progress.lowered < LOWERED
        anomaly = Guard.lowered(anomaly, self._settings.learning_rate, progress.lowered)
        progress.lowered += again
        progress.noticed.append(anomaly.to_json())
        self._run.notice(anomaly)
        return again

    def _descend(self, progress: Progress) -> bool:
        """The steps of a round; True when the time was up before its end."""
        torch.manual_seed(derive_seed(self._run.seed, "dropout", progress.rounds))
        self._first = self._order.first_step(progress.rounds)
        number = done = self._first + self._went_on()
        alone = self._run.member is None
        for first, chunk in self._chunks(progress.rounds):
            if first + -(-len(chunk.y) // self._order.batch_rows) <= done:
                continue
            for batch in islice(self._batches(chunk, self._order.batch_rows), max(0, done - first), None):
                going = self._run.go_on()
                if alone and not going:
                    return True
                self._schedule.look(number, self._run)
                rate = self._schedule.rate(number, progress.lowered)
                if not self._steps.step(batch, rate, number - self._first, going=going):
                    return True
                number += 1
                self._keep_within(progress, number - self._first)
        return False

    def _went_on(self) -> int:
        """Go on within the round where there is a checkpoint of that; the batches before it."""
        within, self._within = self._within, None  # once: a round that fails is taken again from its beginning
        if within is None:
            return 0
        self._steps.restore(within.weights, within.moments)
        set_random_state(self._device, within.random)
        return within.steps

    def _chunks(self, number: int) -> Iterator[tuple[int, Chunk]]:
        """Those of a round, each with the number of its first batch."""
        first = self._order.first_step(number)
        for chunk in self._order.round(number):
            yield first, chunk
            first += -(-len(chunk.y) // self._order.batch_rows)

    def _scored(self, progress: Progress, score: "Scorer | None") -> bool:
        """Keep the best, and say whether to go on."""
        if score is None:
            self.best = progress.best = progress.weights
            return not self._late
        loss = score()
        loss = loss if math.isfinite(loss) else math.inf
        if not progress.losses or loss < min(progress.losses):
            self.best = progress.best = progress.weights
        progress.losses.append(loss)
        mended = self._mended(progress, score.guard)
        going = self._run.report(progress.rounds, loss) and not self._late
        return going and mended and progress.waited < self._settings.patience

    def _mended(self, progress: Progress, guard: Guard) -> bool:
        """Where the loss diverges, go back to the best weights, with a lower learning rate; False at the end."""
        anomaly = guard.judge(progress.losses, progress.since)
        if anomaly is None:
            return True
        if not self._noticed(progress, anomaly):
            return False
        progress.weights = progress.best if guard.is_better(min(progress.losses)) else self._start
        progress.moments, progress.since = {}, progress.rounds
        self._steps.restore(progress.weights, progress.moments)
        return True

    def _batches(self, chunk: Chunk, rows: int) -> Iterator[Batch]:
        block = self._design.prepare(chunk, self._scale.apply(chunk.y), self._mean_weight)
        whole = self.to_device(block)
        for start in range(0, len(whole), rows):
            yield whole.part(start, start + rows)

    def to_device(self, block: Block) -> Batch:
        """Prepared rows as tensors."""

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).to(self._device)

        slots = tensor((block.slots - self._design.numbers).astype(np.int64))
        weight = None if block.weight is None else tensor(block.weight)
        return Batch(tensor(block.numbers), slots, tensor(block.y), weight)

    def _sum(self, batch: Batch) -> torch.Tensor:
        """The summed weighted loss of rows."""
        losses = self._loss(self.scores(batch, self._settings.dropout, learning=True), batch.y)
        return (losses if batch.weight is None else losses * batch.weight).sum()

    def scores(self, batch: Batch, dropout: float = 0.0, *, learning: bool = False) -> torch.Tensor:
        """Raw scores float32 `(rows, members, scores)`; in full precision unless `learning`: a package answers so."""
        with autocast(self._device, wanted=self._settings.mixed and learning):
            return forward(self._shape, self._tensors, batch.numbers, batch.slots, dropout=dropout, learning=learning)

    def predict(self, chunk: Chunk) -> np.ndarray:
        """Predictions by the weights as they are, as `Model.predict` gives them."""
        zeros = np.zeros(len(chunk.y))
        parts = []
        for start in range(0, len(zeros), SCORE_ROWS):
            part = Chunk(chunk.X[start : start + SCORE_ROWS], zeros[start : start + SCORE_ROWS])
            parts.append(self._raw(self.to_device(self._design.prepare(part, part.y, 1.0))).astype(np.float64))
        scores_ = np.concatenate(parts)
        flat = link(self._target.task, scores_.reshape(-1, self._shape.scores))
        mean = flat.reshape(*scores_.shape[:2], *flat.shape[1:]).mean(axis=1)
        return self._scale.invert(mean)

    @property
    def target(self) -> Target:
        return self._target


class Scorer:
    """The task's loss on (a fixed, evenly spaced part of) the validation rows."""

    def __init__(self, training: Training, valid: Rows, slices: Slices) -> None:
        self._training, self._slices = training, slices
        stride = -(-valid.n_rows // SCORED_ROWS)
        self._chunks = list(thinned(valid.chunks(), stride))
        self._y = np.concatenate([chunk.y for chunk in self._chunks])
        weights = [chunk.weight for chunk in self._chunks if chunk.weight is not None]
        self._weight = np.concatenate(weights) if weights else None
        self.guard = Guard.of(training.target, self._y, self._weight, begins=training.begins)
        self._pieces = [
            Chunk(chunk.X[start : start + SCORE_ROWS], chunk.y[start : start + SCORE_ROWS])
            for chunk in self._chunks
            for start in range(0, len(chunk.y), SCORE_ROWS)
        ]  # the same ones for any number of members: a product's bits depend on its rows

    def __call__(self) -> float:
        prediction = np.concatenate(self._slices.mapped(self._training.predict, self._pieces))
        return task_loss(self._training.target, self._y, prediction, self._weight)
