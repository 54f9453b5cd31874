"""Predictions as a folder: a Parquet file for each partition, by any executor; what is done is not done again.

    scores/part-00003-1f0c2a9b4d5e.parquet ...   in the order of the data; the name tells place and content: the hash of
                                                 the package, the form, and the partition's file, range and stamp
    scores/_shardwise_predictions.json           what was asked, and which part holds which rows of which file
    .scores.predicting/                          beside it, until all is there: plan.json and parts/

A part appears whole, by a rename after fsync, and its name is the record that it is done: after a kill at any instant
the same command writes those that are missing, whoever wrote the others. All parts together take the place of the
folder in one step. A folder of predictions that is there already gives the parts that are still right to the new one
(as hard links), so that only new and changed partitions are predicted.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shardwise.compute.base import Executor, stream
from shardwise.compute.local import InlineExecutor
from shardwise.compute.threads import in_order
from shardwise.core.errors import ConfigError, DataError, PackageError, context
from shardwise.core.events import Advanced, Events, Said, StageStarted
from shardwise.data.base import Partition
from shardwise.data.dataset import Dataset, open_dataset
from shardwise.serve.answering import Answering
from shardwise.serve.pieces import read_pieces
from shardwise.serve.predictor import Predictor
from shardwise.serve.sinks import ParquetSink, closing
from shardwise.store.files import CANNOT_LINK, make_folder, replace_folder, staged_file, write_atomic
from shardwise.store.ledger import unit_key
from shardwise.store.locks import writing

MARK = "_shardwise_predictions.json"  # in a folder that we wrote, and may therefore replace
FORMAT = 1  # part of every name: parts of another format are not taken over
_SHOWN = 5
_SHARED = "On an engine the data, the package and --out lie where all workers see them, under the same path."


@dataclass(frozen=True)
class Item:
    """A partition and the name of its part."""

    name: str
    partition: Partition


@dataclass(frozen=True)
class Part:
    """A part that was written."""

    name: str
    rows: int
    size_bytes: int


@dataclass(frozen=True)
class Parts:
    """Where the parts of an output `folder` are: in the end, and until all are there."""

    folder: Path

    @property
    def final(self) -> Path:
        return Path(os.path.realpath(self.folder))

    @property
    def work(self) -> Path:
        return self.final.with_name(f".{self.final.name}.predicting")

    @property
    def done(self) -> Path:
        return self.work / "parts"

    @property
    def plan(self) -> Path:
        return self.work / "plan.json"

    def check(self) -> None:
        """Raise `ConfigError` for a folder that holds something else than predictions."""
        if self.folder.is_dir() and any(self.folder.iterdir()) and not (self.folder / MARK).is_file():
            hint = "Choose a new folder, or a file in this one."
            raise ConfigError("the folder holds something else than predictions", hint=hint, path=str(self.folder))

    def told(self) -> Mapping[str, Any]:
        """What was asked of the parts that are there: of those under way, else of the finished ones; often nothing."""
        return _read(self.plan) or _read(self.final / MARK)


def remembered(dataset: Dataset, parts: Parts) -> Dataset:
    """Text whose columns turned out wider before, when the same files were read, is read so from the start."""
    told = parts.told()
    if told.get("sources") != _sources(dataset):
        return dataset
    given = dataset.reader.options.types
    types = {name: kind for name, kind in told["types"].items() if given.get(name) != kind}
    if not types:
        return dataset
    options = replace(dataset.reader.options, types={**given, **types})
    return open_dataset(dataset.sources, options=options, target_bytes=dataset.target_bytes)


def predict_parts(
    job: Answering, dataset: Dataset, parts: Parts, *, executor: Executor | None, events: Events
) -> int:  # fmt: skip
    """Write what is missing, by the workers of the executor or the threads of this process; the rows of all parts.

    Raises as `batch.predict_files` does, and `DataError` where a worker writes what cannot be seen here, or another
    process writes the same folder.
    """
    schema = job.schema(dataset.schema)
    parts.check()
    make_folder(parts.work)
    hint = "Wait for it, or stop it."
    with writing(parts.work, what=f"predictions to {str(parts.folder)!r}", hint=hint):
        make_folder(parts.done)
        try:
            return _Output(job, dataset, parts, schema, events).write(executor)
        except BaseException:
            if not any(parts.done.glob("part-*")):  # nothing to go on with
                shutil.rmtree(parts.work, ignore_errors=True)
            raise


@dataclass(frozen=True)
class _Output:
    job: Answering
    dataset: Dataset
    parts: Parts
    schema: pa.Schema
    events: Events

    def write(self, executor: Executor | None) -> int:
        items, plan = list(self._items()), self._plan()
        self._tell_changes(plan)
        finished = self._finished(items, plan)
        if finished is None:
            write_atomic(self.parts.plan, json.dumps(plan).encode())
            self._adopt(items)
            known = {item.name: part for item in items if (part := _standing(self.parts.done / item.name)) is not None}
            missing = [item for item in items if item.name not in known]
            if known:
                self._say(f"{len(known):,} of {len(items):,} partitions are predicted already.")
            self.events.emit(StageStarted(stage="predict", total=len(missing)))
            known |= {part.name: part for part in self._written(missing, executor)}
            finished = self._commit(items, known, plan)
        shutil.rmtree(self.parts.work, ignore_errors=True)
        return finished

    def _items(self) -> Iterator[Item]:
        asked, form = self._asked(), self.schema.to_string()
        options = self.dataset.reader.options.to_json()
        for partition in self.dataset.partitions:
            place = [partition.path, partition.start, partition.stop, partition.fingerprint, list(partition.values)]
            key = unit_key("predict", FORMAT, asked, form, options, place)
            yield Item(f"part-{partition.index:05d}-{key[:12]}.parquet", partition)

    def _asked(self) -> dict[str, Any]:
        return {"package": self.job.predictor.package.hash, "form": self.job.form.to_json(),
                "keep": list(self.job.keep)}  # fmt: skip

    def _plan(self) -> dict[str, Any]:
        types = dict(self.dataset.reader.options.types)
        return {"format": FORMAT, "asked": self._asked(), "types": types, "sources": _sources(self.dataset)}

    def _tell_changes(self, plan: Mapping[str, Any]) -> None:
        told = self.parts.told()
        if told and told.get("asked") != plan["asked"]:
            self._say("The predictions there are another package's, or of another form: all rows are predicted anew.")
        elif told:
            now = plan["sources"]
            changed = [path for path, stamp in told["sources"].items() if now.get(path, stamp) != stamp]
            if changed:
                shown = ", ".join(changed[:_SHOWN]) + (" ..." if len(changed) > _SHOWN else "")
                self._say(f"{len(changed)} file(s) changed after they were predicted, which is done anew: {shown}",
                          "warning")  # fmt: skip

    def _finished(self, items: Sequence[Item], plan: Mapping[str, Any]) -> int | None:
        """Rows of the folder, if it is what was asked for."""
        mark = _read(self.parts.final / MARK)
        parts = {part["part"]: part for part in mark.get("parts", ())}
        if not parts or {name: mark.get(name) for name in plan} != plan or parts.keys() != {i.name for i in items}:
            return None
        if any(_size(self.parts.final / name) != part["size_bytes"] for name, part in parts.items()):
            return None
        self._say(f"{self.parts.folder} holds these predictions already.")
        return int(mark["rows"])

    def _adopt(self, items: Sequence[Item]) -> None:
        """Parts that are right, whatever their number was, get the name that they have now."""
        wanted = {_key(item.name): item.name for item in items}
        sizes = {part["part"]: part["size_bytes"] for part in _read(self.parts.final / MARK).get("parts", ())}
        for name, size_bytes in sizes.items():
            target = self.parts.done / wanted.get(_key(name), name)
            if _key(name) in wanted and not target.exists() and _size(self.parts.final / name) == size_bytes:
                _link(self.parts.final / name, target)
        for path in sorted(self.parts.done.glob("part-*-*.parquet")):
            name = wanted.get(_key(path.name), path.name)
            if name != path.name:
                path.replace(self.parts.done / name)

    def _written(self, items: Sequence[Item], executor: Executor | None) -> Iterator[Part]:
        job = self.job
        alone = replace(self.dataset, partitions=(), counter=None)
        writer = PartWriter(dataset=alone, schema=self.schema, folder=self.parts.done)
        work: Callable[[Item], Part] = partial(writer, job)
        if executor is not None:
            package = job.predictor.package
            work = RemoteWork(writer=writer, package=package.folder.resolve(), hash=package.hash,
                              job=(job.form, job.keep, job.options))  # fmt: skip
        for outcome in stream(executor or InlineExecutor(), work, items, retries=2):
            part = outcome.unwrap()
            if _size(self.parts.done / part.name) != part.size_bytes:
                raise DataError(f"a worker has written {part.name}, which is not to be seen here",
                                path=str(self.parts.folder), hint=_SHARED)  # fmt: skip
            self.events.emit(Advanced(stage="predict", rows=part.rows))
            yield part

    def _commit(self, items: Sequence[Item], known: Mapping[str, Part], plan: Mapping[str, Any]) -> int:
        done = self.parts.done
        if not items:
            known = {"part-00000.parquet": _write(done / "part-00000.parquet", self.schema, ())}
        for path in done.iterdir():  # of another package, form, or state of the data
            if path.name not in known:
                path.unlink()
        rows = sum(part.rows for part in known.values())
        told = [{"part": item.name, "source": item.partition.path, "start": item.partition.start,
                 "stop": item.partition.stop, "rows": known[item.name].rows,
                 "size_bytes": known[item.name].size_bytes} for item in items]  # fmt: skip
        write_atomic(done / MARK, json.dumps({**plan, "rows": rows, "parts": told}, indent=1).encode())
        replace_folder(done, self.parts.final)
        return rows

    def _say(self, text: str, level: str = "info") -> None:
        self.events.emit(Said(text=text, level=level))


@dataclass(frozen=True, kw_only=True)
class PartWriter:
    """Writes the part of an item, by the threads of the process that it runs in."""

    dataset: Dataset  # without its partitions: each comes as an item
    schema: pa.Schema
    folder: Path

    def __call__(self, job: Answering, item: Item, cores: int | None = None) -> Part:
        """`cores` are those that may be used; None: all."""
        alone = replace(self.dataset, partitions=(item.partition,))
        pieces = read_pieces(alone, job.columns(self.dataset.schema), job.batch_rows)
        threads = min(job.options.threads, cores or job.options.threads)
        with (
            context(partition=item.partition.index, path=item.partition.path),
            job.predictor.sharing_cores(threads, cores),
        ):
            answers = in_order(partial(job.answer, self.schema), pieces, threads)
            return _write(self.folder / item.name, self.schema, answers)


@dataclass(frozen=True, kw_only=True)
class RemoteWork:
    """The same on a worker, which loads the package once."""

    writer: PartWriter
    package: Path
    hash: str
    job: tuple[Any, ...]  # what an `Answering` has beside the predictor

    def __call__(self, item: Item) -> Part:
        for folder, what in ((self.package, "the package"), (self.writer.folder, "the folder to write")):
            if not folder.is_dir():
                raise ConfigError(f"a worker does not find {what}", path=str(folder), hint=_SHARED)
        return self.writer(Answering(_loaded(self.package, self.hash), *self.job), item, pa.cpu_count())


@lru_cache(maxsize=1)
def _loaded(folder: Path, digest: str) -> Predictor:
    predictor = Predictor.load(folder)
    if predictor.package.hash != digest:
        raise PackageError("the package is replaced while it predicts", hint="Start again.", path=str(folder))
    return predictor


def _write(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch] | tuple[()]) -> Part:
    """The file appears whole."""
    rows = 0
    with staged_file(path) as temp:
        with closing(ParquetSink(temp, schema)) as sink:
            for batch in batches:
                sink.write(batch)
                rows += batch.num_rows
        size_bytes = temp.stat().st_size
    return Part(path.name, rows, size_bytes)


def _standing(path: Path) -> Part | None:
    """The part that a file holds, None where it is not there or damaged."""
    try:
        return Part(path.name, pq.read_metadata(path).num_rows, path.stat().st_size)
    except (FileNotFoundError, pa.ArrowException):
        return None


def _link(source: Path, target: Path) -> None:
    """A second name for a part; where the file system has none, the part is written anew."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in CANNOT_LINK:
            raise


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _key(name: str) -> str:
    return name.rpartition("-")[2]


def _sources(dataset: Dataset) -> dict[str, str]:
    return {partition.path: partition.fingerprint for partition in dataset.partitions}


def _read(path: Path) -> Mapping[str, Any]:
    """A note of ours; empty where there is none, or one of another format."""
    if not path.is_file():
        return {}
    with context(path=str(path)):
        content = json.loads(path.read_bytes())
    return content if content.get("format") == FORMAT else {}
