"""The scores of a package on new labelled data, with intervals and slices."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.errors import DataError, SchemaError, TargetError, context
from shardwise.core.events import Advanced, Events
from shardwise.core.names import nearest_column
from shardwise.core.target import Target, canonical
from shardwise.data.dataset import Dataset
from shardwise.serve.pieces import PredictOptions, as_trained, read_pieces, until_types_hold, working_on
from shardwise.serve.predictor import Predictor
from shardwise.stats.evaluation import Evaluation
from shardwise.store.looks import Looks

_EXAMPLES = 5
_NONE = pa.array([], pa.string())


@dataclass(frozen=True)
class _Scored:
    """What a batch brings to the evaluation."""

    y: np.ndarray
    prediction: np.ndarray
    weight: np.ndarray | None
    slices: dict[str, pa.Array]
    unknown: pa.Array  # labels that the model does not know


@dataclass
class _Tally:
    """Rows that were read, and those whose class the model does not know."""

    rows: int = 0
    unknown: int = 0
    labelled: int = 0
    examples: dict[str, None] = field(default_factory=dict)

    def add(self, scored: _Scored) -> None:
        self.rows += len(scored.y)
        self.unknown += len(scored.unknown)
        self.labelled += int(np.isfinite(scored.y).sum())
        if len(self.examples) < _EXAMPLES:
            self.examples.update(dict.fromkeys(scored.unknown.unique()[:_EXAMPLES].to_pylist()))

    def nothing_counts(self, target: Target) -> TargetError:
        if not self.examples:
            what = "has a label in" if not self.labelled else "has a label and a weight above 0: the labels are in"
            return TargetError(f"none of the {self.rows} rows {what} {target.column!r}")
        found = ", ".join(map(repr, list(self.examples)[:_EXAMPLES]))
        known = ", ".join(map(repr, target.classes[:_EXAMPLES])) + (" ..." if len(target.classes) > _EXAMPLES else "")
        message = f"the model knows none of the classes in {target.column!r}: {found}"
        return TargetError(message, hint=f"It was trained on {known}.")


def evaluate(
    predictor: Predictor,
    dataset: Dataset,
    *,
    metrics: Sequence[str] | None = None,
    weight: str | None = None,
    slices: Sequence[str] = (),
    group: str | None = None,
    seed: int = 0,
    bootstrap: int = 200,
    options: PredictOptions | None = None,
    events: Events | None = None,
    runs_folder: Path | None = None,
) -> dict[str, Any]:
    """`{"metrics": {name: {"value", "low", "high"}}, "rows", "groups", "skipped_rows", "unknown_rows", "slices",
    "looks"}`.

    `metrics` are names (None: all that fit the task, the default one first); `weight` is a column; intervals come from
    `bootstrap` resamples; `slices` are columns by whose values the first metric is split; rows with the same value of
    the column `group` depend on each other, which widens intervals (`groups` tells of them as `Evaluation.result`).
    `skipped_rows` have no label or no weight, `unknown_rows` a class that the model was not trained on; neither counts.
    Raises `TargetError` when the target is missing or no row counts, `SchemaError` for other columns that are missing.

    Where the `runs_folder` is there, it is noted in it that this data was looked at with this package, and intervals
    are widened by the number of different packages so far, `looks`.
    """
    kept = dict.fromkeys([*slices, *([] if group is None else [group])])
    job = _Job(predictor, weight, tuple(kept), options or PredictOptions(), events or Events())
    with context(stage="evaluate"):
        gathered, tally = until_types_hold(as_trained(dataset, predictor), job.run)
        if gathered.rows == 0:
            raise tally.nothing_counts(predictor.target)
        looks = 1
        if runs_folder is not None and runs_folder.is_dir():
            looks = Looks(runs_folder).count(_which(gathered), predictor.package.hash)
        parts = gathered.slices(metrics[0] if metrics else None, columns=slices, looks=looks, group=group)
        result = gathered.result(metrics, bootstrap=bootstrap, seed=seed, looks=looks, group=group)
    counts = {"skipped_rows": tally.rows - gathered.rows - tally.unknown, "unknown_rows": tally.unknown}
    return {**result, **counts, "slices": [part.to_json() for part in parts], "looks": looks}


def _which(rows: Evaluation) -> list[Any]:
    """Tells rows by their labels, wherever the file lies."""
    return [rows.rows, hashlib.sha256(rows.sample().y.tobytes()).hexdigest()]


@dataclass(frozen=True)
class _Job:
    predictor: Predictor
    weight: str | None
    slices: tuple[str, ...]
    options: PredictOptions
    events: Events

    def run(self, dataset: Dataset) -> tuple[Evaluation, _Tally]:
        more = [*self.slices, *([] if self.weight is None else [self.weight])]
        columns = columns_needed(self.predictor, dataset.schema, more)
        gathered, tally = Evaluation(self.predictor.target), _Tally()
        pieces = read_pieces(dataset, columns, self.options.batch_rows)
        with working_on(pieces, self._score, self.options.threads, [self.predictor]) as all_scored:
            for scored in all_scored:
                gathered.update(scored.y, scored.prediction, scored.weight, scored.slices)
                tally.add(scored)
                self.events.emit(Advanced(stage="evaluate", rows=len(scored.y)))
        return gathered, tally

    def _score(self, piece: tuple[int, pa.RecordBatch]) -> _Scored:
        batch, target = piece[1], self.predictor.target
        labels = batch.column(target.column)
        y = encode_labels(target, labels)
        return _Scored(
            y=y,
            prediction=self.predictor.predict(batch),
            weight=None if self.weight is None else read_weights(batch.column(self.weight), self.weight),
            slices={name: batch.column(name) for name in self.slices},
            unknown=unknown_labels(labels, y) if target.task.is_classification else _NONE,
        )


def columns_needed(predictor: Predictor, schema: pa.Schema, more: Sequence[str]) -> list[str]:
    """Columns to read: inputs, target and `more`, in the order of the data; raises where one is missing."""
    target = predictor.target.column
    if target not in schema.names:
        message = f"the data has no column {target!r}, which is the target"
        raise TargetError(message, hint=nearest_column(target, schema.names))
    predictor.check_columns(schema)
    for name in more:
        if name not in schema.names:
            raise SchemaError(f"the data has no column {name!r}", hint=nearest_column(name, schema.names))
    needed = {target, *more, *predictor.columns}
    return [name for name in schema.names if name in needed]


def unknown_labels(labels: pa.Array, y: np.ndarray) -> pa.Array:
    """The labels that are no class of the target, as text."""
    lost = np.isnan(y)
    return canonical(labels.filter(pa.array(lost))).drop_null() if lost.any() else _NONE


def encode_labels(target: Target, labels: pa.Array) -> np.ndarray:
    """As `Target.encode`; raises `TargetError` for labels that are no numbers where numbers are needed."""
    try:
        return target.encode(labels)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        message = f"the target holds {labels.type} values that are no numbers: {error}"
        raise TargetError(message, hint="Is this the right column?", column=target.column) from error


def read_weights(column: pa.Array, name: str) -> np.ndarray:
    """Float64 `(rows,)`; a row without a weight does not count."""
    with context(column=name):
        weight = pc.fill_null(pc.cast(column, pa.float64()), 0.0).to_numpy(zero_copy_only=False)
        if len(weight) and not (np.isfinite(weight).all() and weight.min() >= 0):
            raise DataError("weights must be finite numbers from 0 up", hint="Choose another --weight column.")
    return np.asarray(weight)
