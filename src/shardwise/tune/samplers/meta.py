"""Meta-learning: what paid on similar data sets is tried first, and what is found here corrects it.

Each past task has a Gaussian process of its own over the losses (normal scores of their ranks) that were seen on it.
The prediction for a new task is their weighted mean (ranking-weighted ensembles, Feurer et al. 2018):

    w_t = exp(-|f - f_t|^2 / 2 h^2) (agreement_t - 1/2)_+^2        f: standardised meta-features

`agreement_t` is the share of pairs of trials here that task t orders the same way; before there are trials only the
meta-features count. What tasks that do not agree say counts less and less. A Gaussian process over what remains of the
trials here adds what the past does not tell; its expected improvement EI counts the more the more trials n there are.

What is tried first is not the best point of the mean: a few similar tasks would have all first trials around one point,
good there and perhaps bad here. Each past task counts with what a point would improve on it over all that was tried, so
that the next trial is for those to which the earlier ones were of no use (transfer acquisition, Wistuba et al. 2018):

    gain(x) = (1 - s) sum_t w_t max(0, min_tried f_t - f_t(x)) + s EI(x)       s = n / (n + PAST_TRIALS)

`f_t` is the mean of task t's process, 0 the median loss there; in the place of `min_tried` before there are trials.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from shardwise.core.space import Space
from shardwise.tune.archive import Archive, PastTask
from shardwise.tune.samplers.base import normal_scores, observed
from shardwise.tune.samplers.gaussian import GaussianProcess, candidates_around, expected_improvement, few_of
from shardwise.tune.samplers.policy import PolicySampler
from shardwise.tune.spaces import Cube
from shardwise.tune.trial import Trial

NEAREST = 0.5  # width h, in units of the median distance between the tasks
BEST_OF_TASK = 3  # params of each past task that are candidates here
PAIRS = 3  # trials from which the order of pairs counts
BELIEF = 4  # trials that the past is worth, before it has shown what it is worth here
PAST_TRIALS = 8  # from which on the process of this task counts as much as the tasks of the past
SPREAD = 0.6  # of the losses here against those of a past task, whose trials were random and not chosen


@dataclass(frozen=True)
class MetaSampler:
    """Of one model family. `features` are the meta-features of the task at hand."""

    learns: ClassVar[bool] = True
    archive: Archive = field(default_factory=Archive)
    features: Mapping[str, float] = field(default_factory=dict)

    def suggest(self, space: Space, trials: Sequence[Trial], seed: int) -> dict[str, object]:
        cube = Cube(space)
        if not self.archive.tasks or not cube.names:
            return PolicySampler().suggest(space, trials, seed)
        rng = np.random.default_rng(seed)
        points, losses = observed(cube, trials)
        with threadpool_limits(limits=1, user_api="blas"):
            models = self._models(cube)
            weights, belief = self._weights(models, points, losses)
            candidates = self._candidates(cube, points, losses, rng)
            gain = _transferred(models, weights, points, candidates)
            if len(points):
                kept = few_of(losses)
                mean, sd, best = _predicted(models, belief * weights, (points[kept], losses[kept]), candidates)
                own = len(points) / (len(points) + PAST_TRIALS)
                gain = (1.0 - own) * gain + own * expected_improvement(mean, sd, best)
        return cube.params(candidates[int(np.argmax(gain))])

    def expected(self, space: Space, params: Mapping[str, object]) -> float | None:
        """The share of random params on similar tasks that are better, in [0, 1]; None where there are none of these.

        By the past alone: what this search has found is not looked at.
        """
        cube = Cube(space)
        if not self.archive.tasks or not cube.names:
            return None
        points = [cube.point(params)[None, :], np.random.default_rng(0).random((256, len(cube.names)))]
        with threadpool_limits(limits=1, user_api="blas"):
            models = self._models(cube)
            weights, _ = self._weights(models, np.zeros((0, len(cube.names))), np.zeros(0))
            mine, anywhere = (_mean(models, weights, each) for each in points)
        return float(np.mean(anywhere < mine[0]))

    @cached_property
    def _kept(self) -> dict[tuple[str, ...], list[GaussianProcess]]:
        return {}

    def _models(self, cube: Cube) -> list[GaussianProcess]:
        """A process for each task, fitted once for a space: a function of the archive, kept as it is asked often."""
        if cube.names not in self._kept:
            self._kept[cube.names] = [_model(cube, task) for task in self.archive.tasks]
        return self._kept[cube.names]

    def _weights(
        self, models: Sequence[GaussianProcess], points: np.ndarray, losses: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """Of the tasks `(tasks,)`, with the sum 1, and how far they are believed, in [0, 1]."""
        belief = 1.0
        weights = similarity(self.features, [task.features for task in self.archive.tasks])
        if len(points) >= PAIRS and np.ptp(losses) > 0:
            agreement = np.array([_agreement(model.mean(points), losses) for model in models])
            trust = np.maximum(agreement - 0.5, 0.02) ** 2
            weights = weights ** (PAIRS / len(points)) * trust
            shown = max(0.0, 2.0 * float(weights @ agreement / weights.sum()) - 1.0)
            belief = (BELIEF + len(points) * shown) / (BELIEF + len(points))
        return np.asarray(weights / weights.sum()), belief

    def _candidates(self, cube: Cube, points: np.ndarray, losses: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The best params of past tasks, the default, random points, and points near the best ones here."""
        proven = [cube.point({})]
        for task in self.archive.tasks:
            order = np.argsort([trial["loss"] for trial in task.trials], kind="stable")[:BEST_OF_TASK]
            proven += [cube.point(task.trials[i]["params"]) for i in order]
        best = points[np.argsort(losses, kind="stable")[:3]] if len(points) else np.array(proven)
        return np.concatenate([np.array(proven), candidates_around(cube, best, rng)])


def similarity(features: Mapping[str, float], others: Sequence[Mapping[str, float]]) -> np.ndarray:
    """Weights `(tasks,)` in (0, 1] by the distance of meta-features; one that is missing on a side does not count."""
    names = sorted({name for other in others for name in other} & set(features))
    if not names:
        return np.ones(len(others))
    table = np.array([[other.get(name, np.nan) for name in names] for other in others])
    spread = np.nanstd(table, axis=0)
    scaled = (table - np.array([features[name] for name in names])) / np.where(spread > 0, spread, 1.0)
    squared = np.nanmean(scaled**2, axis=1)
    squared = np.where(np.isfinite(squared), squared, np.nanmax(squared, initial=1.0))
    width = NEAREST**2 * max(float(np.median(squared)), 1e-9)
    return np.asarray(np.exp(-0.5 * (squared - squared.min()) / width))


def _model(cube: Cube, task: PastTask) -> GaussianProcess:
    losses = np.array([trial["loss"] for trial in task.trials], float)
    kept = few_of(losses)
    points = np.array([cube.point(task.trials[place]["params"]) for place in kept])
    return GaussianProcess.fit(points, normal_scores(losses[kept]))


def _agreement(predicted: np.ndarray, losses: np.ndarray) -> float:
    """Share of the pairs with different losses that are in the same order."""
    i, j = np.triu_indices(len(losses), 1)
    differ = losses[i] != losses[j]
    same = (predicted[i] < predicted[j]) == (losses[i] < losses[j])
    return float(same[differ].mean()) if differ.any() else 0.5


def _transferred(
    models: Sequence[GaussianProcess], weights: np.ndarray, tried: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """What the points would improve on past tasks, over what was tried, `(points,)`."""
    gain = np.zeros(len(points))
    for model, weight in zip(models, weights, strict=True):
        reached = float(model.mean(tried).min()) if len(tried) else 0.0
        gain += weight * np.maximum(0.0, reached - model.mean(points))
    return gain


def _mean(models: Sequence[GaussianProcess], weights: np.ndarray, points: np.ndarray) -> np.ndarray:
    used = [(model, weight) for model, weight in zip(models, weights, strict=True) if weight > 1e-4]
    return np.asarray(sum(weight * model.mean(points) for model, weight in used))


def _predicted(
    models: Sequence[GaussianProcess], weights: np.ndarray, seen: tuple[np.ndarray, np.ndarray], points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """(mean, standard deviation) at the points, and the lowest mean at what was `seen`: points and losses."""
    prior = _mean(models, weights, points)
    tried, losses = seen
    before = _mean(models, weights, tried)
    spread = 1.0 - (1.0 - SPREAD) * min(1.0, float(weights.sum()))
    values = spread * normal_scores(losses) + before.mean()
    rest = GaussianProcess.fit(tried, values - before)
    mean, sd = rest.predict(points)
    return prior + mean, spread * sd, float((before + rest.mean(tried)).min())
