"""Where files are: sources (a path, a folder, a glob, a URL) to files with size and stamp, and files to open streams.

Local paths are read directly; everything with a `scheme://` goes through fsspec.
"""

import errno
import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import unquote

import fsspec
import pyarrow as pa

from shardwise.core.errors import ConfigError, DataError, context
from shardwise.data.manifest import MANIFEST_NAME, Manifest, parse_manifest

Result = TypeVar("Result")
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://")
_EXTRAS = {
    "s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "http": "http", "https": "http",
    "abfs": "azure", "abfss": "azure", "az": "azure", "adl": "azure",
}  # fmt: skip
_MAGIC_GLOB = re.compile(r"[*?[]")
_AGAIN = "Open the dataset again if it was being rewritten; otherwise restore the file, or partition the data anew."
_THREADS = 8  # waiting for storage, not computing


@dataclass(frozen=True, kw_only=True)
class File:
    """A file as it was when the dataset was planned; `values` are the `key=value` folders of its path, as text."""

    path: str
    size_bytes: int
    stamp: str
    values: tuple[tuple[str, str | None], ...] = ()

    @property
    def fingerprint(self) -> str:
        return f"{self.size_bytes}-{self.stamp}"


def is_url(path: str) -> bool:
    return _SCHEME.match(path) is not None


def find_files(sources: Sequence[str], storage: Mapping[str, object]) -> list[File]:
    """Files of all sources, each once: sources in their order, within one by path (`part-2` before `part-10`).

    In folders, files and folders whose names begin with `.` or `_` are left out. Of a folder with a manifest the files
    that it names are read, in its order, and no others. Raises `DataError` for a source that does not exist, cannot be
    read, or holds nothing.
    """
    if not sources:
        raise DataError("no data was given", hint="Give a file, a folder, a glob or a URL.")
    found: dict[str, File] = {}
    for source in sources:
        text = source.removeprefix("file://")
        manifest = manifest_of(text, storage)
        if manifest is not None:
            found |= {file.path: file for file in _named(text, manifest, storage)}
            continue
        files = list(_find_remote(text, storage) if is_url(text) else _find_local(text))
        if not files:
            what = "the pattern matches no file" if _MAGIC_GLOB.search(text) else "the folder holds no data file"
            raise DataError(what, hint="Names that begin with . or _ are left out.", path=text)
        for file in sorted(files, key=lambda file: natural_key(file.path)):
            found.setdefault(file.path, file)
    return list(found.values())


def manifest_of(source: str, storage: Mapping[str, object]) -> Manifest | None:
    """The manifest of a folder, here or at a URL; None where there is none."""
    if is_url(source):
        return None if source.startswith("http") or _MAGIC_GLOB.search(source) else _remote_manifest(source, storage)
    path = os.path.join(os.path.abspath(os.path.expanduser(source)), MANIFEST_NAME)
    if not os.path.isfile(path):
        return None
    with context(path=path), open(path, "rb") as file:
        return parse_manifest(file.read(), path)


def _remote_manifest(source: str, storage: Mapping[str, object]) -> Manifest | None:
    system, inside = filesystem(source, storage)
    path = f"{inside.rstrip('/')}/{MANIFEST_NAME}"
    with reading(source):
        system.invalidate_cache()
        return parse_manifest(system.cat_file(path), path) if system.isfile(path) else None


def _named(source: str, manifest: Manifest, storage: Mapping[str, object]) -> Iterator[File]:
    """The files of a manifest; raises `DataError` for one that is gone or of another size."""
    folder = source.rstrip("/") if is_url(source) else os.path.abspath(os.path.expanduser(source))
    for part in manifest.files:
        path = f"{folder}/{part.path}"
        try:
            file = stat_file(path, storage)
        except DataError as error:
            raise DataError(f"{error.message}, and the manifest names it", hint=_AGAIN, path=path) from error
        if file.size_bytes != part.size_bytes:
            raise DataError(
                f"the manifest tells of {part.size_bytes:,} bytes, and the file has {file.size_bytes:,}",
                hint=_AGAIN, path=path,
            )  # fmt: skip
        yield replace(file, values=())


def natural_key(path: str) -> list[tuple[int, int, str]]:
    """Sorts digits by their number.

    >>> sorted(["part-10.csv", "part-2.csv"], key=natural_key)
    ['part-2.csv', 'part-10.csv']
    """
    parts = re.split(r"([0-9]+)", path)
    return [(0, int(part), part) if i % 2 else (1, 0, part) for i, part in enumerate(parts)]


def hive_values(path: str) -> tuple[tuple[str, str | None], ...]:
    """The `key=value` folders of a path, url-decoded; `__HIVE_DEFAULT_PARTITION__` is None.

    >>> hive_values("/d/year=2024/city=S%C3%A3o%20Paulo/part.parquet")
    (('year', '2024'), ('city', 'São Paulo'))
    """
    pairs = [part.split("=", 1) for part in path.split("/")[:-1] if "=" in part[1:]]
    return tuple((unquote(key), None if value == HIVE_NULL else unquote(value)) for key, value in pairs)


# ---------------------------------------------------------------------------------------------------- local paths


def _find_local(source: str) -> Iterator[File]:
    path = os.path.abspath(os.path.expanduser(source))
    if not os.path.lexists(path) and _MAGIC_GLOB.search(source):
        matches = sorted(match for match in glob.iglob(path, recursive=True) if not _is_hidden_below(match, path))
        folders = [match for match in matches if os.path.isdir(match)]
        names = [match for match in matches if not os.path.isdir(match)]
        # `data/*` names files; `data/year=*` names folders
        yield from (_local_file(name) for name in names)
        yield from (file for folder in folders if not names for file in _walk_local(folder))
        return
    with context(path=path):
        is_folder = os.path.isdir(path)
        if not is_folder:
            os.stat(path)  # raises what is wrong with it
    yield from _walk_local(path) if is_folder else iter([_local_file(path)])


def _is_hidden_below(match: str, pattern: str) -> bool:
    fixed = len(_MAGIC_GLOB.split(pattern)[0].rsplit("/", 1)[0])
    return any(_is_hidden(part) for part in match[fixed:].split("/"))


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_")) and "=" not in name


def _walk_local(folder: str) -> Iterator[File]:
    with context(path=folder):
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    for entry in entries:
        if _is_hidden(entry.name):
            continue
        if entry.is_dir():
            yield from _walk_local(entry.path)
        else:
            yield _local_file(entry.path)


def _local_file(path: str) -> File:
    with context(path=path):
        stat = os.stat(path)
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, "permission denied", path)
    return File(path=path, size_bytes=stat.st_size, stamp=str(stat.st_mtime_ns), values=hive_values(path))


# ---------------------------------------------------------------------------------------------------- URLs


def filesystem(path: str, storage: Mapping[str, object]) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path inside it; a missing extra is a `ConfigError` that names it."""
    scheme = path.split("://", 1)[0].lower()
    with context(path=path):
        try:
            system, inside = fsspec.core.url_to_fs(path, **storage)
        except ImportError as error:
            extra = _EXTRAS.get(scheme)
            hint = f"Install it: pip install 'shardwise[{extra}]'." if extra else str(error)
            raise ConfigError(f"{scheme}:// needs a package that is not installed", hint=hint) from error
        except ValueError as error:
            raise ConfigError(f"{scheme}:// is not a known kind of storage", hint=str(error)) from error
        except OSError as error:
            if error.errno is not None or scheme != "hdfs":
                raise
            hint = "hdfs:// needs Java and Hadoop's client: set JAVA_HOME, HADOOP_HOME and CLASSPATH."
            raise ConfigError(f"the client of hdfs cannot start: {str(error).splitlines()[0]}", hint=hint) from error
        return system, str(inside)


def _find_remote(source: str, storage: Mapping[str, object]) -> Iterator[File]:
    system, inside = filesystem(source, storage)
    scheme = source.split("://", 1)[0]
    with reading(source):
        system.invalidate_cache()
        if _MAGIC_GLOB.search(inside) and scheme not in ("http", "https"):
            listing = system.glob(inside, detail=True)
            names = [name for name in listing if not _is_hidden_below(name, inside)]
            entries = {name: listing[name] for name in names if listing[name]["type"] == "file"}
            for name in names if not entries else ():
                entries.update(_below(system, name))
        elif scheme not in ("http", "https") and system.isdir(inside):
            entries = _below(system, inside)
        else:
            entries = {inside: system.info(inside)}
    for name, info in entries.items():
        yield _remote_file(system.unstrip_protocol(name), info)


def _below(system: Any, folder: str) -> dict[str, Any]:
    folder = folder.rstrip("/")
    listing = system.find(folder, detail=True)
    return {
        name: info
        for name, info in listing.items()
        if info["type"] == "file" and not any(_is_hidden(part) for part in name[len(folder) :].split("/"))
        and not name.endswith("/")
    }  # fmt: skip


def _remote_file(path: str, info: Mapping[str, Any]) -> File:
    if info.get("size") is None:
        raise DataError("the server does not tell the size of the file", hint="Download it first.", path=path)
    keys = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "updated", "mtime", "modified", "created")
    stamp = next((str(info[key]) for key in keys if info.get(key)), "")
    return File(path=path, size_bytes=int(info["size"]), stamp=stamp.strip('"'), values=hive_values(path))


_CLIENTS = ("aiobotocore", "botocore", "aiohttp", "gcsfs", "google", "azure")


@contextmanager
def _storage_errors(path: str) -> Iterator[None]:
    """Errors of storage libraries become such that say what is wrong where."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, "no such file", path) from error
    except PermissionError as error:
        raise PermissionError(errno.EACCES, "permission denied", path) from error
    except Exception as error:
        if isinstance(error, ValueError) and "range requests" in str(error):
            raise DataError("the server does not give parts of files", hint="Download it first.", path=path) from error
        if type(error).__module__.partition(".")[0] not in _CLIENTS:
            raise
        hint = "Check the address, the credentials and the network."
        raise DataError(f"the storage answers: {error}", hint=hint, path=path) from error


# ---------------------------------------------------------------------------------------------------- opening


@contextmanager
def reading(path: str, **details: object) -> Iterator[None]:
    """Around all that opens and reads a file: errors of libraries become ours and say where."""
    with context(path=path, **details), _storage_errors(path):
        yield


def stat_file(path: str, storage: Mapping[str, object]) -> File:
    """The file as it is now; raises `DataError` where it is gone."""
    if not is_url(path):
        return _local_file(path)
    system, inside = filesystem(path, storage)
    with reading(path):
        system.invalidate_cache(system._parent(inside))
        return _remote_file(path, system.info(inside))


def check_unchanged(path: str, fingerprint: str, storage: Mapping[str, object]) -> File:
    """The file; raises `DataError` when it is not what it was when the dataset was planned."""
    file = stat_file(path, storage)
    if fingerprint and file.fingerprint != fingerprint:
        raise DataError("the file has changed since the dataset was planned", hint="Start again.", path=path)
    return file


def open_file(path: str, storage: Mapping[str, object], *, memory_map: bool = False) -> pa.NativeFile:
    """A seekable stream of bytes; a local file may be memory-mapped."""
    with context(path=path):
        if not is_url(path):
            return pa.memory_map(path) if memory_map else pa.OSFile(path)
        system, inside = filesystem(path, storage)
        with _storage_errors(path):
            return pa.PythonFile(system.open(inside, "rb"), mode="r")


def each_file(work: Callable[[File], Result], files: Sequence[File]) -> Iterator[Result]:
    """`work(file)` for each file, in their order, several at a time: opening files is waiting."""
    pool = ThreadPoolExecutor(min(_THREADS, len(files)))
    try:
        yield from pool.map(work, files)
    finally:
        pool.shutdown(cancel_futures=True)
