"""The covariance matrix adaptation evolution strategy (Hansen 2016), by the package `cmaes`; the extra `tune`."""

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from shardwise.core.seeds import derive_seed
from shardwise.core.space import Space
from shardwise.tune.samplers.base import normal_scores, observed
from shardwise.tune.samplers.optuna_tpe import extra
from shardwise.tune.spaces import Cube
from shardwise.tune.trial import Trial

SIGMA = 0.25  # of the first generation, in the unit cube
POPULATION = 6  # trials of a generation: fewer than the usual 4 + 3 ln d, as a study has tens of trials


class CMASampler:
    """Generations of the trials in their order are told to a strategy that is made anew at each call.

    The mean begins at the family's defaults. A generation counts once all of it is back.
    """

    learns: ClassVar[bool] = True

    def suggest(self, space: Space, trials: Sequence[Trial], seed: int) -> dict[str, object]:
        cmaes = extra("cmaes")
        cube = Cube(space)
        if not cube.names:
            return {}
        points, losses = observed(cube, trials)
        values = normal_scores(losses)
        whole = next((i for i, trial in enumerate(trials) if trial.pending), len(trials)) // POPULATION * POPULATION
        with threadpool_limits(limits=1, user_api="blas"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            strategy = _strategy(cmaes, cube, derive_seed(seed, "cma"))
            for start in range(0, whole, POPULATION):
                part = slice(start, start + POPULATION)
                strategy.tell([(_wide(p), float(v)) for p, v in zip(points[part], values[part], strict=True)])
            asked = np.asarray(strategy.ask())[: len(cube.names)]
        return cube.params(np.clip(asked, 0.0, 1.0))


def _strategy(cmaes: Any, cube: Cube, seed: int) -> Any:
    mean = np.clip(_wide(cube.point(cube.default())), 0.1, 0.9)
    bounds = np.tile([0.0, 1.0], (len(mean), 1))
    return cmaes.CMA(mean=mean, sigma=SIGMA, bounds=bounds, seed=seed, population_size=POPULATION)


def _wide(point: np.ndarray) -> np.ndarray:
    """The strategy needs two dimensions at least: a second one that means nothing."""
    return point if len(point) > 1 else np.append(point, 0.5)
