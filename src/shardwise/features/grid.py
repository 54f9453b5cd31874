"""Cells of grids: numeric columns that lie beside each other in an image or a sequence.

A cell is a `Number` that is never left out, also where it is constant (the corner of an image), and that is centred and
scaled like all cells of its channel: what a pixel means does not depend on where it is.
"""

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from shardwise.core.errors import ConfigError
from shardwise.core.grids import GridSpec
from shardwise.core.schema import Feature, FeatureKind
from shardwise.features.columns import ColumnProfile, TableProfile
from shardwise.features.numeric import LARGEST, Number

GROUPS = ("number", "boolean", "decimal", "null")


def plan_grids(specs: Sequence[GridSpec], columns: Sequence[str], profile: TableProfile) -> dict[str, Number]:
    """A step for each column that is a cell; raises `ConfigError` for grids that the columns do not fill."""
    steps: dict[str, Number] = {}
    for spec in specs:
        places = spec.cells(columns)
        for channel in range(spec.channels):
            cells = {name: place for name, place in places.items() if place[-1] == channel}
            twice = sorted(set(cells) & set(steps))
            if twice:
                raise ConfigError(f"column {twice[0]!r} is in two grids", hint="Name it in one of them.")
            steps |= dict(_channel(spec, cells, [profile.columns[name] for name in cells]))
    return steps


def check_kinds(columns: Collection[str], asked: Collection[str]) -> None:
    """Raise `ConfigError` for a cell that was given a kind as well."""
    both = sorted(set(columns) & set(asked))
    if both:
        raise ConfigError(f"column {both[0]!r} is a cell of a grid, and was given a kind", hint="Leave the kind out.")


def _channel(
    spec: GridSpec, places: dict[str, tuple[int, ...]], profiles: Sequence[ColumnProfile]
) -> Iterator[tuple[str, Number]]:
    for name, profile in zip(places, profiles, strict=True):
        if profile.group not in GROUPS:
            hint = "The cells of a grid are numbers."
            raise ConfigError(f"{spec.kind} {str(spec)!r}: column {name!r} holds {profile.type}", hint=hint)
    center, scale = _pooled(profiles)
    known = [(float(each.minimum), float(each.maximum)) for each in profiles if each.minimum is not None]
    low, high = (min(low for low, _ in known), max(high for _, high in known)) if known else (0.0, 0.0)
    low, high = np.clip([low, high], -LARGEST, LARGEST).tolist()
    scale_of_one = {"offset": 0.0, "unit": 1.0, "low": low, "high": high}
    for name, place in places.items():
        feature = Feature(
            name=name, source=name, kind=FeatureKind.NUMBER, fill=center, center=center, scale=scale, place=place
        )
        yield name, Number(name, {**scale_of_one, "features": [feature.to_json()]})


def _pooled(profiles: Sequence[ColumnProfile]) -> tuple[float, float]:
    """Mean and standard deviation of the cells of all columns together; 1 where they are all the same."""
    known = [each for each in profiles if each.count > each.nulls and np.isfinite(each.mean)]
    if not known:
        return 0.0, 1.0
    rows = np.array([each.count - each.nulls for each in known], dtype=np.float64)
    means = np.array([each.mean for each in known])
    spreads = np.array([each.std if np.isfinite(each.std) else 0.0 for each in known])
    center = float(np.average(means, weights=rows))
    scale = float(np.sqrt(np.average(spreads**2 + (means - center) ** 2, weights=rows)))
    return center, scale if scale > 0 and np.isfinite(scale) else 1.0
