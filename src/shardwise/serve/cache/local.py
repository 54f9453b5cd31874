"""A cache in this process, bounded in bytes; which entry goes first is the policy's decision.

    lru   the one that was not used for longest
    lfu   the one that was used least often; among equals the one that was not used for longest
    mfu   the one that was used most often; among equals the one that was used last
    ttl   the one that would expire first

Entries that have expired are not given, whatever the policy, and go before others.
"""

import heapq
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest
from shardwise.serve.cache.base import Counters

ENTRY_BYTES = 768  # of Python's objects around an entry, measured: tests/serve/cache/test_local.py
Key = tuple[str, bytes]


class Policy(Protocol):
    """The order in which entries go."""

    def added(self, key: Key, expires_s: float) -> None: ...
    def used(self, key: Key) -> None: ...
    def removed(self, key: Key) -> None: ...
    def victim(self) -> Key:
        """The key that goes next; there is one."""
        ...


class Lru:
    """Least recently used."""

    def __init__(self) -> None:
        self._order: OrderedDict[Key, None] = OrderedDict()

    def added(self, key: Key, expires_s: float) -> None:  # noqa: ARG002 - only `ttl` looks at it
        self._order[key] = None

    def used(self, key: Key) -> None:
        self._order.move_to_end(key)

    def removed(self, key: Key) -> None:
        del self._order[key]

    def victim(self) -> Key:
        return next(iter(self._order))


class Lfu:
    """Least frequently used, in constant time (Shah, Mitra, Matani 2010): keys by how often they were used."""

    def __init__(self) -> None:
        self._uses: dict[Key, int] = {}
        self._groups: dict[int, OrderedDict[Key, None]] = {}
        self._low = 1
        self._high = 0

    def added(self, key: Key, expires_s: float) -> None:  # noqa: ARG002
        self._low = 1
        self._put(key, 1)

    def used(self, key: Key) -> None:
        uses = self._uses[key]
        self._take(key, uses)
        self._put(key, uses + 1)

    def removed(self, key: Key) -> None:
        self._take(key, self._uses.pop(key))

    def victim(self) -> Key:
        while self._low not in self._groups:
            self._low += 1
        return next(iter(self._groups[self._low]))

    def _put(self, key: Key, uses: int) -> None:
        self._uses[key] = uses
        self._high = max(self._high, uses)
        self._groups.setdefault(uses, OrderedDict())[key] = None

    def _take(self, key: Key, uses: int) -> None:
        group = self._groups[uses]
        del group[key]
        if not group:
            del self._groups[uses]


class Mfu(Lfu):
    """Most frequently used: for traffic in which a row that came often does not come again."""

    def victim(self) -> Key:
        while self._high not in self._groups:
            self._high -= 1
        return next(reversed(self._groups[self._high]))


class Ttl:
    """First to expire."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Key]] = []
        self._number: dict[Key, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._number)

    def added(self, key: Key, expires_s: float) -> None:
        self._count += 1
        self._number[key] = self._count
        heapq.heappush(self._heap, (expires_s, self._count, key))
        if len(self._heap) > 2 * len(self._number) + 16:
            self._heap = [entry for entry in self._heap if self._number.get(entry[2]) == entry[1]]
            heapq.heapify(self._heap)

    def used(self, key: Key) -> None:
        """It makes no difference."""

    def removed(self, key: Key) -> None:
        del self._number[key]

    def victim(self) -> Key:
        while self._number.get(self._heap[0][2]) != self._heap[0][1]:
            heapq.heappop(self._heap)
        return self._heap[0][2]


POLICIES: dict[str, Callable[[], Policy]] = {"lru": Lru, "lfu": Lfu, "mfu": Mfu, "ttl": Ttl}


@dataclass(slots=True)
class _Entry:
    value: bytes
    expires_s: float


class LocalCache:
    """A `Cache` in memory. `max_bytes` bounds keys, values and the objects around them.

    `ttl_s` is the longest life of an entry (None: no end), `jitter` the share of it that is taken off by chance, so
    that entries that were put together do not expire together.
    """

    def __init__(
        self, max_bytes: int, policy: str = "lru", *, ttl_s: float | None = None, jitter: float = 0.0,
        clock: Callable[[], float] = time.monotonic, seed: int | None = None,
    ) -> None:  # fmt: skip
        if policy not in POLICIES:
            raise ConfigError(f"there is no cache policy {policy!r}", hint=nearest(policy, POLICIES))
        if not 0 <= jitter < 1:
            raise ConfigError(f"jitter is {jitter}", hint="Give a share from 0 up to, not including, 1.")
        self.max_bytes = max_bytes
        self.counters = Counters()
        self.size_bytes = 0
        self._policy = POLICIES[policy]()
        self._expiry = self._policy if isinstance(self._policy, Ttl) else Ttl()
        self._entries: dict[Key, _Entry] = {}
        self._lifetime = Lifetime(ttl_s, jitter, seed)
        self._clock = clock
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, version: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found = {}
        now = self._clock()
        with self._lock:
            for key in keys:
                entry = self._entries.get((version, key))
                if entry is None:
                    continue
                if entry.expires_s <= now:
                    self._remove((version, key))
                    continue
                self._policy.used((version, key))
                found[key] = entry.value
        self.counters.looked(len(keys), len(found))
        return found

    def put(self, version: str, items: Mapping[bytes, bytes], ttl_s: float | None = None) -> None:
        now = self._clock()
        with self._lock:
            for key, value in items.items():
                self._put((version, key), value, now, self._lifetime.draw(ttl_s))
        self.counters.add(puts=len(items))

    def clear(self, version: str) -> None:
        with self._lock:
            for key in [key for key in self._entries if key[0] == version]:
                self._remove(key)

    def close(self) -> None:
        with self._lock:
            for key in list(self._entries):
                self._remove(key)

    def _put(self, key: Key, value: bytes, now: float, life_s: float | None) -> None:
        if key in self._entries:
            self._remove(key)
        size = _size(key, value)
        if size > self.max_bytes:
            self.counters.add(dropped=1)
            return
        while self.size_bytes + size > self.max_bytes:
            self._evict(now)
        entry = _Entry(value, float("inf") if life_s is None else now + life_s)
        self._entries[key] = entry
        self.size_bytes += size
        self._policy.added(key, entry.expires_s)
        if life_s is not None and self._expiry is not self._policy:
            self._expiry.added(key, entry.expires_s)

    def _evict(self, now: float) -> None:
        """Remove what has expired first, else what the policy says."""
        first = self._expiry.victim() if len(self._expiry) else None
        expired = first is not None and self._entries[first].expires_s <= now
        self._remove(first if first is not None and expired else self._policy.victim())
        if not expired:
            self.counters.add(evictions=1)

    def _remove(self, key: Key) -> None:
        entry = self._entries.pop(key)
        self.size_bytes -= _size(key, entry.value)
        self._policy.removed(key)
        if entry.expires_s < float("inf") and self._expiry is not self._policy:
            self._expiry.removed(key)


class Lifetime:
    """How long an entry lives: the shorter of the cache's and the put's time, less a share by chance."""

    def __init__(self, ttl_s: float | None, jitter: float, seed: int | None = None) -> None:
        self.ttl_s, self.jitter = ttl_s, jitter
        self._random = random.Random(seed)  # noqa: S311 - chance, no secret

    def draw(self, ttl_s: float | None) -> float | None:
        """Seconds; None for no end."""
        given = [time_s for time_s in (self.ttl_s, ttl_s) if time_s is not None]
        return min(given) * (1 - self.jitter * self._random.random()) if given else None


def _size(key: Key, value: bytes) -> int:
    return len(key[1]) + len(value) + ENTRY_BYTES
