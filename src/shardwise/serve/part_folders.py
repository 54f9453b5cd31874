"""Where the parts of an output are: until all are there, and in the end. Here a folder; see `part_objects` for URLs."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from shardwise.core.errors import ConfigError, context
from shardwise.serve.sinks import ParquetSink, closing
from shardwise.store.files import CANNOT_LINK, make_folder, replace_folder, staged_file, write_atomic
from shardwise.store.locks import writing

MARK = "_shardwise_predictions.json"  # in a folder that we wrote, and may therefore replace
FORMAT = 1  # part of every name: parts of another format are not taken over
SOMETHING_ELSE = "the folder holds something else than predictions"


@dataclass(frozen=True)
class Part:
    """A part that was written."""

    name: str
    rows: int
    size_bytes: int


class PartFolder(Protocol):
    """A place for parts; small and picklable, for workers."""

    @property
    def shown(self) -> str:
        """As people know it."""
        ...

    def told(self) -> Mapping[str, Any]:
        """What was asked of the parts that are there: of those under way, else of the finished ones; often nothing."""
        ...

    def finished(self) -> Mapping[str, Any]:
        """What the last `commit` told; nothing where there was none."""
        ...

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether the finished parts of these names have these bytes."""
        ...

    def held(self) -> AbstractContextManager[None]:
        """Around all that writes; raises `ConfigError` where something else than predictions stands."""
        ...

    def note(self, plan: Mapping[str, Any]) -> None:
        """Remember what is asked now."""
        ...

    def adopt(self, wanted: Mapping[str, str]) -> None:
        """Parts that are right get the name that they have now: `wanted` by key."""
        ...

    def standing(self, names: Sequence[str]) -> dict[str, Part]:
        """Those that are written already, and whole."""
        ...

    def is_seen(self) -> bool:
        """Whether this process, a worker, reaches the place."""
        ...

    def write(self, name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Part:
        """The part appears whole."""
        ...

    def size_of(self, name: str) -> int | None:
        """Bytes of a part that was just written; None where it is not seen here."""
        ...

    def commit(self, schema: pa.Schema, parts: Sequence[Part], told: Mapping[str, Any]) -> None:
        """From here on these parts, in this order, are the output."""
        ...

    def end(self) -> None:
        """Remove what is not the output: what was needed until now, and parts of runs before."""
        ...


@dataclass(frozen=True)
class Parts:
    """A folder of this machine's file system: parts are gathered beside it, and take its place in one step."""

    folder: Path

    @property
    def shown(self) -> str:
        return str(self.folder)

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

    def told(self) -> Mapping[str, Any]:
        return _read(self.plan) or self.finished()

    def finished(self) -> Mapping[str, Any]:
        return _read(self.final / MARK)

    def holds(self, sizes: Mapping[str, int]) -> bool:
        return all(_size(self.final / name) == size_bytes for name, size_bytes in sizes.items())

    @contextmanager
    def held(self) -> Iterator[None]:
        if self.folder.is_dir() and any(self.folder.iterdir()) and not (self.folder / MARK).is_file():
            hint = "Choose a new folder, or a file in this one."
            raise ConfigError(SOMETHING_ELSE, hint=hint, path=str(self.folder))
        make_folder(self.work)
        with writing(self.work, what=f"predictions to {self.shown!r}", hint="Wait for it, or stop it."):
            make_folder(self.done)
            try:
                yield
            except BaseException:
                if not any(self.done.glob("part-*")):  # nothing to go on with
                    shutil.rmtree(self.work, ignore_errors=True)
                raise

    def note(self, plan: Mapping[str, Any]) -> None:
        write_atomic(self.plan, json.dumps(plan).encode())

    def adopt(self, wanted: Mapping[str, str]) -> None:
        """Those of the folder that is there as hard links."""
        sizes = {part["part"]: part["size_bytes"] for part in self.finished().get("parts", ())}
        for name, size_bytes in sizes.items():
            target = self.done / wanted.get(key_of(name), name)
            if key_of(name) in wanted and not target.exists() and _size(self.final / name) == size_bytes:
                _link(self.final / name, target)
        for path in sorted(self.done.glob("part-*-*.parquet")):
            name = wanted.get(key_of(path.name), path.name)
            if name != path.name:
                path.replace(self.done / name)

    def standing(self, names: Sequence[str]) -> dict[str, Part]:
        found = {name: _standing(self.done / name) for name in names}
        return {name: part for name, part in found.items() if part is not None}

    def is_seen(self) -> bool:
        return self.done.is_dir()

    def write(self, name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Part:
        with staged_file(self.done / name) as temp:
            return write_part(temp, name, schema, batches)

    def size_of(self, name: str) -> int | None:
        return _size(self.done / name)

    def commit(self, schema: pa.Schema, parts: Sequence[Part], told: Mapping[str, Any]) -> None:  # noqa: ARG002
        names = {part.name for part in parts}
        for path in self.done.iterdir():  # of another package, form, or state of the data
            if path.name not in names:
                path.unlink()
        write_atomic(self.done / MARK, json.dumps(told, indent=1).encode())
        replace_folder(self.done, self.final)

    def end(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)


def write_part(path: Path, name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Part:
    """Write a file, which becomes the part of that name."""
    rows = 0
    with closing(ParquetSink(path, schema)) as sink:
        for batch in batches:
            sink.write(batch)
            rows += batch.num_rows
    return Part(name, rows, path.stat().st_size)


def key_of(name: str) -> str:
    """What a part's name says of its content."""
    return name.rpartition("-")[2]


def noted(content: bytes) -> Mapping[str, Any]:
    """A note of ours; empty for one of another format, or a damaged one: what it told is done anew."""
    try:
        told = json.loads(content)
    except ValueError:
        return {}
    return told if isinstance(told, dict) and told.get("format") == FORMAT else {}


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    with context(path=str(path)):
        return noted(path.read_bytes())


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
