"""Reading a dataset in bounded pieces, in the types of the training, and working on several of them at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TypeVar

import pyarrow as pa

from shardwise.compute.ceiling import cpu_quota
from shardwise.compute.threads import in_order
from shardwise.core.errors import ConfigError, context
from shardwise.data.dataset import Dataset, TypeConflict, open_dataset
from shardwise.serve.predictor import BATCH_ROWS, Predictor

P = TypeVar("P")
R = TypeVar("R")
_TEXT_FORMATS = ("csv", "jsonl")
MOST_THREADS = 4
SCORE_CELLS = 1 << 22  # of rows x classes that a batch is scored to


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """`threads` batches of `batch_rows` rows are worked on at the same time: memory grows with their product.

    By default as many as there are cores, up to `MOST_THREADS`, and never more than there are batches; the models share
    the cores out among them, so that one batch is encoded, by one thread, while trees predict another.
    """

    batch_rows: int = BATCH_ROWS
    threads: int = min(cpu_quota(), MOST_THREADS)

    def __post_init__(self) -> None:
        for name in ("batch_rows", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint="Give a whole number of at least 1.")

    def rows_of(self, classes: int) -> int:
        """Rows of a batch, fewer where each is scored for many classes."""
        return max(1, min(self.batch_rows, SCORE_CELLS // classes))


def as_trained(dataset: Dataset, predictor: Predictor) -> Dataset:
    """Text files whose columns are read as text where they were text in training: `007` stays `007`."""
    if dataset.report["format"] not in _TEXT_FORMATS:
        return dataset
    target = predictor.target
    texts = [field.name for field in predictor.package.inputs if pa.types.is_string(field.type)]
    texts += [target.column] if any(isinstance(label, str) for label in target.classes) else []
    there = set(dataset.schema.names)
    names = [name for name in texts if name in there]
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


def read_pieces(dataset: Dataset, columns: Sequence[str], batch_rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches of at most `batch_rows` rows with their partition's number, in the order of the data."""
    for partition in dataset.partitions:
        with context(partition=partition.index, path=partition.path):
            for batch in dataset.read(partition, columns, batch_rows):
                yield partition.index, batch


@contextmanager
def working_on(
    pieces: Iterator[P], work: Callable[[P], R], threads: int, predictors: Sequence[Predictor], cores: int | None = None
) -> Iterator[Iterable[R]]:
    """`work(piece)` for each piece, in order, by at most `threads` threads, which share the `cores` (None: all) out.

    A few pieces get fewer threads, so that the models of a lone one have all cores to themselves.
    """
    first = list(islice(pieces, threads))
    threads = max(1, len(first))
    with ExitStack() as stack:
        for predictor in predictors:
            stack.enter_context(predictor.sharing_cores(threads, cores))
        yield stack.enter_context(closing(in_order(work, chain(first, pieces), threads)))
