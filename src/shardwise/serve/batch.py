"""Predictions for files of any size, in input order, in constant memory."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from shardwise.compute.ceiling import cpu_quota
from shardwise.core.errors import ConfigError, SchemaError, context
from shardwise.core.events import Advanced, Events
from shardwise.core.names import nearest_column
from shardwise.data.dataset import Dataset, TypeConflict, open_dataset
from shardwise.serve.predictor import BATCH_ROWS, Predictor
from shardwise.serve.sinks import open_output, output_suffix

T = TypeVar("T")
R = TypeVar("R")
_TEXT_FORMATS = ("csv", "jsonl")
MOST_THREADS = 4


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """`threads` batches of `batch_rows` rows are worked on at the same time: memory grows with their product.

    By default as many as there are cores, up to `MOST_THREADS`; the models share the cores out among them, so that one
    batch is encoded, by one thread, while trees predict another. With a `confidence_level` there are intervals or sets.
    """

    batch_rows: int = BATCH_ROWS
    threads: int = min(cpu_quota(), MOST_THREADS)
    confidence_level: float | None = None

    def __post_init__(self) -> None:
        for name in ("batch_rows", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint="Give a whole number of at least 1.")


def predict_files(
    predictor: Predictor,
    dataset: Dataset,
    out: Path | str,
    *,
    keep: Sequence[str] = (),
    options: PredictOptions | None = None,
    events: Events | None = None,
) -> int:
    """Predict all rows of `dataset`, in their order, to `out`; the number of rows.

    `out` is a file (see `sinks.SINKS`) or a folder, which gets a Parquet part for each partition. Its columns are those
    of `keep`, then `Predictor.answer`. It appears when all is written; after an error or a kill there is the old one,
    or none. Raises `SchemaError` for columns that are missing, `ConfigError` for an `out` that cannot be written,
    `DiskFull`.
    """
    job = _Job(predictor, str(out), tuple(keep), options or PredictOptions(), events or Events())
    with context(stage="predict"):
        return until_types_hold(as_trained(dataset, predictor), job.run)


@dataclass(frozen=True)
class _Job:
    predictor: Predictor
    out: str
    keep: tuple[str, ...]
    options: PredictOptions
    events: Events

    def run(self, dataset: Dataset) -> int:
        output_suffix(self.out)
        schema = _output_schema(self.predictor, dataset.schema, self.keep, self.options.confidence_level)
        _check_not_an_input(self.out, dataset)
        needed = {*self.predictor.columns, *self.keep}
        columns = [name for name in dataset.schema.names if name in needed]
        pieces = read_pieces(dataset, columns, self.options.batch_rows)
        rows = 0
        threads = self.options.threads
        with (
            open_output(self.out, schema, {"package": self.predictor.package.hash}) as write,
            self.predictor.sharing_cores(threads),
        ):
            for partition, batch in in_order(partial(self._predict, schema), pieces, threads):
                write(partition, batch)
                rows += batch.num_rows
                self.events.emit(Advanced(stage="predict", rows=batch.num_rows))
        return rows

    def _predict(self, schema: pa.Schema, piece: tuple[int, pa.RecordBatch]) -> tuple[int, pa.RecordBatch]:
        partition, batch = piece
        kept = [batch.column(name) for name in self.keep]
        answer = self.predictor.answer(batch, confidence_level=self.options.confidence_level)
        return partition, pa.RecordBatch.from_arrays([*kept, *answer.columns], schema=schema)


def as_trained(dataset: Dataset, predictor: Predictor) -> Dataset:
    """Text files whose columns are read as text where they were text in training: `007` stays `007`."""
    if dataset.report["format"] not in _TEXT_FORMATS:
        return dataset
    target = predictor.target
    texts = [field.name for field in predictor.package.inputs if pa.types.is_string(field.type)]
    texts += [target.column] if any(isinstance(label, str) for label in target.classes) else []
    names = [name for name in texts if name in dataset.schema.names]
    types = {name: "string" for name in names if not pa.types.is_string(dataset.schema.field(name).type)}
    if not types:
        return dataset
    options = replace(dataset.reader.options, types={**types, **dataset.reader.options.types})
    return open_dataset(dataset.sources, options=options, target_bytes=dataset.target_bytes)


def until_types_hold(dataset: Dataset, work: Callable[[Dataset], R]) -> R:
    """`work(dataset)`; when a text file holds a value that its column's type does not fit, again with a wider type."""
    while True:
        try:
            return work(dataset)
        except TypeConflict as conflict:
            wider = dataset.widened(conflict.column, conflict.value)
            if wider.schema.equals(dataset.schema):  # nothing is gained by another try
                raise
            dataset = wider


def in_order(work: Callable[[T], R], items: Iterator[T], threads: int) -> Iterator[R]:
    """`work(item)` for each item, in order, on `threads` threads; at most one item more is drawn ahead.

    With the libraries out of the interpreter's lock, one batch is predicted while the next is encoded.
    """
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="predict") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def read_pieces(dataset: Dataset, columns: Sequence[str], batch_rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches of at most `batch_rows` rows with their partition's number, in the order of the data."""
    for partition in dataset.partitions:
        with context(partition=partition.index, path=partition.path):
            for batch in dataset.read(partition, columns, batch_rows):
                yield partition.index, batch


def _output_schema(predictor: Predictor, schema: pa.Schema, keep: Sequence[str], level: float | None) -> pa.Schema:
    predictor.check_columns(schema)
    answer = predictor.answer_schema(level)
    for name in keep:
        if name not in schema.names:
            raise SchemaError(f"the data has no column {name!r} to keep", hint=nearest_column(name, schema.names))
        if name in answer.names:
            hint = "Rename it in the data, or do not keep it."
            raise ConfigError(f"column {name!r} cannot be kept: a column of the predictions has this name", hint=hint)
    if len(set(keep)) < len(keep):
        raise ConfigError(f"a column is to be kept twice: {', '.join(keep)}", hint="Name each column once.")
    return pa.schema([*(schema.field(name) for name in keep), *answer])


def _check_not_an_input(out: Path | str, dataset: Dataset) -> None:
    """Predictions must not take the place of the data that they are made from."""
    place = Path(out).resolve()
    """Batches of at most `batch_rows` rows with their partition's number, in the order of the data."""
    for partition in dataset.partitions:
        source = Path(partition.path).resolve()
        if place == source or place in source.parents:
            raise ConfigError(f"{str(out)!r} is where the data is read from", hint="Give another --out.")
