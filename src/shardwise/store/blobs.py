"""Blobs in a folder: one file per key."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shardwise.core.errors import context
from shardwise.store.files import remove_leftovers, write_atomic

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


@dataclass(frozen=True)
class FolderBlobs:
    """A `BlobStore` in `folder`. Small and picklable; any number of processes may use it at the same time.

    Keys are made of letters, digits, `.`, `_`, `-` and `/`; no part of one starts with a dot.
    """

    folder: Path

    def read(self, key: str) -> bytes:
        """The content; raises `KeyError` when there is none."""
        path = self._path(key)
        with context(path=str(path)):
            try:
                return path.read_bytes()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                raise KeyError(key) from None

    def write(self, key: str, content: bytes) -> None:
        """Write or replace, atomically and durably; raises `DiskFull`."""
        write_atomic(self._path(key), content)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Keys that start with `prefix`, sorted."""
        found = (Path(place, name) for place, _, names in os.walk(self.folder) for name in names)
        keys = (path.relative_to(self.folder).as_posix() for path in found)
        return iter(sorted(key for key in keys if key.startswith(prefix) and _KEY.fullmatch(key)))

    def remove(self, key: str) -> None:
        """Remove; a key that is not there is no error."""
        with context(path=str(self._path(key))):
            self._path(key).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what dead writers left behind."""
        for place, _, _ in os.walk(self.folder):
            remove_leftovers(Path(place))

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no blob key: letters, digits, '.', '_', '-' and '/' make one")
        return self.folder / key
