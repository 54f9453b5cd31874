"""What is written of an answer: all classes, the likeliest few, or those that pass a threshold; in few bytes a number.

    as it is          `prediction`, `probability_<class>` ...
    top_k             `prediction`, then `top_1_label`, `top_1_probability`, `top_2_label` ...; on a tie the first class
    min_probability   a row for each class that reaches it: `label`, `probability`, the likeliest first, and no row
                      where none does. Of two classes the second one alone counts, as the other is its complement

Thresholds and ranks are decided on float64, before anything is rounded. As uint8 a probability is the nearest of 256
steps; the column's metadata tell how to read it (Arrow's and Parquet's field metadata): value = scale * (q -
zero_point), as in the affine quantisation of ONNX and TensorFlow Lite, off by half a scale at most.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest
from shardwise.serve.predictor import PREDICTION, Predictor

LABEL, PROBABILITY = "label", "probability"
STEPS = 255
SCALE = {"scale": repr(1 / STEPS), "zero_point": "0"}
MANY = 16  # classes from which sorting all of a row is faster than looking for the greatest again and again
Shaped = tuple[np.ndarray | None, list[pa.Array]]


@dataclass(frozen=True, kw_only=True)
class AnswerForm:
    """What is asked for. `confidence_level` adds intervals or sets (`stats.conformal`)."""

    top_k: int | None = None
    min_probability: float | None = None
    dtype: str = "float64"
    confidence_level: float | None = None

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k is {self.top_k}", hint="Give a whole number of at least 1.")
        if self.min_probability is not None and not 0 < self.min_probability <= 1:
            raise ConfigError(f"min_probability is {self.min_probability}", hint="Give a share above 0, at most 1.")
        if self.dtype not in DTYPES:
            raise ConfigError(f"there is no dtype {self.dtype!r}", hint=nearest(self.dtype, DTYPES))
        if self.confidence_level is not None and (self.top_k is not None or self.is_sparse):
            hint = "Leave it out, or --top-k and --min-probability."
            raise ConfigError("--confidence-level writes a column for each class", hint=hint)

    @property
    def is_sparse(self) -> bool:
        """Whether a row of the data may become any number of rows."""
        return self.min_probability is not None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Shaper:
    """Scores to the columns of `schema`. Raises `ConfigError` for a form that does not fit the package's task."""

    def __init__(self, predictor: Predictor, form: AnswerForm) -> None:
        self._predictor, self._form = predictor, form
        _check_task(predictor, form)
        ranked = [f"top_{place}_{LABEL}" for place in range(1, (form.top_k or 0) + 1)]
        self._labels = {PREDICTION, LABEL, *ranked} if predictor.target.task.is_classification else set()
        self.schema: pa.Schema = self._fields(self._plain(np.empty((0, predictor.target.outputs)))[1])

    def __call__(self, scores: np.ndarray) -> Shaped:
        """For scores `(rows, classes)` or `(rows,)`: the rows int64 that are written, None for each once; columns."""
        rows, plain = self._plain(scores)
        kind, numbers = DTYPES[self._form.dtype], self._numbers(plain)
        columns = zip(plain.schema.names, plain.columns, strict=True)
        return rows, [kind(column) if name in numbers else column for name, column in columns]

    def _plain(self, scores: np.ndarray) -> tuple[np.ndarray | None, pa.RecordBatch]:
        """As float64."""
        form, target = self._form, self._predictor.target
        if form.min_probability is not None:
            return self._sparse(scores, form.min_probability)
        if form.top_k is None:
            return None, self._predictor.answer_of(scores, form.confidence_level)
        codes = top_classes(scores, form.top_k)
        columns: dict[str, pa.Array] = {PREDICTION: target.decode(target.classes_of(scores))}
        for place, own in enumerate(codes.T, 1):
            columns[f"top_{place}_{LABEL}"] = target.decode(own)
            columns[f"top_{place}_{PROBABILITY}"] = pa.array(np.take_along_axis(scores, own[:, None], 1)[:, 0])
        return None, pa.RecordBatch.from_pydict(columns)

    def _sparse(self, scores: np.ndarray, least: float) -> tuple[np.ndarray, pa.RecordBatch]:
        target = self._predictor.target
        codes = np.ones((len(scores), 1), np.int64) if target.outputs == 2 else top_classes(scores, self._most)
        ranked = np.take_along_axis(scores, codes, 1)
        kept = ranked >= least
        rows = np.nonzero(kept)[0]
        columns = [target.decode(codes[kept]), pa.array(ranked[kept])]
        return rows, pa.RecordBatch.from_arrays(columns, names=[LABEL, PROBABILITY])

    @property
    def _most(self) -> int:
        """Classes of a row that can reach the threshold, as probabilities sum to 1; a little more for rounding."""
        form, classes = self._form, self._predictor.target.outputs
        reachable = int(1.001 / form.min_probability) if form.min_probability else classes
        return min(form.top_k or classes, classes, max(1, reachable))

    def _fields(self, plain: pa.RecordBatch) -> pa.Schema:
        kind, numbers = DTYPES[self._form.dtype], self._numbers(plain)
        metadata = SCALE if self._form.dtype == "uint8" else None
        return pa.schema([
            pa.field(field.name, kind(column).type, metadata=metadata) if field.name in numbers else field
            for field, column in zip(plain.schema, plain.columns, strict=True)
        ])  # fmt: skip

    def _numbers(self, plain: pa.RecordBatch) -> set[str]:
        """Columns of probabilities or predicted numbers; a label stays what it is."""
        return {field.name for field in plain.schema if pa.types.is_float64(field.type)} - self._labels


def top_classes(scores: np.ndarray, count: int) -> np.ndarray:
    """Int64 `(rows, count)`: the classes of the greatest scores, the greatest first; on a tie the first class."""
    if count > MANY or count * 4 > scores.shape[1]:
        return np.argsort(-scores, axis=1, kind="stable")[:, :count]
    left, found = scores.copy(), np.empty((len(scores), count), np.int64)
    for place in range(count):
        found[:, place] = left.argmax(axis=1)
        np.put_along_axis(left, found[:, place : place + 1], -np.inf, 1)
    return found


def _check_task(predictor: Predictor, form: AnswerForm) -> None:
    target = predictor.target
    if not target.task.is_classification:
        for name, given in (("--top-k", form.top_k), ("--min-probability", form.min_probability)):
            if given is not None:
                raise ConfigError(f"{name} is for classes, and the package predicts a number, {target.column!r}",
                                  hint="Leave it out.")  # fmt: skip
        if form.dtype in ("float16", "uint8"):
            hint = "Choose float32, which has 7 digits."
            raise ConfigError(f"{form.dtype} is for probabilities, and the package predicts numbers", hint=hint)
    elif form.top_k is not None and form.top_k > target.outputs:
        raise ConfigError(f"--top-k {form.top_k} is more than the {target.outputs} classes there are",
                          hint=f"Give at most {target.outputs}.")  # fmt: skip
    elif form.top_k is not None and form.is_sparse and target.outputs == 2:
        raise ConfigError("--top-k and --min-probability were given for two classes, of which one is written",
                          hint="Leave out --top-k.")  # fmt: skip


def _quantised(column: pa.Array) -> pa.Array:
    return pa.array(np.rint(column.to_numpy() * STEPS).astype(np.uint8))


def _as(kind: type[np.floating[Any]]) -> Callable[[pa.Array], pa.Array]:
    return lambda column: pa.array(column.to_numpy(zero_copy_only=False).astype(kind))


DTYPES: dict[str, Callable[[pa.Array], pa.Array]] = {
    "float64": lambda column: column,
    "float32": _as(np.float32),
    "float16": _as(np.float16),
    "uint8": _quantised,
}
"""Name -> what becomes of a float64 column."""


def check_sparse(form: AnswerForm, keep: Sequence[str]) -> None:
    """Raise `ConfigError` where nothing would tell which row of the data a row of the output is about."""
    if form.is_sparse and not keep:
        hint = "Carry an id along: --keep COLUMN."
        raise ConfigError("with --min-probability rows are left out, and nothing tells which they are", hint=hint)
