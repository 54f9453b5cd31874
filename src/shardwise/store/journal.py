"""The journal of a run: an append-only log of JSON records in one SQLite file.

SQLite runs with a write-ahead log and `synchronous=FULL`: an append that has returned is there after a kill -9 and,
as far as the disk keeps its word, after a power loss; a torn tail is dropped as a whole, never half read
(https://sqlite.org/wal.html). An append costs one fsync, against seconds of work that a record stands for.

One process writes at a time. It holds a POSIX lock on `NAME.lock`, which forked workers do not inherit and which the
kernel releases when the process ends, however it ends. Any number of processes may read meanwhile.
"""

import fcntl
import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from shardwise.core.errors import ConfigError, DataError, DiskFull, ShardwiseError, context
from shardwise.store.base import Record
from shardwise.store.files import make_folder
from shardwise.store.records import encode

_APPLICATION_ID = 0x53574A4C  # "SWJL"
_FORMAT_VERSION = 1
_PAGE_RECORDS = 1024
_CREATE = f"""
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS records
        (number INTEGER PRIMARY KEY, kind TEXT NOT NULL, content TEXT NOT NULL, digest BLOB NOT NULL);
    PRAGMA application_id = {_APPLICATION_ID};
    PRAGMA user_version = {_FORMAT_VERSION};
    COMMIT;
"""
_held: set[str] = set()  # POSIX locks do not exclude a second holder in the same process
os.register_at_fork(after_in_child=_held.clear)


class SqliteJournal:
    """A `Journal` in the file `path`. Records are dicts of JSON values with a `kind`.

    `read_only=True` takes no lock and creates nothing. Raises `ConfigError` when another process writes, `DataError`
    when the file is damaged or no journal, `DiskFull`. May be shared by threads, not by processes.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._mutex = threading.Lock()
        with ExitStack() as opened, _sqlite_errors(path):
            if not read_only:
                opened.enter_context(_writer_lock(path.with_name(f"{path.name}.lock")))
            connect = _open_to_read if read_only else _open_to_write
            self._connection = opened.enter_context(connect(path))
            self._opened = opened.pop_all()

    def append(self, records: Sequence[Record]) -> None:
        """Append all or none; on return they are on the disk."""
        rows = [_encode(record) for record in records]
        with self._mutex, _sqlite_errors(self.path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT INTO records (kind, content, digest) VALUES (?, ?, ?)", rows)

    def read(self, start: int = 0) -> Iterator[Record]:
        """Records from number `start` on, also those that are appended while reading; the first has number 0."""
        while page := self._page(start):
            for number, content, digest in page:
                if _digest(content) != digest:
                    raise _damaged(self.path, f"record {number - 1} does not match its checksum")
                yield json.loads(content)
            start = page[-1][0]

    def __len__(self) -> int:
        with self._mutex, _sqlite_errors(self.path):
            row = self._connection.execute("SELECT max(number) FROM records").fetchone()
        return row[0] or 0

    def close(self) -> None:
        """Release the file and the lock."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _page(self, start: int) -> list[tuple[int, str, bytes]]:
        """A bounded page, so that a slow reader does not hold a snapshot and the log can be written back."""
        query = "SELECT number, content, digest FROM records WHERE number > ? ORDER BY number LIMIT ?"
        with self._mutex, _sqlite_errors(self.path):
            return self._connection.execute(query, (start, _PAGE_RECORDS)).fetchall()


@contextmanager
def _writer_lock(path: Path) -> Iterator[None]:
    """Hold the lock file, which carries the holder's process id."""
    key = os.path.realpath(path)
    if key in _held:
        raise _locked(path, str(os.getpid()))
    with context(path=str(path)):
        make_folder(path.parent)
        file = path.open("a+", encoding="ascii")
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise _locked(path, file.read().strip() or "unknown") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        _held.add(key)
        try:
            yield
        finally:
            _held.discard(key)


@contextmanager
def _open_to_write(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            _check_format(connection, path)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.executescript(_CREATE)
        yield connection


@contextmanager
def _open_to_read(path: Path) -> Iterator[sqlite3.Connection]:
    """A journal that was closed well and lies in a folder without write permission is read as immutable."""
    with context(path=str(path)):
        path.stat()
    closed_well = not path.with_name(f"{path.name}-wal").exists()
    immutable = "&immutable=1" if closed_well and not os.access(path.parent, os.W_OK) else ""
    place = f"file:{quote(str(path))}?mode=ro{immutable}"
    with closing(sqlite3.connect(place, uri=True, check_same_thread=False)) as connection:
        _check_format(connection, path)
        yield connection


def _check_format(connection: sqlite3.Connection, path: Path) -> None:
    identity = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if identity != _APPLICATION_ID:
        raise DataError("this SQLite file is not a journal", hint="Choose another run folder.", path=str(path))
    if version > _FORMAT_VERSION:
        message = f"the journal has format version {version}, this shardwise reads up to {_FORMAT_VERSION}"
        raise DataError(message, hint="Upgrade shardwise.", path=str(path))
    report = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if report != "ok":
        raise _damaged(path, report)


def _encode(record: Record) -> tuple[str, str, bytes]:
    kind = record.get("kind")
    if not isinstance(kind, str):
        raise ValueError(f"a record needs a 'kind' of type str, {kind!r} was given")
    content = encode(record)
    return kind, content, _digest(content)


def _digest(content: str) -> bytes:
    return hashlib.blake2b(content.encode(), digest_size=8).digest()


@contextmanager
def _sqlite_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _mapped(error, path) from error


def _mapped(error: sqlite3.Error, path: Path) -> ShardwiseError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code of an extended one
    if code == sqlite3.SQLITE_FULL:
        return DiskFull("no space is left for the journal", hint="Free some space.", path=str(path))
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(path, str(error))
    hint = "Check who may read or write there." if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY) else ""
    return DataError(f"the journal cannot be used: {error}", hint=hint, path=str(path))


def _damaged(path: Path, detail: str) -> DataError:
    hint = "Restore it from a copy, or start the run anew under another name."
    return DataError(f"the journal is damaged: {detail}", hint=hint, path=str(path))


def _locked(path: Path, holder: str) -> ConfigError:
    hint = "Wait for it, stop it, or give this run another name."
    return ConfigError(f"another process (pid {holder}) is writing this run", hint=hint, path=str(path))
