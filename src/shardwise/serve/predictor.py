"""One way from raw rows to an answer: for a row, a batch, a file, a request."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shardwise.compute.ceiling import cpu_quota
from shardwise.core.errors import BadInput, ConfigError, SchemaError, foreign
from shardwise.core.names import nearest_column
from shardwise.core.target import Target, canonical_label
from shardwise.features.row import RowEncoder
from shardwise.registry.answers import PREDICTION, PROBABILITY, answer_batch, bounds_batch, probability_names
from shardwise.registry.package import Package, load_package
from shardwise.serve.explain import Explanation, explain

__all__ = ["BATCH_ROWS", "MANY_ROWS", "PREDICTION", "PROBABILITY", "Predictor", "to_array"]

BATCH_ROWS = 65_536
_NOT_OF_THE_TYPE = (pa.ArrowException, ValueError, TypeError, OverflowError)  # what Arrow says of a value
_WHOLE = frozenset((int, type(None)))
MANY_ROWS = 64  # from here a batch is made of rows of Python values: docs/decisions/0017-online.md


class Predictor:
    """Answers with a loaded package. May be shared by threads; memory is bounded by batches of `BATCH_ROWS`."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self.columns: tuple[str, ...] = tuple(package.inputs.names)
        self.known = frozenset(self.columns)
        self._encode = RowEncoder(package.recipe, package.inputs, self.row_batch)
        self.labels: list[Any] = []  # of classes, in their own type
        if self.target.task.is_classification:
            self.labels = self.target.decode(np.arange(len(self.target.classes))).to_pylist()
        self.class_names = [canonical_label(label) for label in self.target.classes]
        self._names = probability_names(self.target)

    @classmethod
    def load(cls, folder: Path | str) -> "Predictor":
        """With the package in `folder`; raises `PackageError`."""
        return cls(load_package(folder))

    @property
    def target(self) -> Target:
        return self.package.target

    def predict(self, batch: pa.RecordBatch | pa.Table) -> np.ndarray:
        """Float64 probabilities `(rows, classes)`, else `(rows,)`; columns in any order, others are ignored.

        Raises `SchemaError` that names the columns that are missing.
        """
        self.check_columns(batch.schema)
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        pieces = table.select(self.columns).to_batches(max_chunksize=BATCH_ROWS)
        scores = [self.package.scores(piece) for piece in pieces if piece.num_rows]
        return np.concatenate(scores) if scores else self.package.scores(_no_rows(self.package.inputs))

    @contextmanager
    def sharing_cores(self, threads: int, cores: int | None = None) -> Iterator[None]:
        """While so many threads predict at the same time, each model takes its part of the `cores` for one prediction
        (None: of all)."""
        models: list[Any] = [member.model for member in self.package.members if hasattr(member.model, "threads")]
        before = [model.threads for model in models]
        for model in models:
            model.threads = max(1, (cores or cpu_quota()) // threads)
        try:
            yield
        finally:
            for model, count in zip(models, before, strict=True):
                model.threads = count

    def predict_interval(self, batch: pa.RecordBatch | pa.Table, *, confidence_level: float) -> np.ndarray:
        """Float64 `(rows, 2)`: low and high ends that hold the number with a chance of at least `confidence_level`.

        See `stats.conformal` for what is promised. Raises `ConfigError` for a level that cannot be, or for classes.
        """
        if self.labels:
            raise ConfigError("a model of classes has no intervals", hint="Ask for `predict_set`.")
        bounds = self.bounds_of(self.predict(batch), confidence_level)
        return np.column_stack([column.to_numpy(zero_copy_only=False) for column in bounds.columns])

    def predict_set(self, batch: pa.RecordBatch | pa.Table, *, confidence_level: float) -> np.ndarray:
        """Bool `(rows, classes)`: the set of classes that holds the row's own with a chance of `confidence_level`.

        A set may be empty. Raises `ConfigError` for a level that cannot be, or for numbers.
        """
        if not self.labels:
            raise ConfigError("a model of numbers has no sets", hint="Ask for `predict_interval`.")
        bounds = self.bounds_of(self.predict(batch), confidence_level)
        return np.column_stack([column.to_numpy(zero_copy_only=False) for column in bounds.columns])

    def answer(self, batch: pa.RecordBatch | pa.Table, *, confidence_level: float | None = None) -> pa.RecordBatch:
        """Columns `prediction` (a label in its own type, or a number) and, for classes, `probability_<class>`.

        With a `confidence_level` also `prediction_low` and `prediction_high`, or `in_set_<class>`.
        """
        return self.answer_of(self.predict(batch), confidence_level)

    def predict_one(self, row: Mapping[str, Any], *, confidence_level: float | None = None) -> dict[str, Any]:
        """The answer for one row of Python values; raises `SchemaError` for columns that are missing."""
        self.check_row(row)
        scores = self.row_scores(row)
        more = {} if confidence_level is None else self.bounds_of(scores[None, :], confidence_level).to_pylist()[0]
        if not self.labels:
            return {PREDICTION: float(scores[0]), **more}
        label = self.labels[int(self.target.classes_of(scores))]
        return {PREDICTION: label, **dict(zip(self._names, scores.tolist(), strict=True)), **more}

    def explain_one(self, row: Mapping[str, Any]) -> Explanation:
        """What each feature contributes to the answer for a row: to the number, the probability of the second of two
        classes, or of several that of the class which is predicted. Raises as `predict_one` does."""
        self.check_row(row)
        X = self._encoded(row, {})
        classes = len(self.labels)
        output = classes - 1 if classes <= 2 else int(self.target.classes_of(self.package.scores_of(X))[0])
        return explain(self.package, X, max(0, output))

    def answer_schema(self, confidence_level: float | None = None) -> pa.Schema:
        """Of what `answer` gives; raises `ConfigError` for a level that cannot be promised."""
        return self.answer_of(np.empty((0, self.target.outputs)), confidence_level).schema

    def bounds_of(self, scores: np.ndarray, confidence_level: float) -> pa.RecordBatch:
        """Intervals or sets for scores that were computed before, `(rows, outputs)` or `(rows,)`, as columns."""
        return bounds_batch(self.target, self.package.conformal, scores, confidence_level)

    def row_scores(self, row: Mapping[str, Any]) -> np.ndarray:
        """Float64 `(outputs,)` of a row that has all columns: the bits that `predict` gives of a batch with it."""
        return self.scores_of_rows([row]).reshape(-1)

    def scores_of_rows(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Float64 `(rows, outputs)` of one row or more, with all columns: the bits as one by one, sooner for many.

        Raises `SchemaError` for a value that cannot be read.
        """
        return self.computed(rows)

    def computed(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """As `scores_of_rows`, whatever is remembered."""
        scores = self._together(rows) if len(rows) >= MANY_ROWS else None
        if scores is None:
            each = [self._one(row, number if len(rows) > 1 else None) for number, row in enumerate(rows)]
            scores = each[0] if len(each) == 1 else np.concatenate(each)
        return scores.reshape(len(rows), self.target.outputs)

    def _one(self, row: Mapping[str, Any], number: int | None) -> np.ndarray:
        where = {} if number is None else {"row": number}
        return self.package.scores_of(self._encoded(row, where))

    def _encoded(self, row: Mapping[str, Any], where: Mapping[str, Any]) -> np.ndarray:
        try:
            return self._encode(row)
        except BadInput as error:
            error.context |= where
            raise
        except pa.ArrowException as error:  # Arrow refuses some values in its own words
            raise foreign(error, **where) from error

    def _together(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
        """None where only the rows one by one tell, or tell which of them cannot be read."""
        batch = self.rows_batch(rows)
        try:
            return None if batch is None else self.package.scores(batch)
        except (BadInput, pa.ArrowException):
            return None

    def no_scores(self) -> np.ndarray:
        """Float64 `(0, outputs)`."""
        return np.empty((0, self.target.outputs))

    def rows_batch(self, rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch | None:
        """Rows of Python values as one batch; None where a column holds what only a row alone tells."""
        try:
            arrays = [_cells([row[field.name] for row in rows], field.type) for field in self.package.inputs]
        except _NOT_OF_THE_TYPE:
            return None
        return pa.RecordBatch.from_arrays(arrays, names=list(self.columns))

    def row_batch(self, row: Mapping[str, Any]) -> pa.RecordBatch:
        """A row of Python values as a batch of the columns that the model reads."""
        arrays = [to_array(row[field.name], field) for field in self.package.inputs]
        return pa.RecordBatch.from_arrays(arrays, names=list(self.columns))

    def answer_of(self, scores: np.ndarray, confidence_level: float | None = None) -> pa.RecordBatch:
        """`answer` for scores that were computed before, `(rows, classes)` or `(rows,)`."""
        answer = answer_batch(self.target, scores)
        if confidence_level is None:
            return answer
        bounds = self.bounds_of(scores, confidence_level)
        names = [*answer.schema.names, *bounds.schema.names]
        return pa.RecordBatch.from_arrays([*answer.columns, *bounds.columns], names=names)

    def check_row(self, row: Mapping[str, Any]) -> None:
        """Raise `SchemaError` for columns that a row lacks."""
        if not self.known <= row.keys():
            self.check_columns(pa.schema([(name, pa.null()) for name in row]))

    def check_columns(self, schema: pa.Schema) -> None:
        counts = Counter(schema.names)
        missing = [name for name in self.columns if name not in counts]
        if missing:
            shown = ", ".join(map(repr, missing[:10])) + (" ..." if len(missing) > 10 else "")
            hint = nearest_column(missing[0], schema.names) if schema.names else "The data has no columns."
            raise SchemaError(f"the data lacks {len(missing)} column(s) that the model reads: {shown}", hint=hint)
        twice = sorted({name for name in self.columns if counts[name] > 1})
        if twice:
            raise SchemaError(f"the data has the column {twice[0]!r} more than once", hint="Rename one of them.")


def to_array(value: Any, field: pa.Field) -> pa.Array:
    """An array of one value in the type of the training data, or in its own: the recipe knows how to widen."""
    try:
        return _cells([value], field.type)
    except _NOT_OF_THE_TYPE:
        array = _own_type(value, field.name)
        return pa.nulls(1, field.type) if array.null_count else array


def _cells(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Values of Python as a column. NaN, NaT and NA, which rows out of pandas have, are missing where nothing else is
    not a number: a column of floats has NaN itself. Raises `ValueError` for 2.5 among integers, which Arrow would cut.
    """
    if pa.types.is_integer(kind) and not _WHOLE.issuperset(map(type, values)) and any(map(_has_fraction, values)):
        raise ValueError
    return pa.array(values, kind, from_pandas=not pa.types.is_floating(kind))


def _has_fraction(value: Any) -> bool:
    is_float = type(value) is float or isinstance(value, np.floating | Decimal)
    return is_float and value == value and not float(value).is_integer()


def _own_type(value: Any, name: str) -> pa.Array:
    shown = f"an integer of {value.bit_length()} bits" if _is_long(value) else repr(value)
    refused = SchemaError(
        f"{shown} is no value of a column", hint="Give a number, a text, a date or null.", column=name
    )
    try:
        plain = float(value) if _is_long(value) or isinstance(value, np.floating) else value
        array = pa.array([plain], from_pandas=True)
    except _NOT_OF_THE_TYPE as error:
        raise refused from error
    if pa.types.is_nested(array.type):
        raise refused
    return array


def _is_long(value: Any) -> bool:
    """An integer that int64 does not hold: it counts as a float, as readers of JSON have it."""
    return type(value) is int and not -(2**63) <= value < 2**63


def _no_rows(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], kind) for kind in schema.types], schema=schema)
