"""From what is asked of aggregates, and the profile, to transformers: what cannot be is refused here."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from shardwise.core.aggregates import AggregateSpec
from shardwise.core.errors import ConfigError, SchemaError, context
from shardwise.core.names import nearest
from shardwise.core.target import Target, Task
from shardwise.core.units import parse_duration
from shardwise.features.aggregate import Aggregate, steps_of
from shardwise.features.base import TEST
from shardwise.features.cells import NEEDS, SECOND, Reading
from shardwise.features.columns import ColumnProfile, RecipeConfig, TableProfile, is_duration
from shardwise.features.target_sums import Visibility

_LEAST_CELLS = 1 << 10
_EXACT = 1e12  # a numeric time below is told to the millionth, beyond to 1


def plan_aggregates(
    schema: pa.Schema,
    profile: TableProfile,
    target: Target,
    config: RecipeConfig,
    visible: Mapping[int, Sequence[int]],
) -> list[tuple[str, Aggregate]]:
    """Steps of a recipe; raises `SchemaError` for unknown columns and `ConfigError` for what their types refuse."""
    timed = sum(spec.time is not None for spec in config.aggregates)  # the others have a cell for each key and fold
    share = config.aggregate_cells // max(1, timed)
    steps = []
    for spec in config.aggregates:
        with context(aggregate=str(spec)):
            check_columns(spec, schema.names, target.column)
            plan = _plan(spec, profile, target, config.date_formats)
            plan |= _sight(visible, own_fold=config.own_fold and spec.time is not None)
            cells = max(_LEAST_CELLS, share) if spec.time else config.aggregate_keys * len(plan["visible"])
            plan |= {"most_cells": cells, "most_keys": config.aggregate_keys}
            steps.append(("aggregate", Aggregate(plan)))
    return steps


def check_columns(spec: AggregateSpec, names: Sequence[str], target: str) -> None:
    """All columns must be there, and what a new row is looked up by must not be the target."""
    for name in spec.columns:
        if name not in names:
            raise SchemaError(f"the data has no column {name!r} to aggregate", hint=nearest(name, names))
    if target in (*spec.key, spec.time):
        raise ConfigError(f"{target!r} is the target: new rows do not have it", hint="Name another key or time.")


def _plan(spec: AggregateSpec, profile: TableProfile, target: Target, formats: Mapping[str, str]) -> dict[str, Any]:
    time = None if spec.time is None else profile.columns[spec.time]
    scale, form = (0, None) if time is None else _clock(str(spec.time), time)
    form = form or formats.get(str(spec.time))
    per_second = scale or SECOND
    window, lag = (_span(text, scale, per_second) for text in (spec.window, spec.lag))
    _check_values(spec, profile, target)
    keys = tuple((name, _key_kind(name, profile.columns[name])) for name in spec.key)
    stats = sorted({stat for function in spec.functions for stat in NEEDS[function]})
    return {
        "spec": spec.to_json(),
        "reading": Reading(keys=keys, time=spec.time, format=form, scale=scale).to_json(),
        "column": spec.column,
        "of_target": spec.column == target.column,
        "stats": stats,
        "steps": steps_of(scale, window) if spec.time else [1],
        "window": window,
        "lag": lag or 0,
    }


def _sight(visible: Mapping[int, Sequence[int]], *, own_fold: bool) -> dict[str, Any]:
    """Which folds rows may see; `ordered` says that folds follow each other in time."""
    known = Visibility(visible)
    training = {seen for fold, folds in visible.items() if fold != TEST for seen in folds}
    ordered = len(known.folds) > 1 and all(g < f for f, folds in visible.items() if f != TEST for g in folds)
    own = sorted(fold for fold in visible if fold in training) if own_fold else []
    return {"visible": known.to_json(), "own": own, "ordered": ordered}


def _clock(name: str, column: ColumnProfile) -> tuple[int, str | None]:
    """Ticks of 1 for a numeric time (0: instants), and the format of text."""
    if column.group in ("date", "timestamp"):
        return 0, None
    if column.group == "string" and column.time_format:
        return 0, column.time_format
    if column.group in ("number", "decimal") and column.minimum is not None:
        largest = max(abs(float(column.minimum)), abs(float(column.maximum)))
        return (1_000_000 if largest < _EXACT else 1), None
    raise ConfigError(
        f"column {name!r} holds {column.type} and is no time", hint="Name a column of dates, timestamps or numbers."
    )


def _span(text: str | None, scale: int, ticks: int) -> int | None:
    """Ticks of a window or a lag."""
    if text is None:
        return None
    try:
        units = float(text)
    except ValueError:
        if scale:
            hint = "Give a number in the unit of the column."
            raise ConfigError(f"{text!r} is a duration, and the time column holds numbers", hint=hint) from None
        units = parse_duration(text)
    return max(1, round(units * ticks))


def _key_kind(name: str, column: ColumnProfile) -> str:
    if column.group in ("date", "timestamp"):
        return "instant"
    if column.group not in ("number", "decimal", "boolean", "string"):
        raise ConfigError(f"column {name!r} of type {column.type} cannot be a key", hint="Name another column.")
    return "number" if column.group in ("number", "decimal") else "text"


def _check_values(spec: AggregateSpec, profile: TableProfile, target: Target) -> None:
    """Functions but `count` need numbers."""
    numeric = [function for function in spec.functions if function != "count"]
    if spec.column is None or not numeric:
        return
    if spec.column == target.column and target.task.is_classification:
        if target.task is not Task.BINARY:
            raise ConfigError(
                f"{numeric[0]} of {spec.column!r}: it has {len(target.classes)} classes, which are no numbers",
                hint="Classes can be counted; the key as a category tells their shares.",
            )
        return
    column = profile.columns[spec.column]
    is_text = column.group == "string" and not column.is_numeric_text
    if is_text or (column.group not in ("number", "decimal", "boolean", "string") and not is_duration(column)):
        raise ConfigError(
            f"{numeric[0]} of column {spec.column!r}, which holds {column.type} and no numbers",
            hint="Text and dates can be counted: functions: [count].",
        )
