"""Predictions for files of any size, in input order, in constant memory: to one file, or to a file a partition."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from shardwise.compute.base import Executor
from shardwise.compute.engines import make_executor
from shardwise.core.errors import ConfigError, context
from shardwise.core.events import Advanced, Events
from shardwise.data.dataset import Dataset
from shardwise.data.places import is_url
from shardwise.serve.answering import Answering
from shardwise.serve.forms import AnswerForm
from shardwise.serve.part_folders import PartFolder, Parts
from shardwise.serve.part_objects import PartsAtUrl
from shardwise.serve.parts import predict_parts, remembered
from shardwise.serve.pieces import PredictOptions, as_trained, read_pieces, until_types_hold, working_on
from shardwise.serve.predictor import Predictor
from shardwise.serve.sinks import check_form, open_output, output_suffix


def predict_files(
    predictor: Predictor,
    dataset: Dataset,
    out: Path | str,
    *,
    keep: Sequence[str] = (),
    form: AnswerForm | None = None,
    options: PredictOptions | None = None,
    storage: Mapping[str, object] | None = None,
    executor: Executor | None = None,
    events: Events | None = None,
) -> int:
    """Predict all rows of `dataset`, in their order, to `out`; the number of rows that are written.

    Its columns are those of `keep`, then those of `form` (`forms`). `out` is a file (see `sinks.SINKS`) or a folder,
    which gets a Parquet part for each partition, by the workers of the `executor` if there is one. It appears when all
    is written; after an error or a kill there is the old one, or none, and the next call for the same folder goes on
    with what is done (`parts`). At a URL both are objects, and `storage` are options of their store. Raises
    `SchemaError` for columns that are missing, `ConfigError` for an `out` that cannot be written and a form that does
    not fit, `DiskFull`.
    """
    out = str(out).removeprefix("file://")
    events, form = events or Events(), form or AnswerForm()
    suffix = output_suffix(out)
    if suffix is not None and executor is not None:
        hint = "Give a folder: --out FOLDER/, which gets a file for each partition, in their order."
        raise ConfigError(f"several workers cannot write the one file {out!r}", hint=hint)
    check_form(form, suffix)
    job = Answering(predictor, form, tuple(keep), options or PredictOptions())
    with context(stage="predict"):
        if suffix is None:
            parts: PartFolder = PartsAtUrl(out, dict(storage or {})) if is_url(out) else Parts(Path(out))
            known = remembered(as_trained(dataset, predictor), parts)
            return until_types_hold(known, partial(_to_folder, job, parts, executor, events))
        return until_types_hold(as_trained(dataset, predictor), partial(_to_file, job, out, storage, events))


@contextmanager
def workers_for(engine: str, workers: int | None, address: str | None = None) -> Iterator[Executor | None]:
    """The executor that is asked for; None where nothing but this process is. Raises as `make_executor` does."""
    if workers is None and engine == "local" and address is None:
        yield None
        return
    with closing(make_executor(engine, workers, address=address)) as executor:
        yield executor


def _to_folder(job: Answering, parts: PartFolder, executor: Executor | None, events: Events, dataset: Dataset) -> int:
    _check_not_an_input(parts.shown, dataset)
    return predict_parts(job, dataset, parts, executor=executor, events=events)


def _to_file(
    job: Answering, out: str, storage: Mapping[str, object] | None, events: Events, dataset: Dataset
) -> int:  # fmt: skip
    schema, columns = job.schema(dataset.schema), job.columns(dataset.schema)
    _check_not_an_input(out, dataset)
    pieces = read_pieces(dataset, columns, job.batch_rows)
    rows, answer = 0, partial(job.answer, schema)
    with (
        open_output(out, schema, storage) as write,
        working_on(pieces, answer, job.options.threads, [job.predictor]) as answers,
    ):
        for batch in answers:
            write(batch)
            rows += batch.num_rows
            events.emit(Advanced(stage="predict", rows=batch.num_rows))
    return rows


def _check_not_an_input(out: str, dataset: Dataset) -> None:
    """Predictions must not take the place of the data that they are made from."""
    place = None if is_url(out) else Path(out).resolve()
    for partition in dataset.partitions:
        source = Path(partition.path).resolve()
        within = place in source.parents if place else partition.path.startswith(f"{out.rstrip('/')}/")
        if out == partition.path or place == source or within:
            raise ConfigError(f"{out!r} is where the data is read from", hint="Give another --out.")
