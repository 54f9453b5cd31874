from dataclasses import dataclass, field
from typing import Any

import pytest

from shardwise.core.errors import TargetError
from shardwise.core.target import Task
from shardwise.train.targets import infer_target


@dataclass
class Column:
    """What a profile would say of a column with these values."""

    group: str
    top: list[tuple[str, int]]
    type: Any = "int64"
    nulls: int = 0
    top_exact: bool = True
    minimum: Any = 0
    count: int = field(init=False)
    distinct: float = field(init=False)

    def __post_init__(self) -> None:
        self.count = sum(count for _, count in self.top) + self.nulls
        self.distinct = float(len(self.top))


def numbers(*counts: int, start: int = 0, **more: Any) -> Column:
    return Column("number", [(str(start + i), count) for i, count in enumerate(counts)], **more)


@pytest.mark.parametrize(
    ("column", "task"),
    [
        (Column("boolean", [("false", 9), ("true", 1)], "bool"), Task.BINARY),
        (Column("string", [("no", 9), ("yes", 1)], "string"), Task.BINARY),
        (Column("string", [("a", 9), ("b", 1), ("c", 1)], "string"), Task.MULTICLASS),
        (numbers(90, 10), Task.BINARY),
        (numbers(5, 50, 20, start=1), Task.MULTICLASS),
        (numbers(900, 80, 15, 3, 1), Task.COUNT),
        (numbers(*[10] * 100), Task.REGRESSION),
        (Column("number", [("1.5", 4), ("2.5", 4), ("3.5", 2)], "double"), Task.REGRESSION),
        (Column("number", [("1", 4), ("2", 4)], "double", top_exact=False), Task.REGRESSION),
    ],
)
def test_the_task_is_told_by_the_values(column: Column, task: Task) -> None:
    assert infer_target("y", column).task is task


def test_classes_are_sorted_and_of_the_columns_type() -> None:
    assert infer_target("y", numbers(5, 50, 20, start=9)).classes == (9, 10, 11)
    assert infer_target("y", Column("boolean", [("true", 9), ("false", 1)], "bool")).classes == (False, True)
    assert infer_target("y", Column("string", [("b", 9), ("a", 1)], "string")).classes == ("a", "b")


@pytest.mark.parametrize(
    ("column", "task", "word"),
    [
        (Column("number", [], nulls=5), None, "all 5 rows are null"),
        (Column("string", [("a", 5)], "string"), None, "one value only: 'a'"),
        (Column("timestamp", [("2020", 5), ("2021", 1)], "timestamp[us]"), None, "days"),
        (Column("string", [("a", 5), ("b", 1)], "string", top_exact=False), None, "too long to be classes"),
        (Column("string", [(f"{n}", 1) for n in range(900)], "string", top_exact=False), None, "classes are the limit"),
        (Column("string", [("a", 5), ("b", 1)], "string"), "regression", "needs numbers"),
        (numbers(1, 1, 1, minimum=-1), "count", "negative"),
        (numbers(1, 1, 1), "binary", "3 classes"),
    ],
)
def test_what_cannot_be_learned_is_said(column: Column, task: str | None, word: str) -> None:
    with pytest.raises(TargetError, match=word):
        infer_target("y", column, task=task)


def test_a_given_task_wins() -> None:
    assert infer_target("y", numbers(5, 50, 20), task="regression").task is Task.REGRESSION
    assert infer_target("y", numbers(*[10] * 100), task="multiclass").outputs == 100
