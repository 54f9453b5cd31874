"""Features of two columns, as trees find them hard: differences, ratios, products, two categories as one, a number
beside the mean of its category; and how often a category comes.

They are planned on a sample of the training rows, without the target, and read nothing but the row: the same for
training rows and new ones. Which of many are worth their column is measured by `train.engineering`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.errors import RejectColumn
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.state import State
from shardwise.features.category import Vocabulary, spelled
from shardwise.features.columns import ProfileOnly
from shardwise.features.numeric import describe, read_numbers

MOST_VALUES = 4096  # of a category
MOST_CROSSED = 254  # codes of two categories as one
LEAST_COUNT = 10  # rows of the sample with a value, or with a pair of them
_LARGEST = float(np.finfo(np.float32).max)
_GRID = np.linspace(0.0, 1.0, 401)
OPERATIONS: Mapping[str, tuple[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
    "minus": ("-", np.subtract), "over": ("/", np.divide), "times": ("*", np.multiply),
}  # fmt: skip


class Arithmetic(ProfileOnly):
    """One number from two: `minus`, `over` or `times`. Missing where one of them is, and where a number is divided by
    0."""

    def __init__(self, operation: str, feature: Feature, columns: Sequence[str]) -> None:
        self.reads: tuple[str, ...] = tuple(columns)
        self._operation, self._feature = operation, feature

    @classmethod
    def plan(cls, operation: str, columns: Sequence[str], sample: pa.Table) -> Self:
        """Raises `RejectColumn` where there is hardly a value."""
        values = _compute(operation, *(_numbers(sample, column) for column in columns))
        sign = OPERATIONS[operation][0]
        return cls(operation, _describe(f"{columns[0]} {sign} {columns[1]}", columns[0], values), columns)

    def output(self) -> Sequence[Feature]:
        return (self._feature,)

    def write(self, batch: pa.RecordBatch, out: np.ndarray) -> None:
        first, second = (read_numbers(batch.column(name), name) for name in self.reads)
        out[:, 0] = _compute(self._operation, first, second)

    def state(self) -> State:
        return {"operation": self._operation, "columns": list(self.reads), "feature": self._feature.to_json()}

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls(state["operation"], Feature.from_json(state["feature"]), state["columns"])


class Cross(ProfileOnly):
    """Two categories as one code: 1 is the most frequent pair of values, 0 a rare one; NaN where both are missing."""

    def __init__(self, columns: Sequence[str], vocabularies: Sequence[Vocabulary], pairs: np.ndarray) -> None:
        self.reads: tuple[str, ...] = tuple(columns)
        self._vocabularies, self._pairs = tuple(vocabularies), pairs
        sizes = [len(vocabulary) + 2 for vocabulary in vocabularies]  # the last two: NULL (-2) and UNSEEN (-1)
        self._codes = np.zeros(sizes, np.float32)
        self._codes[pairs[:, 0], pairs[:, 1]] = np.arange(1, len(pairs) + 1)
        self._codes[-2, -2] = np.nan

    @classmethod
    def plan(cls, columns: Sequence[str], sample: pa.Table) -> Self:
        """Raises `RejectColumn` where no pair is frequent."""
        vocabularies = [_vocabulary(sample, column) for column in columns]
        places = [v.lookup(_column(sample, c)) % (len(v) + 2) for v, c in zip(vocabularies, columns, strict=True)]
        width = len(vocabularies[1]) + 2
        numbers, counts = np.unique(places[0].astype(np.int64) * width + places[1], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        pairs = np.stack([numbers // width, numbers % width], axis=1)[order][counts[order] >= LEAST_COUNT]
        known = (pairs[:, 0] <= len(vocabularies[0])) & (pairs[:, 1] <= width - 2)  # not unseen
        known &= (pairs[:, 0] < len(vocabularies[0])) | (pairs[:, 1] < width - 2)
        if known.sum() < 2:
            raise RejectColumn("no two pairs of values are frequent")
        return cls(columns, vocabularies, pairs[known][:MOST_CROSSED])

    def output(self) -> Sequence[Feature]:
        name = " x ".join(self.reads)
        return (Feature(name=name, source=self.reads[0], kind=FeatureKind.CODE, cardinality=len(self._pairs) + 1),)

    def write(self, batch: pa.RecordBatch, out: np.ndarray) -> None:
        first, second = (v.lookup(batch.column(c)) for v, c in zip(self._vocabularies, self.reads, strict=True))
        out[:, 0] = self._codes[first, second]

    def state(self) -> State:
        return {
            "columns": list(self.reads), "values": [_listed(v) for v in self._vocabularies],
            "pairs": self._pairs.tolist(),
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: State) -> Self:
        pairs = np.array(state["pairs"], np.int64).reshape(-1, 2)
        return cls(state["columns"], [_restored(values) for values in state["values"]], pairs)


class ByCategory(ProfileOnly):
    """Numbers that a category has in the sample: how often it comes (`frequency`), or the mean of a number, which the
    row's own number is set beside (`beside`: the difference)."""

    def __init__(
        self, columns: Sequence[str], vocabulary: Vocabulary, values: Sequence[float], feature: Feature
    ) -> None:
        self.reads: tuple[str, ...] = tuple(columns)  # the category, and perhaps a number
        self._vocabulary, self._feature = vocabulary, feature
        self._values = np.array(values, np.float64)  # of the categories, of NULL, of UNSEEN

    @classmethod
    def plan(cls, columns: Sequence[str], sample: pa.Table) -> Self:
        """Raises `RejectColumn` where no value is frequent."""
        vocabulary = _vocabulary(sample, columns[0])
        places = vocabulary.lookup(_column(sample, columns[0])) % (len(vocabulary) + 2)
        counts = np.bincount(places, minlength=len(vocabulary) + 2).astype(np.float64)
        if len(columns) == 1:
            rare = min(1.0, float(counts[:-2].min()) / 2)
            values = np.log(np.where(counts > 0, counts, rare) / max(1, sample.num_rows))
            return cls(
                columns, vocabulary, values.tolist(), _describe(f"{columns[0]}:frequency", columns[0], values[places])
            )
        number = _numbers(sample, columns[1])
        seen = np.isfinite(number)
        if not seen.any():
            raise RejectColumn("it has no values")
        means = _means(places[seen], number[seen], len(counts))
        name = f"{columns[1]} beside its mean by {columns[0]}"
        return cls(columns, vocabulary, means.tolist(), _describe(name, columns[0], number - means[places]))

    def output(self) -> Sequence[Feature]:
        return (self._feature,)

    def write(self, batch: pa.RecordBatch, out: np.ndarray) -> None:
        values = self._values[self._vocabulary.lookup(batch.column(self.reads[0]))]
        if len(self.reads) > 1:
            values = _finite(read_numbers(batch.column(self.reads[1]), self.reads[1]) - values)
        out[:, 0] = values

    def state(self) -> State:
        return {
            "columns": list(self.reads), "values": _listed(self._vocabulary), "numbers": self._values.tolist(),
            "feature": self._feature.to_json(),
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: State) -> Self:
        feature = Feature.from_json(state["feature"])
        return cls(state["columns"], _restored(state["values"]), state["numbers"], feature)


def _compute(operation: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return _finite(OPERATIONS[operation][1](first, second))


def _finite(values: np.ndarray) -> np.ndarray:
    """What float32 can hold; NaN else."""
    return np.where(np.abs(values) <= _LARGEST, values, np.nan)


def _means(places: np.ndarray, numbers: np.ndarray, size: int) -> np.ndarray:
    """Mean of the numbers at each place, drawn to the mean of all by `LEAST_COUNT` rows."""
    sums, counts = np.bincount(places, numbers, size), np.bincount(places, minlength=size)
    return np.asarray((sums + LEAST_COUNT * numbers.mean()) / (counts + LEAST_COUNT))


def _describe(name: str, source: str, values: np.ndarray) -> Feature:
    known = values[np.isfinite(values)]
    if len(known) < LEAST_COUNT:
        raise RejectColumn("it has no values")
    std = float(known.std())
    return describe(name, source, np.quantile(known, _GRID), std if std > 0 and np.isfinite(std) else 1.0)


def _column(sample: pa.Table, column: str) -> pa.Array:
    return sample.column(column).combine_chunks()


def _numbers(sample: pa.Table, column: str) -> np.ndarray:
    return read_numbers(_column(sample, column), column)


def _vocabulary(sample: pa.Table, column: str) -> Vocabulary:
    """The frequent values of a column; raises `RejectColumn` when there are none."""
    array = _column(sample, column)
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    numeric = bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))
    if pa.types.is_dictionary(array.type):
        array = pc.cast(array, kind)
    counted = spelled(array, numeric=numeric).drop_null().value_counts()
    found = zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
    heavy = sorted((-count, value) for value, count in found if count >= LEAST_COUNT)[:MOST_VALUES]
    if not heavy:
        raise RejectColumn(f"no value is seen {LEAST_COUNT} times")
    return Vocabulary([value for _, value in heavy], numeric=numeric)


def _listed(vocabulary: Vocabulary) -> dict[str, Any]:
    return {"values": vocabulary.values.to_pylist(), "numeric": vocabulary.numeric}


def _restored(content: Mapping[str, Any]) -> Vocabulary:
    return Vocabulary(content["values"], numeric=content["numeric"])
