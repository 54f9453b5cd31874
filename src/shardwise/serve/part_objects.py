"""Parts below a URL, in an object store, where no folder takes another one's place.

    s3://bucket/scores/_parts/part-00003-1f0c2a9b4d5e.parquet ...   written one by one; an object appears whole
    s3://bucket/scores/_shardwise_predicting.json                   what is asked, until all are there
    s3://bucket/scores/_shardwise.json                              the manifest: from here on its parts are the output

Names that begin with `_` are read by nobody who reads the folder (`data.places`, Spark, Hive); through the manifest,
which is put last and in one step, shardwise reads the parts that it names, and no others. So a run that was killed
leaves nothing, or the output of the run before. Parts that the new manifest does not name are removed after it.

There is no lock: two runs that ask the same write the same objects. Of two that ask something different the later
one's output stays, and the other one is told, or whoever reads it, that parts are gone.
"""

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shardwise.core.errors import ConfigError, DataError
from shardwise.data.manifest import MANIFEST_NAME, Manifest, PartFile, parse_manifest
from shardwise.data.places import filesystem, open_file, reading
from shardwise.serve.part_folders import SOMETHING_ELSE, Part, key_of, noted, write_part
from shardwise.serve.sinks import COMPRESSION

PARTS = "_parts"
NOTE = "_shardwise_predicting.json"
ASKED = "predictions"  # in the manifest: what was asked for
_BUCKETS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl"}  # have no folders: making one would make a bucket
_THREADS = 8  # waiting for the store


@dataclass(frozen=True)
class PartsAtUrl:
    """Objects below `url`; `storage` are options of the store."""

    url: str
    storage: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.url.lower().startswith(("http://", "https://")):
            hint = "Give an object store, such as s3://bucket/scores/, or a folder of this machine."
            raise ConfigError(f"a folder of predictions cannot be written to {self.url!r}", hint=hint)

    @property
    def shown(self) -> str:
        return self.url

    def told(self) -> Mapping[str, Any]:
        content = self._read(NOTE)
        return (noted(content) if content else {}) or self.finished()

    def finished(self) -> Mapping[str, Any]:
        content = self._read(MANIFEST_NAME)
        asked = json.loads(content).get(ASKED) if content else None
        return noted(json.dumps(asked).encode()) if asked else {}

    def holds(self, sizes: Mapping[str, int]) -> bool:
        found = self._sizes()
        return all(found.get(name) == size_bytes for name, size_bytes in sizes.items())

    @contextmanager
    def held(self) -> Iterator[None]:
        names = self._names() - {PARTS}
        if names and not (NOTE in names or self.finished()):
            raise ConfigError(SOMETHING_ELSE, hint="Choose a new folder, or a file in this one.", path=self.url)
        system, inside = self._system()
        if self.url.partition("://")[0].lower() not in _BUCKETS:
            with reading(self.url):
                system.makedirs(f"{inside}/{PARTS}", exist_ok=True)
        try:
            yield
        except BaseException:
            if not self._sizes():  # nothing to go on with
                self._remove([NOTE])
            raise

    def note(self, plan: Mapping[str, Any]) -> None:
        self._put(NOTE, json.dumps(plan).encode())

    def adopt(self, wanted: Mapping[str, str]) -> None:
        """As copies, which the store makes."""
        system, inside = self._system()
        there = self._sizes()
        for name in there:
            target = wanted.get(key_of(name), name)
            if target not in there:
                with reading(f"{self._root}/{PARTS}/{target}"):
                    system.cp_file(f"{inside}/{PARTS}/{name}", f"{inside}/{PARTS}/{target}")

    def standing(self, names: Sequence[str]) -> dict[str, Part]:
        sizes = self._sizes()
        there = [name for name in names if name in sizes]
        with ThreadPoolExecutor(_THREADS) as pool:
            rows = list(pool.map(self._rows, there))
        return {name: Part(name, count, sizes[name]) for name, count in zip(there, rows, strict=True)
                if count is not None}  # fmt: skip

    def is_seen(self) -> bool:
        return bool(self._names())

    def write(self, name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Part:
        """On this machine first, then put in one step."""
        system, inside = self._system()
        with tempfile.TemporaryDirectory(prefix="shardwise-") as folder:
            temp = Path(folder) / name
            part = write_part(temp, name, schema, batches)
            with reading(f"{self._root}/{PARTS}/{name}"):
                system.put_file(str(temp), f"{inside}/{PARTS}/{name}")
        return part

    def size_of(self, name: str) -> int | None:
        system, inside = self._system()
        with reading(f"{self._root}/{PARTS}/{name}"):
            system.invalidate_cache()
            try:
                return int(system.info(f"{inside}/{PARTS}/{name}")["size"])
            except FileNotFoundError:
                return None

    def commit(self, schema: pa.Schema, parts: Sequence[Part], told: Mapping[str, Any]) -> None:
        there = self._sizes()
        gone = [part.name for part in parts if there.get(part.name) != part.size_bytes]
        if gone:
            hint = "Another run may write to the same folder: wait for it, then start again."
            raise DataError(f"{len(gone)} part(s) are gone, such as {gone[0]}", hint=hint, path=self.url)
        files = tuple(
            PartFile(partition=place, label="", path=f"{PARTS}/{part.name}", rows=part.rows, size_bytes=part.size_bytes)
            for place, part in enumerate(parts)
        )
        manifest = Manifest(
            schema=schema, by=(), partitioner={}, count=len(files), key=(), files=files, compression=COMPRESSION
        )
        self._put(MANIFEST_NAME, json.dumps({**manifest.to_json(), ASKED: told}, ensure_ascii=False).encode())

    def end(self) -> None:
        """Here and not in `commit`, so that what a run left that was killed goes when the same command comes again."""
        content = self._read(MANIFEST_NAME)
        if content:
            named = {file.path for file in parse_manifest(content, f"{self._root}/{MANIFEST_NAME}").files}
            paths = [f"{PARTS}/{name}" for name in self._sizes()]
            self._remove([path for path in paths if path not in named])
        self._remove([NOTE])

    # -- objects -------------------------------------------------------------------------------------------------------

    @property
    def _root(self) -> str:
        return self.url.rstrip("/")

    def _system(self) -> tuple[Any, str]:
        system, inside = filesystem(self._root, self.storage)
        return system, inside.rstrip("/")

    def _read(self, name: str) -> bytes:
        """Empty where there is no such object."""
        system, inside = self._system()
        with reading(f"{self._root}/{name}"):
            system.invalidate_cache()
            try:
                content: bytes = system.cat_file(f"{inside}/{name}")
            except FileNotFoundError:
                return b""
        return content

    def _put(self, name: str, content: bytes) -> None:
        system, inside = self._system()
        with reading(f"{self._root}/{name}"):
            system.pipe_file(f"{inside}/{name}", content)

    def _remove(self, names: Sequence[str]) -> None:
        """One that is gone already is no error."""
        system, inside = self._system()
        for name in names:
            with reading(f"{self._root}/{name}"):
                system.invalidate_cache()
                if system.exists(f"{inside}/{name}"):
                    system.rm_file(f"{inside}/{name}")

    def _listed(self, folder: str) -> dict[str, Any]:
        system, inside = self._system()
        with reading(f"{self._root}{folder}"):
            system.invalidate_cache()
            try:
                entries = system.ls(f"{inside}{folder}", detail=True)
            except FileNotFoundError:
                return {}
        here = f"{inside}{folder}".strip("/")  # consoles make an empty object of this name, for the folder to be seen
        return {entry["name"].rstrip("/").rpartition("/")[2]: entry for entry in entries
                if entry.get("size") or entry["name"].strip("/") != here}  # fmt: skip

    def _names(self) -> set[str]:
        return set(self._listed(""))

    def _sizes(self) -> dict[str, int]:
        return {name: int(entry["size"]) for name, entry in self._listed(f"/{PARTS}").items()
                if entry["type"] == "file" and name.startswith("part-")}  # fmt: skip

    def _rows(self, name: str) -> int | None:
        """None for what is no whole Parquet file."""
        place = f"{self._root}/{PARTS}/{name}"
        with reading(place), open_file(place, self.storage) as file:
            try:
                return int(pq.read_metadata(file).num_rows)
            except pa.ArrowException:
                return None
