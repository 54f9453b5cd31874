"""A shelf in an object store, or in anything else that fsspec reaches by a URL.

S3, Google Cloud Storage and Azure create an object only where none stands, and decide themselves which writer wins:
`If-None-Match: *` (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html), at Google
`ifGenerationMatch=0`. A store that speaks S3 and overlooks the condition is found out by a probe before the first
write. Everywhere else, and there, a lock object with an end decides (`registry.leases`), which promises less.
"""

import secrets
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from shardwise.data.places import filesystem, reading
from shardwise.registry.leases import Lease
from shardwise.registry.shelf import ATOMIC, LEASE
from shardwise.store.files import list_files

_CONDITIONAL = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"}
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "ConditionNotMet", "BlobAlreadyExists"}
_LAST = "manifest.json"  # a package is no package before it


class ObjectShelf:
    """Objects below a URL. `lease` decides between writers where the store does not."""

    def __init__(self, url: str, storage: Mapping[str, object] | None = None, lease: Lease | None = None) -> None:
        self.place = url.rstrip("/")
        self._system, inside = filesystem(self.place, storage or {})
        self._root = inside.rstrip("/")
        self._lease = lease or Lease()

    @cached_property
    def guarantee(self) -> str:
        """ATOMIC where the store has shown that it does not replace; asking writes an object and removes it."""
        if self.place.partition("://")[0] not in _CONDITIONAL:
            return LEASE
        probe = f"probe-{secrets.token_hex(8)}"
        try:
            first, second = self._put_new(probe, b"1"), self._put_new(probe, b"2")
        finally:
            self.remove_file(probe)
        return ATOMIC if first and not second else LEASE

    def names(self, folder: str) -> list[str]:
        path = self._path(folder)
        with reading(f"{self.place}/{folder}"):
            self._system.invalidate_cache()
            try:
                found = self._system.ls(path, detail=False)
            except FileNotFoundError:
                return []
        names = {entry.rstrip("/")[len(path) :].strip("/") for entry in found}
        return sorted(name for name in names if name and not name.startswith("."))

    def read(self, path: str) -> bytes:
        with reading(f"{self.place}/{path}"):
            self._system.invalidate_cache()  # what another process has just created is in no listing of ours
            try:
                content: bytes = self._system.cat_file(self._path(path))
            except FileNotFoundError:
                raise KeyError(path) from None
        return content

    def create(self, path: str, content: bytes) -> bool:
        if self.guarantee == ATOMIC:
            return self._put_new(path, content)
        with self._lease.held(self, f"{path.rpartition('/')[0]}/.lock"):
            if self._stands(path):
                return False
            self.replace(path, content)
            return True

    def replace(self, path: str, content: bytes) -> None:
        """Write an object, whatever stood there."""
        with reading(f"{self.place}/{path}"):
            self._system.makedirs(self._path(path).rpartition("/")[0], exist_ok=True)
            self._system.pipe_file(self._path(path), content)

    def remove_file(self, path: str) -> None:
        """Remove an object; one that is not there is no error."""
        with reading(f"{self.place}/{path}"):
            self._system.invalidate_cache()
            if self._system.exists(self._path(path)):
                self._system.rm_file(self._path(path))

    def add_folder(self, path: str, source: Path) -> None:
        for name in sorted(list_files(source), key=lambda name: (name == _LAST, name)):
            with reading(f"{self.place}/{path}/{name}"):
                self._system.makedirs(self._path(f"{path}/{name}").rpartition("/")[0], exist_ok=True)
                self._system.put_file(str(source / name), self._path(f"{path}/{name}"))

    def remove_folder(self, path: str) -> None:
        with reading(f"{self.place}/{path}"):
            self._system.invalidate_cache()
            if self._system.exists(self._path(path)):
                self._system.rm(self._path(path), recursive=True)

    def local(self, path: str) -> Path | None:  # noqa: ARG002 - nothing of it is here
        return None

    def fetch(self, path: str, names: Sequence[str], into: Path) -> None:
        self._system.invalidate_cache()
        for name in names:
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            with reading(f"{self.place}/{path}/{name}"):
                self._system.get_file(self._path(f"{path}/{name}"), str(into / name))

    def _put_new(self, path: str, content: bytes) -> bool:
        with reading(f"{self.place}/{path}"):
            try:
                self._system.pipe_file(self._path(path), content, mode="create")
            except FileExistsError:
                return False
            except Exception as error:
                if not _TAKEN & {getattr(error, "error_code", None), _code(error), _code(error.__cause__)}:
                    raise
                return False
        return True

    def _stands(self, path: str) -> bool:
        with reading(f"{self.place}/{path}"):
            self._system.invalidate_cache()
            return bool(self._system.exists(self._path(path)))

    def _path(self, path: str) -> str:
        return f"{self._root}/{path}".rstrip("/")


def _code(error: BaseException | None) -> Any:
    """The code that a botocore error carries in its response."""
    response = getattr(error, "response", None)
    return response.get("Error", {}).get("Code") if isinstance(response, Mapping) else None
