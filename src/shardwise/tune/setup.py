"""A study from a config: samplers, pruner, the spaces as the user narrowed them, and how far steps may overlap."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from shardwise.core.candidate import Candidate
from shardwise.core.config import RunConfig
from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest
from shardwise.core.space import Choice, Dimension, Space
from shardwise.models.families import check_params
from shardwise.models.portfolio import check_families, require_families
from shardwise.models.rungs import CHANGES, IN_LEGS
from shardwise.models.spaces import SPACES, spaces_for
from shardwise.tune.archive import Archive
from shardwise.tune.pruners import make_pruner
from shardwise.tune.samplers import make_sampler
from shardwise.tune.spaces import Cube, narrowed
from shardwise.tune.study import Study

UNITS_UNDER_WAY = 8  # fits that may be under way before one of them is waited for
SEARCHED = ("trees",)  # families that are searched when none are named
POPULATION = "pbt"  # the sampler that trains its trials as a population
META = "meta"  # the sampler that learns from an archive
ARCHIVES = ("auto", "shipped", "none")  # those with a name; any other is a file
ALWAYS = "baseline"  # the family that is tried whichever are named


def check_search(config: RunConfig) -> None:
    """Raise `ConfigError` for an unknown family, param, sampler or pruner, a population of what cannot be one, options
    that have no effect together, or a space that cannot be meant, before a run is opened for them."""
    check_families([*config.families, *config.params])
    require_families(config.families)
    for family, held in config.params.items():
        check_params(family, held)
    make_sampler(config.sampler, per_second=config.per_second)
    make_pruner(config.pruner)
    if config.sampler == POPULATION:
        _check_population(config)
    _check_effect(config)
    _check_space(config)


def _check_effect(config: RunConfig) -> None:
    """Refuse what would be held, searched or read by nothing."""
    for family, held in config.params.items():
        named = ", ".join(config.families)
        if held and named and family not in (*config.families, ALWAYS):
            what = f"--param {family}.{next(iter(held))} holds a param of a family that --families {named} leaves out"
            raise ConfigError(what, hint=f"Give --families {','.join((*config.families, family))}, or no such param.")
        for name in held:
            if name in config.space.get(family, {}):
                what = f"--param {family}.{name}={held[name]} holds what --space {family}.{name} would search"
                raise ConfigError(what, hint="Give one of the two.")
    # a run of `meta` goes on with the archive that it began with, and reads the file only once
    archive = str(config.archive)
    if config.sampler != META and archive not in ARCHIVES and not Path(archive).is_file():
        raise ConfigError(f"no such file: --archive {archive}", hint=f"Allowed: {', '.join(ARCHIVES)}, or a file.")


def _check_space(config: RunConfig) -> None:
    """As far as that can be told without the data, which decide what a family's own space has."""
    asked = config.families or SEARCHED
    idle = [family for family in config.space if family in SPACES and family not in asked]
    if idle:
        raise ConfigError(
            f"a space of {idle[0]!r} is given, and no trial of that family is searched",
            hint=f"Give --families {','.join((*asked, idle[0]))}.",
        )
    for family, given in config.space.items():
        if family in SPACES:
            check_params(family, {}, names=given)  # before narrowing: of a param that is not there no range is known
    for family, space in narrowed(spaces_for(asked), config.space).items():
        known = {*SPACES[family], *space}
        for name, dimension in space.items():
            if dimension.when is not None and dimension.when[0] not in known:
                other = dimension.when[0]
                raise ConfigError(f"{family}.{name} counts when {other!r} is something", hint=nearest(other, known))
    for family, space in _searched(config, spaces_for(asked)).items():
        default = {**Cube(space).default(), **config.params.get(family, {})}
        check_params(family, default)


def _check_population(config: RunConfig) -> None:
    able = ", ".join(IN_LEGS)
    unable = [family for family in config.families or ("trees",) if family not in IN_LEGS]
    if unable:
        raise ConfigError(
            f"population-based training needs models that go on from a checkpoint with other params, which "
            f"{', '.join(unable)} do not",
            hint=f"Give --families with some of {able}, or another --sampler.",
        )
    if config.pruner != "none":
        raise ConfigError(
            f"population-based training gives no trial up, --pruner {config.pruner} would",
            hint="Leave --pruner out, or give another --sampler.",
        )


def make_study(
    config: RunConfig,
    portfolio: Sequence[Candidate],
    spaces: Mapping[str, Space],
    *,
    folds: int,
    rung_count: Callable[[str], int],
    archive: Archive,
    features: Mapping[str, float],
    idle: Collection[str] = (),
) -> Study:
    """Raises `ConfigError` for an unknown sampler or pruner, and for a space without a point.

    Params that are `idle` on these data are not searched, and those that are held (`config.params`) at one value.

    The lag depends on the number of folds alone, never on the number of workers, as it decides what is proposed.
    """
    searched = _searched(config, spaces, idle)
    limit = config.trials or (len(portfolio) if config.time is None else None)
    samplers = {
        family: make_sampler(
            config.sampler, per_second=config.per_second, archive=archive.of(family), features=features, changes=CHANGES
        )
        for family in searched
    }
    families = {*searched, *(candidate.family for candidate in portfolio)}
    return Study(
        portfolio, searched, config.seed, limit, samplers=samplers,
        pruner=make_pruner(config.pruner, config.rungs),
        rungs={family: rung_count(family) for family in families}, fixed=config.params,
        lag=max(1, math.ceil(UNITS_UNDER_WAY / folds) - 1),
    )  # fmt: skip


def _searched(config: RunConfig, spaces: Mapping[str, Space], idle: Collection[str] = ()) -> dict[str, Space]:
    """The spaces as the user narrowed them; without params that are `idle`, and of those that are held one value."""
    found = {
        family: {name: _held(name, space, config.params.get(family, {})) for name in space if name not in idle}
        for family, space in narrowed(spaces, config.space).items()
    }
    return {family: space for family, space in found.items() if space}


def _held(name: str, space: Space, held: Mapping[str, object]) -> Dimension:
    """The dimension, of one value where the param is held: conditions of others see it."""
    return Choice((held[name],), default=held[name], when=space[name].when) if name in held else space[name]
