"""What outlives the process: blobs under keys, and an append-only journal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

Record = Mapping[str, Any]


class BlobStore(Protocol):
    """Bytes under keys; a blob appears whole or not at all."""

    def read(self, key: str) -> bytes:
        """The content; raises `KeyError` when there is none."""
        ...

    def write(self, key: str, content: bytes) -> None:
        """Write or replace, atomically and durably."""
        ...

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Keys that start with `prefix`, sorted."""
        ...

    def remove(self, key: str) -> None:
        """Remove; a key that is not there is no error."""
        ...


class Journal(Protocol):
    """An append-only log of JSON records."""

    def append(self, records: Sequence[Record]) -> None:
        """Append all or none, durably."""
        ...

    def read(self, start: int = 0) -> Iterator[Record]:
        """Records from number `start` on, in the order in which they were appended."""
        ...
