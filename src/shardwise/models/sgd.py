"""Proximal Adam over streamed minibatches, cosine decay, averaged weights, early stopping.

Notation: g gradient, m and v Adam's moments (Kingma & Ba 2015), s = rate / (sqrt(v) + eps) the step of one weight.
After the gradient step the penalty's proximal operator (Duchi & Singer 2009) is applied with the same step:
w <- sign(w) max(|w| - s l1, 0) / (1 + s l2), so that l1 gives exact zeros. Each round's weights are the average over
its steps (Polyak & Juditsky 1992), which takes the noise out of small batches.
"""

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from shardwise.core.seeds import derive_seed
from shardwise.core.target import Target
from shardwise.models.base import FitRun, Rows
from shardwise.models.design import Block, Design
from shardwise.models.links import Link, link
from shardwise.models.losses import task_loss
from shardwise.models.scaling import TargetScale

ROUND_ROWS = 2**20  # rows between two looks at the validation rows, at most
SCORED_ROWS = 2**18  # validation rows that are looked at, at most
STREAM_ROWS = 16_384  # rows prepared at once when the data do not fit in memory
MEMORY_SHARE = 4  # prepared rows are kept when they take at most a fourth of the memory ...
MEMORY_BYTES = 2**31  # ... and at most this
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


class Adam:
    """Weights float32 `(columns + 1, scores)`, the last row the intercept, and their moments."""

    def __init__(self, weights: np.ndarray, l1: float, l2: float) -> None:
        self.weights = weights
        self._l1, self._l2 = np.float32(l1), np.float32(l2)
        self._mean = np.zeros_like(weights)
        self._square = np.zeros_like(weights)
        self._steps = 0

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

    def __init__(self, settings: Settings, design: Design, loss: Link, scale: TargetScale, mean_weight: float) -> None:
        self._settings = settings
        self._design = design
        self._loss = loss
        self._scale = scale
        self._mean_weight = mean_weight
        start = np.zeros((design.width + 1, len(loss.start)), np.float32)
        start[-1] = loss.start
        self._adam = Adam(start, settings.l1, settings.l2)
        self.best = start.astype(np.float64)

    def run(self, train: Rows, valid: Rows | None, run: FitRun, target: Target) -> None:
        with threadpool_limits(limits=1, user_api="blas"):  # sums of threaded products depend on their number
            self._run(train, valid, run, target)

    def _run(self, train: Rows, valid: Rows | None, run: FitRun, target: Target) -> None:
        score = None if valid is None else Scorer(self._design, self._scale, valid, target)
        best, best_round = math.inf, 0
        for number, weights in enumerate(self._rounds(train, run), start=1):
            if score is None:
                self.best = weights
                continue
            loss = score(weights)
            if loss < best:
                self.best, best, best_round = weights, loss, number
            if not run.report(number, loss) or number - best_round >= self._settings.patience:
                return

    def _rounds(self, train: Rows, run: FitRun) -> Iterator[np.ndarray]:
        """The averaged weights of each round."""
        epochs = self._settings.epochs or min(60, max(3, math.ceil(_VISITS / train.n_rows)))
        batch_rows = min(self._settings.batch_rows, max(16, train.n_rows // 100))
        total, round_rows = epochs * train.n_rows, min(train.n_rows, ROUND_ROWS)
        seen, rows, steps = 0, 0, 0
        average = np.zeros(self._adam.weights.shape)
        for block in self._blocks(train, run, epochs):
            for start in range(0, len(block), batch_rows):
                batch = block.take(slice(start, start + batch_rows))
                rate = self._settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(seen / total, 1.0)))
                self._adam.step(self._gradient(batch), rate)
                seen, rows, steps = seen + len(batch), rows + len(batch), steps + 1
                average += self._adam.weights
                if rows >= round_rows or seen == total:
                    yield average / steps
                    average[:], rows, steps = 0, 0, 0

    def _blocks(self, train: Rows, run: FitRun, epochs: int) -> Iterator[Block]:
        """Prepared rows of all epochs, shuffled in each by a seed of its own."""
        fits = train.n_rows * self._design.row_bytes <= min(run.memory_bytes // MEMORY_SHARE, MEMORY_BYTES)
        whole = _join(list(self._prepared(train, None))) if fits else None
        for epoch in range(epochs):
            seed = derive_seed(run.seed, "epoch", epoch)
            if whole is None:
                yield from self._prepared(train, seed)
                continue
            order = np.random.default_rng(seed).permutation(len(whole))
            for start in range(0, len(order), STREAM_ROWS):
                yield whole.take(order[start : start + STREAM_ROWS])

    def _prepared(self, rows: Rows, seed: int | None) -> Iterator[Block]:
        for chunk in rows.batches(STREAM_ROWS, seed):
            yield self._design.prepare(chunk, self._scale.apply(chunk.y), self._mean_weight)

    def _gradient(self, batch: Block) -> np.ndarray:
        by_score = self._loss.gradient(batch.y, raw_scores(batch, self._adam.weights, self._design.numbers))
        if batch.weight is not None:
            by_score = by_score * batch.weight[:, None]
        by_score = by_score / np.float32(len(batch))
        gradient = np.zeros_like(self._adam.weights)
        gradient[: self._design.numbers] = batch.numbers.T @ by_score
        if batch.slots.shape[1]:
            _scatter(gradient, batch.slots, by_score)
        gradient[-1] = by_score.sum(axis=0)
        return gradient


class Scorer:
    """The task's loss on (a fixed, evenly spaced part of) the validation rows."""

    def __init__(self, design: Design, scale: TargetScale, valid: Rows, target: Target) -> None:
        self._design, self._scale, self._valid, self._target = design, scale, valid, target
        self._stride = -(-valid.n_rows // SCORED_ROWS)
        self._y = np.concatenate([chunk.y[:: self._stride] for chunk in valid.chunks()])
        weight = valid.weight()
        self._weight = None
        if weight is not None:
            self._weight = np.concatenate(
                [chunk.weight[:: self._stride] for chunk in valid.chunks() if chunk.weight is not None]
            )

    def __call__(self, weights: np.ndarray) -> float:
        parts = [self._design.scores(chunk.X[:: self._stride], weights) for chunk in self._valid.chunks()]
        prediction = self._scale.invert(link(self._target.task, np.concatenate(parts)))
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
