"""Where a registry keeps its files: a folder, or an object store.

Two things are asked of a shelf. A file is *created*: it appears whole under a name that was free, or not at all, and
of several writers one wins. A folder is *added* under a name that nobody else uses, before any file tells of it. All
that a registry promises rests on the first; `guarantee` says how far it holds.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from shardwise.core.errors import context
from shardwise.store.files import (
    create_atomic,
    list_files,
    make_folder,
    remove_leftovers,
    staged_folder,
    write_atomic,
)

ATOMIC = "atomic"  # the file system or the store decides which writer wins
_PIECE_BYTES = 1 << 20
LEASE = "lease"  # a lock object with an end decides: see `registry.leases`


class Shelf(Protocol):
    """Files under relative paths with `/`."""

    place: str

    @property
    def guarantee(self) -> str:
        """ATOMIC or LEASE."""
        ...

    def names(self, folder: str) -> list[str]:
        """Names of what is in a folder, sorted, without those that begin with a dot; empty where there is none."""
        ...

    def read(self, path: str) -> bytes:
        """The content; raises `KeyError` when there is none."""
        ...

    def create(self, path: str, content: bytes) -> bool:
        """Write a file that is not there yet; False, and nothing written, where one stands."""
        ...

    def replace(self, path: str, content: bytes) -> None:
        """Write a file, whatever stood there; a reader sees the old content or the new."""
        ...

    def add_folder(self, path: str, source: Path) -> None:
        """Copy a folder to a path that nobody else uses."""
        ...

    def remove_folder(self, path: str) -> None:
        """Remove a folder; one that is not there is no error."""
        ...

    def local(self, path: str) -> Path | None:
        """Where a folder can be read without a copy; None where it has to be fetched."""
        ...

    def fetch(self, path: str, names: Sequence[str], into: Path) -> None:
        """Copy files of a folder into a local one."""
        ...


class FolderShelf:
    """A folder of this machine, or one that is mounted on several. Making one writes nothing."""

    guarantee = ATOMIC

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = str(folder)

    def names(self, folder: str) -> list[str]:
        place = self.folder / folder
        with context(path=str(place)):
            return sorted(p.name for p in place.iterdir() if not p.name.startswith(".")) if place.is_dir() else []

    def read(self, path: str) -> bytes:
        with context(path=str(self.folder / path)):
            try:
                return (self.folder / path).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                raise KeyError(path) from None

    def create(self, path: str, content: bytes) -> bool:
        remove_leftovers((self.folder / path).parent)
        return create_atomic(self.folder / path, content)

    def replace(self, path: str, content: bytes) -> None:
        with context(path=str(self.folder / path)):
            make_folder((self.folder / path).parent)
        write_atomic(self.folder / path, content)

    def add_folder(self, path: str, source: Path) -> None:
        with staged_folder(self.folder / path) as temp:
            with context(path=str(source)):
                names = list_files(source)
            for name in names:
                (temp / name).parent.mkdir(parents=True, exist_ok=True)
                with context(path=str(source)):
                    content = (source / name).open("rb")
                with content, (temp / name).open("wb") as copy:  # a disk that is full is this one
                    shutil.copyfileobj(content, copy, _PIECE_BYTES)

    def remove_folder(self, path: str) -> None:
        if (self.folder / path).is_dir():
            with context(path=str(self.folder / path)):
                shutil.rmtree(self.folder / path)

    def local(self, path: str) -> Path | None:
        return self.folder / path

    def fetch(self, path: str, names: Sequence[str], into: Path) -> None:
        for name in names:
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            with context(path=str(self.folder / path / name)):
                shutil.copyfile(self.folder / path / name, into / name)
