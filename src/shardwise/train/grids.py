"""Which grids a run has: those that are asked for, and the image that columns are named like, where one is needed."""

from collections.abc import Sequence

from shardwise.core.config import RunConfig
from shardwise.core.errors import ConfigError
from shardwise.core.grids import EXAMPLES, GridSpec, find_image

NEEDS = {"cnn": "image", "rnn": "sequence"}


def asked_grids(config: RunConfig, names: Sequence[str]) -> tuple[GridSpec, ...]:
    """The grids over columns of these names; raises `ConfigError` where a family lacks the one that it is for."""
    grids = list(config.grids)
    columns = [name for name in names if name not in (config.target, *config.drop)]
    for family, kind in NEEDS.items():
        if family not in config.families or any(grid.kind == kind for grid in grids):
            continue
        found = find_image(columns) if kind == "image" else None
        if found is None:
            hint = f"Give --{kind} with the names and the sizes, such as {EXAMPLES[kind]!r}."
            raise ConfigError(f"{family} models need the columns of {_article(kind)}", hint=hint)
        grids.append(found)
    return tuple(grids)


def _article(kind: str) -> str:
    return f"an {kind}" if kind == "image" else f"a {kind}"
