"""Samplers: history and seed in, params out; by name. Those that learn from the past get it when they are made."""

from collections.abc import Callable, Collection, Mapping

from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest
from shardwise.tune.archive import Archive
from shardwise.tune.samplers.base import Sampler
from shardwise.tune.samplers.evolution import CMASampler
from shardwise.tune.samplers.gaussian import GaussianSampler
from shardwise.tune.samplers.meta import MetaSampler
from shardwise.tune.samplers.optuna_tpe import TPESampler, require
from shardwise.tune.samplers.plain import GridSampler, RandomSampler, SobolSampler
from shardwise.tune.samplers.policy import PolicySampler
from shardwise.tune.samplers.population import PopulationSampler

__all__ = ["PER_SECOND", "SAMPLERS", "Sampler", "make_sampler"]

SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "random": RandomSampler,
    "grid": GridSampler,
    "sobol": SobolSampler,
    "tpe": TPESampler,
    "gp": GaussianSampler,
    "cma": CMASampler,
    "rl": PolicySampler,
    "meta": MetaSampler,
    "pbt": PopulationSampler,
}
NEEDS = {"tpe": "optuna", "cma": "cmaes"}  # a module of the extra `tune`
PER_SECOND = ("gp", "rl")  # those that can weigh improvement against seconds


def make_sampler(
    name: str,
    *,
    per_second: bool = False,
    archive: Archive | None = None,
    features: Mapping[str, float] | None = None,
    changes: Collection[str] = (),
) -> Sampler:
    """The sampler of a name for one model family; `archive` and `features` are for those that learn from the past,
    `changes` (params that may change while a model learns) for a population.

    Raises `ConfigError` for an unknown name, one whose extra is not installed, or one that cannot weigh seconds where
    that is asked for.
    """
    if name not in SAMPLERS:
        raise ConfigError(f"there is no sampler {name!r}", hint=nearest(name, SAMPLERS))
    if per_second and name not in PER_SECOND:
        hint = f"Allowed with --per-second: {', '.join(PER_SECOND)}."
        raise ConfigError(f"the sampler {name!r} does not weigh seconds", hint=hint)
    if name in NEEDS:
        require(NEEDS[name])
    if name == "gp":
        return GaussianSampler(per_second=per_second)
    if name == "rl":
        return PolicySampler(per_second=per_second)
    if name == "meta":
        return MetaSampler(archive=archive or Archive(), features=features or {})
    if name == "pbt":
        return PopulationSampler(changes)
    return SAMPLERS[name]()
