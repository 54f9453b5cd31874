"""Which task a target column asks for, and which classes it has."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from shardwise.core.errors import TargetError
from shardwise.core.target import Label, Target, Task

MAX_CLASSES = 1000
COUNTED = 250  # values that a profile keeps of any column, unless they are very long
MAX_GUESSED_CLASSES = 30  # a whole-number target with more distinct values is taken for a quantity


class ColumnFacts(Protocol):
    """What the profile knows of the target column."""

    @property
    def group(self) -> str: ...

    @property
    def count(self) -> int: ...

    @property
    def nulls(self) -> int: ...

    @property
    def distinct(self) -> float: ...

    @property
    def minimum(self) -> Any: ...

    @property
    def top(self) -> Sequence[tuple[str, int]]: ...

    @property
    def top_exact(self) -> bool: ...

    @property
    def type(self) -> Any: ...


def infer_target(name: str, column: ColumnFacts, *, task: str | None = None, quantile: float = 0.5) -> Target:
    """The target with its task (given, or inferred from the values) and its classes.

    Raises `TargetError` when nothing can be learned: all null, one value, text or identifiers as classes, a task that
    does not fit the type.
    """
    _check_learnable(name, column)
    chosen = Task(task) if task else guess_task(column)
    if not chosen.is_classification:
        _check_numeric(name, column, chosen)
        return Target(column=name, task=chosen, quantile=quantile)
    classes = _classes(name, column)
    if chosen is Task.BINARY and len(classes) != 2:
        raise TargetError(
            f"target {name!r} has {len(classes)} classes, and a binary task has 2", hint="Give --task multiclass."
        )
    if chosen is Task.MULTICLASS and len(classes) == 2 and task is None:
        chosen = Task.BINARY
    return Target(column=name, task=chosen, classes=classes)


def guess_task(column: ColumnFacts) -> Task:
    """Binary for two values, multiclass for few, count for whole numbers that look Poisson; else regression."""
    if column.group in ("boolean", "string"):
        return Task.BINARY if column.distinct < 2.5 else Task.MULTICLASS
    if not column.top_exact or column.distinct > MAX_GUESSED_CLASSES:  # many values need not be spelled out
        return Task.REGRESSION
    values = [value for value, _ in column.top]
    if len(values) == 2:
        return Task.BINARY
    if not all(_is_whole(value) for value in values):
        return Task.REGRESSION
    return Task.COUNT if _looks_like_counts(column.top) else Task.MULTICLASS


def _looks_like_counts(top: Sequence[tuple[str, int]]) -> bool:
    """Whole numbers 0, 1, 2, ... without a gap at the start, each rarer than the one before."""
    pairs = sorted((int(value), count) for value, count in top)
    values = [value for value, _ in pairs]
    counts = np.array([count for _, count in pairs])
    return len(values) > 3 and values[:3] == [0, 1, 2] and bool((np.diff(counts[:4]) < 0).all())


def _check_learnable(name: str, column: ColumnFacts) -> None:
    known = column.count - column.nulls
    if known <= 0:
        raise TargetError(f"target {name!r} has no value: all {column.count} rows are null")
    if column.group in ("date", "timestamp", "time"):
        hint = "Turn it into a number first, such as the days until then."
        raise TargetError(f"target {name!r} is a {column.group}, which cannot be predicted", hint=hint)
    if column.top_exact and column.distinct == 1:
        value = column.top[0][0]
        raise TargetError(f"target {name!r} has one value only: {value!r} in all {known} labelled rows")


def _check_numeric(name: str, column: ColumnFacts, task: Task) -> None:
    if column.group not in ("number", "decimal", "boolean"):
        raise TargetError(f"target {name!r} is {column.type}, and {task} needs numbers", hint="Give --task multiclass.")
    if task is Task.COUNT and float(column.minimum) < 0:
        raise TargetError(f"target {name!r} has negative values, and counts have none", hint="Give --task regression.")


def _classes(name: str, column: ColumnFacts) -> tuple[Label, ...]:
    if column.group == "string" and not column.top_exact and column.distinct < COUNTED:
        raise TargetError(
            f"target {name!r} has about {int(column.distinct)} different values, which are too long to be classes",
            hint="Give them shorter names.",
        )
    if not column.top_exact or len(column.top) > MAX_CLASSES:
        raise TargetError(
            f"target {name!r} has about {int(column.distinct)} different values; {MAX_CLASSES} classes are the limit",
            hint="Is it an identifier or a text? For a number give --task regression.",
        )
    return tuple(sorted(_label(value, column) for value, _ in column.top))


def _label(text: str, column: ColumnFacts) -> Label:
    """A class label in the column's own type, from its canonical text."""
    if column.group == "boolean":
        return text == "true"
    if column.group in ("number", "decimal"):
        return int(text) if _is_whole(text) and "int" in str(column.type) else float(text)
    return text


def _is_whole(text: str) -> bool:
    return text.lstrip("-").isdigit()
