"""Proximal Adam over streamed minibatches, cosine decay, averaged weights, early stopping; where the loss diverges,
again from the best weights with a lower rate.

Notation: g gradient, m and v Adam's moments (Kingma & Ba 2015), s = rate / (sqrt(v) + eps) the step of one weight.
After the gradient step the penalty's proximal operator (Duchi & Singer 2009) is applied with the same step:
w <- sign(w) max(|w| - s l1, 0) / (1 + s l2), so that l1 gives exact zeros. Each round's weights are the average over
its steps (Polyak & Juditsky 1992), which takes the noise out of small batches.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Protocol

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from shardwise.core.seeds import derive_seed
from shardwise.core.target import Target
from shardwise.models.base import Chunk, FitRun, Rows
from shardwise.models.design import Block
from shardwise.models.guard import LOWER, LOWERED, Beginning, Guard
from shardwise.models.losses import task_loss
from shardwise.models.scaling import TargetScale
from shardwise.models.sgd_resume import Progress, read_progress, write_progress
from shardwise.models.slices import Slices
from shardwise.stats.anomalies import Anomaly
from shardwise.store.files import remove_folder

ROUND_ROWS = 2**20  # rows between two looks at the validation rows, at most
SCORED_ROWS = 2**18  # validation rows that are looked at, at most
STREAM_ROWS = 16_384  # rows prepared at once when the data do not fit in memory
PREDICT_ROWS = 16_384  # rows summed at once: they stay in the processor's cache
MEMORY_SHARE = 4  # prepared rows are kept when they take at most a fourth of the memory ...
MEMORY_BYTES = 2**31  # ... and at most this
KEEP_S = 20.0  # between two checkpoints
_VISITS = 6_000_000
_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8


class Settings(Protocol):
    """The params that the descent reads; see `linear.LinearParams`."""

    @property
    def l1(self) -> float: ...
    @property
    def l2(self) -> float: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def epochs(self) -> int | None: ...
    @property
    def batch_rows(self) -> int: ...
    @property
    def patience(self) -> int: ...


class Columns(Protocol):
    """Features as columns; see `design.Design`, which is one."""

    @property
    def width(self) -> int: ...
    @property
    def numbers(self) -> int: ...
    @property
    def row_bytes(self) -> int: ...
    def prepare(self, chunk: Chunk, y: np.ndarray, mean_weight: float) -> Block: ...
    def widened(self, block: Block) -> Block: ...
    def scores(self, X: np.ndarray, weights: np.ndarray) -> np.ndarray: ...


def scores_of(columns: Columns, X: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Scores of any number of rows, float64 `(rows, scores)`, one block of rows after the other."""
    starts = range(0, max(len(X), 1), PREDICT_ROWS)
    return np.concatenate([columns.scores(X[start : start + PREDICT_ROWS], weights) for start in starts])


class Loss(Protocol):
    """Where to start, float64 `(scores,)`, and the gradient; see `links.Link`."""

    start: np.ndarray

    def gradient(self, y: np.ndarray, scores: np.ndarray) -> np.ndarray: ...


# Predictions from scores, float64 `(rows, scores)`, of rows with these targets and weights: what is scored
Answers = Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]


class Adam:
    """Weights float32 `(columns + 1, scores)`, the last row the intercept, and their moments."""

    def __init__(self, weights: np.ndarray, l1: float, l2: float) -> None:
        self.weights = weights
        self._l1, self._l2 = np.float32(l1), np.float32(l2)
        self._mean = np.zeros_like(weights)
        self._square = np.zeros_like(weights)
        self._steps = 0

    def state(self) -> dict[str, np.ndarray]:
        """Copies of all that the next step depends on."""
        return {
            "weights": self.weights.copy(), "mean": self._mean.copy(), "square": self._square.copy(),
            "steps": np.array(self._steps),
        }  # fmt: skip

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go back to a `state`."""
        self.weights, self._mean, self._square = (state[name].copy() for name in ("weights", "mean", "square"))
        self._steps = int(state["steps"])

    def begin(self, weights: np.ndarray) -> None:
        """Go on from other weights, as if there had been no step before."""
        self.weights[:] = weights
        self._mean[:], self._square[:], self._steps = 0, 0, 0

    def step(self, gradient: np.ndarray, rate: float) -> None:
        self._steps += 1
        self._mean += np.float32(1 - _BETA1) * (gradient - self._mean)
        self._square += np.float32(1 - _BETA2) * (gradient * gradient - self._square)
        root = np.sqrt(self._square * np.float32(1 / (1 - _BETA2**self._steps)))
        step = np.float32(rate) / (root + np.float32(_EPS))
        self.weights -= step * self._mean * np.float32(1 / (1 - _BETA1**self._steps))
        penalised, step = self.weights[:-1], step[:-1]
        if self._l1 > 0:
            penalised[:] = np.sign(penalised) * np.maximum(np.abs(penalised) - step * self._l1, 0)
        if self._l2 > 0:
            penalised /= 1 + step * self._l2


class Descent:
    """One fit; `best` holds the weights float64 of the best round so far."""

    def __init__(
        self, settings: Settings, design: Columns, loss: Loss, scale: TargetScale, mean_weight: float,
        *, answers: Answers, begins: Beginning,
    ) -> None:  # fmt: skip
        self._settings, self._answers, self._begins = settings, answers, begins
        self._design = design
        self._loss = loss
        self._scale = scale
        self._mean_weight = mean_weight
        start = np.zeros((design.width + 1, len(loss.start)), np.float32)
        start[-1] = loss.start
        self._adam = Adam(start.copy(), settings.l1, settings.l2)
        self._start = self.best = start.astype(np.float64)

    def run(self, train: Rows, valid: Rows | None, run: FitRun, target: Target) -> None:
        with threadpool_limits(limits=1, user_api="blas"):  # sums of threaded products depend on their number
            self._slices = Slices(run.slices, run.member, run.saw)
            score = None if valid is None else Scorer(self._design, self._answers, valid, target, self._slices)
            self._guard = Guard(0.0, 0.0) if score is None else score.guard(self._begins)
            self._run(train, score, run)
        if run.checkpoint is not None and run.leads:
            remove_folder(run.checkpoint)

    def _run(self, train: Rows, score: "Scorer | None", run: FitRun) -> None:
        progress = self._resumed(run)
        for anomaly in progress.noticed:
            run.notice(Anomaly.from_json(anomaly))
        for number, loss in enumerate(progress.losses, start=1):
            if not run.report(number, loss):
                return
        if progress.waited >= self._settings.patience:
            return
        for weights in self._rounds(train, run, progress):
            if score is None:
                self.best = progress.best = weights
                going = run.all_go_on()
            else:
                going = self._scored(progress, weights, score(weights), run)
            if not going:
                return
            if run.checkpoint is not None and run.leads and self._is_due():
                progress.adam = self._adam.state()
                write_progress(run.checkpoint, progress)

    def _scored(self, progress: Progress, weights: np.ndarray, loss: float, run: FitRun) -> bool:
        """Keep the best, and say whether to go on."""
        loss = loss if math.isfinite(loss) else math.inf
        if loss < min(progress.losses, default=math.inf):
            self.best = progress.best = weights
        progress.losses.append(loss)
        mended = self._mended(progress, run)
        going = run.report(len(progress.losses), loss)
        return going and mended and progress.waited < self._settings.patience

    def _mended(self, progress: Progress, run: FitRun) -> bool:
        """Where the loss diverges, go back to the best weights, with a lower learning rate; False at the end."""
        anomaly = self._guard.judge(progress.losses, progress.since)
        if anomaly is None:
            return True
        again = progress.lowered < LOWERED
        anomaly = self._guard.lowered(anomaly, self._settings.learning_rate, progress.lowered)
        if again:
            self._adam.begin(self.best if self._guard.is_better(min(progress.losses)) else self._start)
            progress.lowered, progress.since = progress.lowered + 1, len(progress.losses)
        progress.noticed.append(anomaly.to_json())
        run.notice(anomaly)
        return again

    def _resumed(self, run: FitRun) -> Progress:
        kept = None if run.checkpoint is None else read_progress(run.checkpoint)
        self._kept_s = time.monotonic()
        if kept is None:
            return Progress()
        self._adam.restore(kept.adam)
        if kept.best is not None:
            self.best = kept.best
        return kept

    def _is_due(self) -> bool:
        """Whether it is time to write a checkpoint; when it is written has no say in what is learned."""
        now = time.monotonic()
        due = now - self._kept_s >= KEEP_S
        self._kept_s = now if due else self._kept_s
        return due

    def _rounds(self, train: Rows, run: FitRun, progress: Progress) -> Iterator[np.ndarray]:
        """The averaged weights of each round, from where `progress` is; it is moved on."""
        epochs = self._settings.epochs or min(60, max(3, math.ceil(_VISITS / train.n_rows)))
        batch_rows = min(self._settings.batch_rows, max(16, train.n_rows // 100))
        total, round_rows = epochs * train.n_rows, min(train.n_rows, ROUND_ROWS)
        seen, rows, steps = progress.seen // train.n_rows * train.n_rows, 0, 0
        average = np.zeros(self._adam.weights.shape)
        for size, take in self._blocks(train, run, range(progress.seen // train.n_rows, epochs)):
            for start in range(0, size, batch_rows):
                stop = min(start + batch_rows, size)
                seen += stop - start
                if seen <= progress.seen:
                    continue  # learned before the checkpoint
                most = self._settings.learning_rate * LOWER**progress.lowered
                rate = most * 0.5 * (1 + math.cos(math.pi * min(progress.seen / total, 1.0)))
                self._adam.step(self._gradient(take, start, stop), rate)
                progress.seen, rows, steps = seen, rows + stop - start, steps + 1
                average += self._adam.weights
                if rows >= round_rows or seen == total:
                    yield average / steps
                    average[:], rows, steps = 0, 0, 0

    def _blocks(self, train: Rows, run: FitRun, epochs: range) -> "Iterator[tuple[int, _Take]]":
        """Rows of epochs, shuffled in each by a seed of its own: (how many, how to take some of them, prepared).

        The order is that of the streamed rows also where all are kept prepared: memory has no say in it.
        """
        fits = train.n_rows * self._design.row_bytes <= min(run.memory_bytes // MEMORY_SHARE, MEMORY_BYTES)
        widened = self._design.widened
        whole = _join([widened(block) for block in self._prepared(train, None)]) if fits else None
        for epoch in epochs:
            seed = derive_seed(run.seed, "epoch", epoch)
            if whole is None:
                for block in self._prepared(train, seed):
                    yield len(block), partial(_widened, self._design, block)
                continue
            for drawn in train.places(STREAM_ROWS, seed):
                yield len(drawn), partial(_taken, whole, drawn)

    def _prepared(self, rows: Rows, seed: int | None) -> Iterator[Block]:
        for chunk in rows.batches(STREAM_ROWS, seed):
            yield self._design.prepare(chunk, self._scale.apply(chunk.y), self._mean_weight)

    def _gradient(self, take: "_Take", start: int, stop: int) -> np.ndarray:
        """Of the batch that has these rows of a block."""
        return self._slices.sum(lambda _, rows: self._of_rows(take(rows), stop - start), start, stop)

    def _of_rows(self, rows: Block, batch_rows: int) -> np.ndarray:
        """What some rows add to the gradient of a batch."""
        by_score = self._loss.gradient(rows.y, raw_scores(rows, self._adam.weights, self._design.numbers))
        if rows.weight is not None:
            by_score = by_score * rows.weight[:, None]
        by_score = by_score / np.float32(batch_rows)
        gradient = np.zeros_like(self._adam.weights)
        gradient[: self._design.numbers] = rows.numbers.T @ by_score
        if rows.slots.shape[1]:
            _scatter(gradient, rows.slots, by_score)
        gradient[-1] = by_score.sum(axis=0)
        return gradient


_Take = Callable[[slice], Block]


def _widened(columns: Columns, block: Block, rows: slice) -> Block:
    """Of several members each makes the columns of its own rows alone."""
    return columns.widened(block.take(rows))


def _taken(whole: Block, order: np.ndarray, rows: slice) -> Block:
    return whole.take(order[rows])


class Scorer:
    """The task's loss on (a fixed, evenly spaced part of) the validation rows."""

    def __init__(self, design: Columns, answers: Answers, valid: Rows, target: Target, slices: Slices) -> None:
        self._design, self._answers, self._valid, self._target = design, answers, valid, target
        self._slices = slices
        self._stride = -(-valid.n_rows // SCORED_ROWS)
        self._y = np.concatenate([chunk.y[:: self._stride] for chunk in valid.chunks()])
        weight = valid.weight()
        self._weight = None
        if weight is not None:
            self._weight = np.concatenate(
                [chunk.weight[:: self._stride] for chunk in valid.chunks() if chunk.weight is not None]
            )

    def guard(self, begins: Beginning) -> Guard:
        return Guard.of(self._target, self._y, self._weight, begins=begins)

    def __call__(self, weights: np.ndarray) -> float:
        parts = self._slices.mapped(
            lambda chunk: self._design.scores(chunk.X[:: self._stride], weights), self._valid.chunks()
        )
        prediction = self._answers(np.concatenate(parts), self._y, self._weight)
        return task_loss(self._target, self._y, prediction, self._weight)


def raw_scores(batch: Block, weights: np.ndarray, numbers: int) -> np.ndarray:
    """Float32 `(rows, scores)`."""
    scores = batch.numbers @ weights[:numbers] + weights[-1]
    for slots in batch.slots.T:
        scores += weights[slots]
    return np.asarray(scores)


def _scatter(gradient: np.ndarray, slots: np.ndarray, by_score: np.ndarray) -> None:
    """Add each row's gradient to the weights of its categories."""
    for k in range(gradient.shape[1]):
        repeated = np.repeat(by_score[:, k], slots.shape[1])
        gradient[:, k] += np.bincount(slots.ravel(), weights=repeated, minlength=len(gradient))


def _join(blocks: list[Block]) -> Block:
    weights = [block.weight for block in blocks if block.weight is not None]
    return Block(
        np.concatenate([block.numbers for block in blocks]),
        np.concatenate([block.slots for block in blocks]),
        np.concatenate([block.y for block in blocks]),
        np.concatenate(weights) if weights else None,
    )
