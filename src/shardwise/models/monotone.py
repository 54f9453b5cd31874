"""Monotone constraints of trees: LightGBM's `monotone_constraints` by the names of columns.

They hold for every split (LightGBM's method `basic`, the strictest), so that a mean of such models, and what calibrates
it, keep the order too. Other families hold none: see `core.monotone`.
"""

from collections.abc import Mapping, Sequence

from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.target import Target, Task

_WITHOUT = ("l1",)  # objectives that set the values of leaves anew, and constraints aside


def check(monotone: Mapping[str, int], objective: str | None, target: Target, features: Sequence[Feature]) -> None:
    """Raise `ConfigError` for a column that is no number among the features, a sign that is none, and for what cannot
    be constrained: several classes, quantiles, `objective="l1"`."""
    if not monotone:
        return
    wrong = [sign for sign in monotone.values() if sign not in (-1, 1)]
    if wrong:
        raise ConfigError(f"a monotone constraint is {wrong[0]!r}", hint="Give 1 or -1.")
    if target.task in (Task.MULTICLASS, Task.QUANTILE) or objective in _WITHOUT:
        what = f"a {target.task} target" if objective not in _WITHOUT else f"objective={objective!r}"
        raise ConfigError(f"monotone constraints do not go with {what}", hint="Leave one of them out.")
    numbers = [feature.source for feature in features if _is_number(feature)]
    for column in monotone:
        if column not in numbers:
            raise ConfigError(f"there is no feature of numbers {column!r} to constrain", hint=nearest(column, numbers))


def constraints(monotone: Mapping[str, int], features: Sequence[Feature]) -> list[int]:
    """LightGBM's list: a sign for each feature, 0 where it is free."""
    return [monotone.get(feature.source, 0) if _is_number(feature) else 0 for feature in features]


def _is_number(feature: Feature) -> bool:
    """The column itself; parts of a date and aggregates are numbers of other names."""
    return feature.kind is FeatureKind.NUMBER and feature.name == feature.source
