"""An exchange over files in a folder that all workers see, by the tasks of any executor.

Each item's parcels are written to one file, in the order in which they are made, with a table of where each lies at its
end. When all are there, tasks take some keys each and read what is theirs from all files. A worker that dies costs its
task; a file appears whole, by its last name, or not at all.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from shardwise.compute.base import Executor, stream
from shardwise.compute.engines import Asked, make_executor
from shardwise.compute.exchange.base import ExchangeJob, Gather, Spread
from shardwise.core.errors import TaskFailed

BUNDLES = 4  # tasks that gather, for each worker: one that is slow keeps few keys waiting
RETRIES = 2
_ENTRY = np.dtype([("key", "<i8"), ("order", "<i8"), ("offset", "<i8"), ("length", "<i8")])


def over_files(job: ExchangeJob[Any], executor: Executor) -> list[Any]:
    """Run the exchange by tasks of `executor`; see `base.Exchange`."""
    places = list(enumerate(job.items))
    spread = _SpreadTask(job.spread, job.scratch)
    for (_, item), outcome in zip(places, stream(executor, spread, places, ordered=True, retries=RETRIES), strict=True):
        outcome.unwrap()
        job.passed(item)
    bundles = min(job.keys, BUNDLES * executor.slots)
    bounds = [job.keys * number // bundles for number in range(bundles + 1)]
    gather = _GatherTask(job.gather, job.scratch, len(places))
    gathered = stream(executor, gather, list(pairwise(bounds)), ordered=True, retries=RETRIES)
    return [result for bundle in gathered for result in bundle.unwrap()]


def exchange_by(engine: str, job: ExchangeJob[Any], asked: Asked) -> list[Any]:
    """The exchange by the tasks of an engine, which ends with it."""
    executor = make_executor(engine, asked.workers, memory_bytes=asked.memory_bytes, address=asked.address)
    try:
        return over_files(job, executor)
    finally:
        executor.close()


@dataclass(frozen=True)
class _SpreadTask:
    """Writes the parcels of an item; the size of the file comes back."""

    spread: Spread
    scratch: Path

    def __call__(self, place: tuple[int, Any]) -> int:
        number, item = place
        final = _file(self.scratch, number)
        temp = final.with_suffix(f".{secrets.token_hex(6)}")
        table: list[tuple[int, int, int, int]] = []
        try:
            with temp.open("xb") as file:
                for parcel in self.spread(item):
                    table.append((parcel.key, parcel.order, file.tell(), len(parcel.content)))
                    file.write(parcel.content)
                file.write(np.array(table, _ENTRY).tobytes())
                file.write(len(table).to_bytes(8, "little"))
                size = file.tell()
            temp.replace(final)
        finally:
            temp.unlink(missing_ok=True)
        return size


@dataclass(frozen=True)
class _GatherTask:
    """Gathers the keys in [start, stop), one after the other."""

    gather: Gather[Any]
    scratch: Path
    files: int

    def __call__(self, keys: tuple[int, int]) -> list[Any]:
        start, stop = keys
        paths = [_file(self.scratch, number) for number in range(self.files)]
        tables = [_table(path) for path in paths]
        found = np.concatenate([_numbered(number, table) for number, table in enumerate(tables)])
        found = found[(found["key"] >= start) & (found["key"] < stop)]
        found = found[np.lexsort((found["order"], found["key"]))]
        return [self.gather(key, _read(paths, found[found["key"] == key])) for key in np.unique(found["key"]).tolist()]


def _numbered(number: int, table: np.ndarray) -> np.ndarray:
    entries = np.empty(len(table), np.dtype([*_ENTRY.descr, ("file", "<i8")]))
    for name in _ENTRY.names or ():
        entries[name] = table[name]
    entries["file"] = number
    return entries


def _table(path: Path) -> np.ndarray:
    """Where the parcels of a file lie. Raises `TaskFailed` where the worker does not see the file."""
    try:
        with path.open("rb") as file:
            size = file.seek(-8, 2)
            length = int.from_bytes(file.read(8), "little") * _ENTRY.itemsize
            file.seek(size - length)
            return np.frombuffer(file.read(length), _ENTRY)
    except FileNotFoundError as error:
        raise TaskFailed(
            f"a worker does not find what another one has written: {path.name}", path=str(path.parent),
            hint="Write to a folder that all workers share, under the same path.",
        ) from error  # fmt: skip


def _read(paths: Sequence[Path], entries: np.ndarray) -> Iterator[bytes]:
    """The parcels, in the order of the entries; the files of one key are opened one after the other."""
    for entry in entries:
        with paths[entry["file"]].open("rb") as file:
            file.seek(int(entry["offset"]))
            yield file.read(int(entry["length"]))


def _file(scratch: Path, number: int) -> Path:
    return scratch / f"parcels-{number}"
