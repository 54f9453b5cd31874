"""Predictions as a folder: a Parquet file for each partition, by any executor; what is done is not done again.

    scores/part-00003-1f0c2a9b4d5e.parquet ...   in the order of the data; the name tells place and content: the hash of
                                                 the package, the form, and the partition's file, range and stamp
    scores/_shardwise_predictions.json           what was asked, and which part holds which rows of which file
    .scores.predicting/                          beside it, until all is there: plan.json and parts/

A part appears whole, by a rename after fsync, and its name is the record that it is done: after a kill at any instant
the same command writes those that are missing, whoever wrote the others. All parts together take the place of the
folder in one step. A folder of predictions that is there already gives the parts that are still right to the new one
(as hard links), so that only new and changed partitions are predicted. `part_folders` does so; in an object store
`part_objects` makes a manifest the one step.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from shardwise.compute.base import Executor, stream
from shardwise.compute.local import InlineExecutor
from shardwise.core.errors import ConfigError, DataError, PackageError, context
from shardwise.core.events import Advanced, Events, Said, StageStarted
from shardwise.data.base import Partition
from shardwise.data.dataset import Dataset, open_dataset
from shardwise.serve.answering import Answering
from shardwise.serve.part_folders import FORMAT, Part, PartFolder, key_of
from shardwise.serve.pieces import read_pieces, working_on
from shardwise.serve.predictor import Predictor
from shardwise.store.ledger import unit_key

_SHOWN = 5
_SHARED = "On an engine the data, the package and --out lie where all workers see them, under the same path."


@dataclass(frozen=True)
class Item:
    """A partition and the name of its part."""

    name: str
    partition: Partition


def remembered(dataset: Dataset, parts: PartFolder) -> Dataset:
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
    job: Answering, dataset: Dataset, parts: PartFolder, *, executor: Executor | None, events: Events
) -> int:  # fmt: skip
    """Write what is missing, by the workers of the executor or the threads of this process; the rows of all parts.

    Raises as `batch.predict_files` does, and `DataError` where a worker writes what cannot be seen here, or another
    process writes the same folder.
    """
    schema = job.schema(dataset.schema)
    with parts.held():
        return _Output(job, dataset, parts, schema, events).write(executor)


@dataclass(frozen=True)
class _Output:
    job: Answering
    dataset: Dataset
    parts: PartFolder
    schema: pa.Schema
    events: Events

    def write(self, executor: Executor | None) -> int:
        items, plan = list(self._items()), self._plan()
        self._tell_changes(plan)
        finished = self._finished(items, plan)
        if finished is None:
            self.parts.note(plan)
            self.parts.adopt({key_of(item.name): item.name for item in items})
            known = self.parts.standing([item.name for item in items])
            missing = [item for item in items if item.name not in known]
            if known:
                self._say(f"{len(known):,} of {len(items):,} partitions are predicted already.")
            self.events.emit(StageStarted(stage="predict", total=len(missing)))
            known |= {part.name: part for part in self._written(missing, executor)}
            finished = self._commit(items, known, plan)
        self.parts.end()
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
        mark = self.parts.finished()
        parts = {part["part"]: part for part in mark.get("parts", ())}
        if not parts or {name: mark.get(name) for name in plan} != plan or parts.keys() != {i.name for i in items}:
            return None
        if not self.parts.holds({name: part["size_bytes"] for name, part in parts.items()}):
            return None
        self._say(f"{self.parts.shown} holds these predictions already.")
        return int(mark["rows"])

    def _written(self, items: Sequence[Item], executor: Executor | None) -> Iterator[Part]:
        job = self.job
        alone = replace(self.dataset, partitions=(), counter=None)
        writer = PartWriter(dataset=alone, schema=self.schema, place=self.parts)
        work: Callable[[Item], Part] = partial(writer, job)
        if executor is not None:
            package = job.predictor.package
            work = RemoteWork(writer=writer, package=package.folder.resolve(), hash=package.hash,
                              job=(job.form, job.keep, job.options))  # fmt: skip
        for outcome in stream(executor or InlineExecutor(), work, items, retries=2):
            part = outcome.unwrap()
            if self.parts.size_of(part.name) != part.size_bytes:
                raise DataError(f"a worker has written {part.name}, which is not to be seen here",
                                path=self.parts.shown, hint=_SHARED)  # fmt: skip
            self.events.emit(Advanced(stage="predict", rows=part.rows))
            yield part

    def _commit(self, items: Sequence[Item], known: Mapping[str, Part], plan: Mapping[str, Any]) -> int:
        names = [item.name for item in items]
        if not items:
            names = ["part-00000.parquet"]
            known = {names[0]: self.parts.write(names[0], self.schema, ())}
        rows = sum(part.rows for part in known.values())
        told = [{"part": item.name, "source": item.partition.path, "start": item.partition.start,
                 "stop": item.partition.stop, "rows": known[item.name].rows,
                 "size_bytes": known[item.name].size_bytes} for item in items]  # fmt: skip
        self.parts.commit(self.schema, [known[name] for name in names], {**plan, "rows": rows, "parts": told})
        return rows

    def _say(self, text: str, level: str = "info") -> None:
        self.events.emit(Said(text=text, level=level))


@dataclass(frozen=True, kw_only=True)
class PartWriter:
    """Writes the part of an item, by the threads of the process that it runs in."""

    dataset: Dataset  # without its partitions: each comes as an item
    schema: pa.Schema
    place: PartFolder

    def __call__(self, job: Answering, item: Item, cores: int | None = None) -> Part:
        """`cores` are those that may be used; None: all."""
        alone = replace(self.dataset, partitions=(item.partition,))
        pieces = read_pieces(alone, job.columns(self.dataset.schema), job.batch_rows)
        threads = min(job.options.threads, cores or job.options.threads)
        answer = partial(job.answer, self.schema)
        with (
            context(partition=item.partition.index, path=item.partition.path),
            working_on(pieces, answer, threads, [job.predictor], cores) as answers,
        ):
            return self.place.write(item.name, self.schema, answers)


@dataclass(frozen=True, kw_only=True)
class RemoteWork:
    """The same on a worker, which loads the package once."""

    writer: PartWriter
    package: Path
    hash: str
    job: tuple[Any, ...]  # what an `Answering` has beside the predictor

    def __call__(self, item: Item) -> Part:
        if not self.package.is_dir():
            raise ConfigError("a worker does not find the package", path=str(self.package), hint=_SHARED)
        if not self.writer.place.is_seen():
            raise ConfigError("a worker does not find the folder to write", path=self.writer.place.shown, hint=_SHARED)
        return self.writer(Answering(_loaded(self.package, self.hash), *self.job), item, pa.cpu_count())


@lru_cache(maxsize=1)
def _loaded(folder: Path, digest: str) -> Predictor:
    predictor = Predictor.load(folder)
    if predictor.package.hash != digest:
        raise PackageError("the package is replaced while it predicts", hint="Start again.", path=str(folder))
    return predictor


def _sources(dataset: Dataset) -> dict[str, str]:
    return {partition.path: partition.fingerprint for partition in dataset.partitions}
