"""Write-behind: who puts a value does not wait for the node."""

import threading
from collections.abc import Mapping, Sequence

from shardwise.serve.cache.base import Cache, CacheFailure, Counters

BATCH_KEYS = 256
Pending = dict[bytes, tuple[bytes, float | None]]


class WriteBehind:
    """A `Cache` whose puts are done by a thread, in batches; what waits is given by `get` as well.

    `most_keys` bounds what waits: beyond it puts are dropped and counted. A put that fails in the thread is counted as
    an error, and dropped. `flush` waits until nothing waits; `close` flushes, and closes the cache.
    """

    def __init__(self, cache: Cache, most_keys: int = 10_000) -> None:
        self.cache = cache
        self.most_keys = most_keys
        self.counters = Counters()
        self._waiting: dict[str, Pending] = {}
        self._writing: tuple[str, Pending] = ("", {})
        self._closed = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="cache-writer", daemon=True)
        self._thread.start()

    def get(self, version: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        with self._change:
            held = self._held(version)
            found = {key: held[key][0] for key in keys if key in held}
        found |= self.cache.get(version, [key for key in keys if key not in found])
        self.counters.looked(len(keys), len(found))
        return found

    def put(self, version: str, items: Mapping[bytes, bytes], ttl_s: float | None = None) -> None:
        with self._change:
            waiting = self._waiting.setdefault(version, {})
            room = self.most_keys - sum(map(len, self._waiting.values()))
            taken = [key for key in items if key in waiting] + [key for key in items if key not in waiting][:room]
            waiting.update({key: (items[key], ttl_s) for key in taken})
            self._change.notify_all()
        self.counters.add(puts=len(taken), dropped=len(items) - len(taken))

    def clear(self, version: str) -> None:
        with self._change:
            self._waiting.pop(version, None)
            self._change.wait_for(lambda: self._writing[0] != version)
        self.cache.clear(version)

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until all is written; False when that takes longer than `timeout_s`."""
        with self._change:
            return self._change.wait_for(lambda: not self._waiting and not self._writing[1], timeout_s)

    def close(self) -> None:
        with self._change:
            self._closed = True
            self._change.notify_all()
        self._thread.join()
        self.cache.close()

    def _held(self, version: str) -> Pending:
        """What waits or is being written; called with the lock."""
        being = self._writing[1] if self._writing[0] == version else {}
        return {**being, **self._waiting.get(version, {})} if being else self._waiting.get(version, {})

    def _work(self) -> None:
        while self._take():
            version, batch = self._writing
            for ttl_s in {life for _, life in batch.values()}:
                self._write(version, {key: value for key, (value, life) in batch.items() if life == ttl_s}, ttl_s)
            with self._change:
                self._writing = ("", {})
                self._change.notify_all()

    def _write(self, version: str, items: Mapping[bytes, bytes], ttl_s: float | None) -> None:
        try:
            self.cache.put(version, items, ttl_s)
        except CacheFailure:
            self.counters.add(errors=1, dropped=len(items))

    def _take(self) -> bool:
        """Move a batch from what waits to what is being written; False when it is closed and nothing waits."""
        with self._change:
            self._change.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return False
            version, waiting = next(iter(self._waiting.items()))
            batch = {key: waiting.pop(key) for key in list(waiting)[:BATCH_KEYS]}
            if not waiting:
                del self._waiting[version]
            self._writing = (version, batch)
            return True
