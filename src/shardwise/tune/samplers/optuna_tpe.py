"""Optuna's tree-structured Parzen estimator (Bergstra et al. 2011) behind our interface; the extra `tune`."""

import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

from shardwise.core.errors import ConfigError
from shardwise.core.space import Choice, Dimension, Float, Space
from shardwise.tune.samplers.base import observed
from shardwise.tune.spaces import Cube
from shardwise.tune.trial import Trial

START = 8  # random trials before the first model


def require(name: str) -> None:
    """Raise `ConfigError` where a module of the extra is not installed."""
    if find_spec(name) is None:
        hint = "pip install 'shardwise[tune]', or choose --sampler rl, gp or random."
        raise ConfigError(f"this sampler needs {name}, which is not installed", hint=hint)


def extra(name: str) -> Any:
    """A module of the extra; raises `ConfigError` where it is not installed."""
    require(name)
    return import_module(name)


class TPESampler:
    """A study of Optuna is made from the history at each call, so that nothing is kept between two."""

    learns: ClassVar[bool] = True

    def suggest(self, space: Space, trials: Sequence[Trial], seed: int) -> dict[str, object]:
        optuna = extra("optuna")
        cube = Cube(space)
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what is experimental in Optuna
                study = _study(optuna, cube, trials, seed)
                asked = study.ask({name: _distribution(optuna, space[name]) for name in cube.names})
        finally:
            optuna.logging.set_verbosity(before)
        return cube.active({name: _value(space[name], asked.params[name]) for name in cube.names})


def _study(optuna: Any, cube: Cube, trials: Sequence[Trial], seed: int) -> Any:
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=START, multivariate=True, constant_liar=False)
    study = optuna.create_study(sampler=sampler)
    points, losses = observed(cube, trials)
    distributions = {name: _distribution(optuna, cube.space[name]) for name in cube.names}
    for point, loss in zip(points, losses, strict=True):
        at = {name: cube.space[name].at(float(place)) for name, place in zip(cube.names, point, strict=True)}
        params = {name: _given(cube.space[name], value) for name, value in at.items()}
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=float(loss)))
    return study


def _distribution(optuna: Any, dimension: Dimension) -> Any:
    kinds = optuna.distributions
    if isinstance(dimension, Choice):  # by their numbers: the values may be anything
        return kinds.CategoricalDistribution(list(range(len(dimension.distinct))))
    kind = kinds.FloatDistribution if isinstance(dimension, Float) else kinds.IntDistribution
    return kind(dimension.low, dimension.high, log=dimension.log)


def _given(dimension: Dimension, value: Any) -> Any:
    return dimension.distinct.index(value) if isinstance(dimension, Choice) else value


def _value(dimension: Dimension, drawn: Any) -> Any:
    if isinstance(dimension, Choice):
        return dimension.distinct[drawn]
    return dimension.at(dimension.place(drawn)) if isinstance(dimension, Float) else int(drawn)
