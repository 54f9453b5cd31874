"""A node that fails is left alone for a while, and its failures end here.

closed     all calls pass; `failures` of them failing in a row open it
open       no call passes for `cool_s` seconds
half open  one call passes: if it succeeds the breaker is closed, else it is open again
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from shardwise.serve.cache.base import Cache, CacheFailure


class Breaker:
    """Says whether a call may pass, and learns how it went. May be shared by threads."""

    def __init__(self, failures: int = 3, cool_s: float = 5.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._cool_s, self._clock = failures, cool_s, clock
        self._failed = 0
        self._next_try_s = 0.0
        self._lock = threading.Lock()

    @property
    def state(self) -> str:
        """closed, open, or half-open."""
        if self._failed < self._most:
            return "closed"
        return "open" if self._clock() < self._next_try_s else "half-open"

    def passes(self) -> bool:
        """Whether to call; of those who ask a half-open breaker at once, one may."""
        with self._lock:
            if self._failed < self._most:
                return True
            if self._clock() < self._next_try_s:
                return False
            self._next_try_s = self._clock() + self._cool_s
            return True

    def succeeded(self) -> None:
        with self._lock:
            self._failed = 0

    def failed(self) -> None:
        with self._lock:
            self._failed += 1
            self._next_try_s = self._clock() + self._cool_s


class GuardedCache:
    """A `Cache` that never fails: a node that is dead, or left alone, has nothing and keeps nothing."""

    def __init__(self, node: Cache, breaker: Breaker | None = None) -> None:
        self.node = node
        self.breaker = breaker or Breaker()
        self.counters = node.counters

    def get(self, version: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        return self.ask(version, keys) or {}

    def ask(self, version: str, keys: Sequence[bytes]) -> dict[bytes, bytes] | None:
        """As `get`; None where the node does not answer."""
        found: dict[bytes, bytes] = {}
        answered = self._calls(lambda: found.update(self.node.get(version, keys)))
        if not answered:
            self.counters.looked(len(keys), 0)
        return found if answered else None

    def put(self, version: str, items: Mapping[bytes, bytes], ttl_s: float | None = None) -> None:
        if not self._calls(lambda: self.node.put(version, items, ttl_s)):
            self.counters.add(dropped=len(items))

    def clear(self, version: str) -> None:
        self._calls(lambda: self.node.clear(version))

    def close(self) -> None:
        self._calls(self.node.close)

    def _calls(self, work: Callable[[], None]) -> bool:
        if not self.breaker.passes():
            return False
        try:
            work()
        except CacheFailure:
            self.breaker.failed()
            self.counters.add(errors=1)
            return False
        self.breaker.succeeded()
        return True
