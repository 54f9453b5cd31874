"""The target: which column, which task, which classes; labels to numbers and back."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.errors import TargetError

Label = str | int | float | bool


class Task(StrEnum):
    """What is learned: two classes, several classes, a mean, a count (Poisson mean), or a quantile."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"
    COUNT = "count"
    QUANTILE = "quantile"

    @property
    def is_classification(self) -> bool:
        return self in (Task.BINARY, Task.MULTICLASS)


@dataclass(frozen=True, kw_only=True)
class Target:
    """Column, task and classes. `classes` are sorted; the class of index 1 is the positive one of a binary task.

    The label of a row is the class whose probability times its weight in `decision` is the greatest; without weights
    that of the greatest probability.
    """

    column: str
    task: Task
    classes: tuple[Label, ...] = ()
    quantile: float = 0.5
    decision: tuple[float, ...] = ()

    @property
    def outputs(self) -> int:
        """Columns of a prediction: the number of classes, or 1."""
        return len(self.classes) if self.task.is_classification else 1

    def encode(self, labels: pa.Array) -> np.ndarray:
        """Float64 `(rows,)`: class indices or numbers; NaN where the label is null, infinite or an unknown class."""
        if pa.types.is_dictionary(labels.type):
            codes = np.append(self.encode(labels.dictionary), np.nan)
            return np.asarray(codes[pc.fill_null(labels.indices, len(labels.dictionary)).to_numpy()])
        if not self.task.is_classification:
            numbers = np.array(
                pc.cast(labels, pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64
            )
            numbers[~np.isfinite(numbers)] = np.nan
            return numbers
        codes = pc.index_in(
            canonical(labels), value_set=pa.array([canonical_label(c) for c in self.classes], pa.string())
        )
        return np.array(pc.cast(codes, pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)

    def decode(self, codes: np.ndarray) -> pa.Array:
        """Class indices `(rows,)` to an Arrow array of labels in their own type."""
        if not self.task.is_classification:
            raise TargetError(f"a {self.task} target has no classes")
        return pa.array(list(self.classes)).take(pa.array(codes.astype(np.int64)))

    def asks_the_same(self, other: "Target") -> bool:
        """Whether both are the same column, task and classes, whatever is decided."""
        return replace(self, decision=()) == replace(other, decision=())

    def weighted(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities `(rows, classes)` times the weights of the decision: the greatest one names the label."""
        return scores * np.array(self.decision) if self.decision else scores

    def classes_of(self, scores: np.ndarray) -> np.ndarray:
        """Class indices `(rows,)` that are decided on; on a tie the first class.

        >>> target = Target(column="y", task=Task.BINARY, classes=("no", "yes"), decision=(0.25, 0.75))
        >>> target.classes_of(np.array([[0.7, 0.3], [0.8, 0.2]]))
        array([1, 0])
        """
        return np.asarray(self.weighted(scores).argmax(axis=-1))

    def to_json(self) -> dict[str, Any]:
        content = {
            "column": self.column,
            "task": self.task.value,
            "classes": list(self.classes),
            "quantile": self.quantile,
        }
        return {**content, "decision": list(self.decision)} if self.decision else content

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Target":
        return cls(
            column=fields["column"],
            task=Task(fields["task"]),
            classes=tuple(fields["classes"]),
            quantile=fields["quantile"],
            decision=tuple(fields.get("decision", ())),
        )


def canonical_label(label: Label) -> str:
    """The text under which a label or category is known, whatever its type: 3, 3.0 and "3" are the same.

    >>> canonical_label(3.0), canonical_label(True), canonical_label("a")
    ('3', 'true', 'a')
    """
    if isinstance(label, bool | np.bool_):
        return "true" if label else "false"
    if isinstance(label, float | np.floating) and float(label).is_integer():
        return str(int(label))
    return str(label)


def canonical(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Strings of any column under one spelling: integral floats lose `.0`, booleans are `true` and `false`.

    Nulls, NaN and infinities become null.

    >>> canonical(pa.array([1.0, None, 2.5])).to_pylist()
    ['1', None, '2.5']
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    kind = values.type
    if pa.types.is_dictionary(kind):
        return canonical(values.dictionary).take(values.indices)
    if pa.types.is_string(kind):
        return values
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = pc.cast(values, pa.float64())
        numbers = pc.if_else(pc.is_finite(numbers), numbers, None)
        whole = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), 2.0**53))
        as_integer = pc.cast(pc.cast(pc.if_else(whole, numbers, 0.0), pa.int64()), pa.string())
        return pc.if_else(whole, as_integer, pc.cast(numbers, pa.string()))
    return pc.cast(values, pa.string())
