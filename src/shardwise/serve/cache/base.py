"""The plug point of caches: bytes under keys, by version, which may be forgotten at any time.

A cache holds nothing that could not be computed again. So it may lose anything, and it must never give what was not put
under exactly this version and key.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

KEY_BYTES = 16


class CacheFailure(Exception):
    """A node of a cache does not answer, or answers nonsense; whoever asks goes on without it."""


class Cache(Protocol):
    """Values under keys of `KEY_BYTES` bytes, by `version`: 32 hexadecimal digits of the hash of a package.

    May be shared by threads. Raises `CacheFailure`, and nothing else, where a node is dead.
    """

    counters: "Counters"

    def get(self, version: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values that are there, by key."""
        ...

    def put(self, version: str, items: Mapping[bytes, bytes], ttl_s: float | None = None) -> None:
        """Keep values, at most `ttl_s` seconds (None: as long as the cache does)."""
        ...

    def clear(self, version: str) -> None:
        """Forget all values of a version."""
        ...

    def close(self) -> None:
        """Write what is still to be written, and release connections."""
        ...


@dataclass
class Counters:
    """What happened since the start: keys found and not found, keys put, entries evicted, failures of nodes, puts that
    were dropped because a queue was full."""

    hits: int = 0
    misses: int = 0
    puts: int = 0
    evictions: int = 0
    errors: int = 0
    dropped: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, **changes: int) -> None:
        with self._lock:
            for name, change in changes.items():
                setattr(self, name, getattr(self, name) + change)

    def looked(self, asked: int, found: int) -> None:
        self.add(hits=found, misses=asked - found)

    @property
    def hit_rate(self) -> float:
        """Share of the keys asked for that were found; NaN before the first."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else float("nan")

    def to_json(self) -> dict[str, int]:
        names = ("hits", "misses", "puts", "evictions", "errors", "dropped")
        return {name: getattr(self, name) for name in names}
