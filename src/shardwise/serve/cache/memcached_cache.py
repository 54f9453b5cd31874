"""A cache in Memcached, one server (extra: memcached); several are a `ShardedCache`.

Memcached cannot list keys. So each value begins with the generation of its version, which is a key of its own: `clear`
writes a new generation, and older values are as good as gone. The server evicts by itself, least recently used first.
It counts in seconds: lives are rounded up to them.
"""

import math
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from shardwise.core.errors import ConfigError
from shardwise.serve.cache.base import CacheFailure, Counters
from shardwise.serve.cache.local import Lifetime

try:
    import pymemcache
except ImportError:
    pymemcache = None

_GENERATION_BYTES = 8
_FIRST = bytes(_GENERATION_BYTES)
_MONTH_S = 30 * 86_400  # what is longer would be read as a date


class MemcachedCache:
    """A `Cache` at `memcached://host:port`. Raises `ConfigError` without the extra.

    `timeout_s` bounds each wait for the server. `ttl_s` and `jitter` are as in `LocalCache`.
    """

    def __init__(
        self,
        url: str,
        *,
        ttl_s: float | None = None,
        jitter: float = 0.0,
        timeout_s: float = 0.25,
        connections: int = 8,
    ) -> None:
        if pymemcache is None:
            raise ConfigError("this cache needs a package that is not installed",
                              hint="Install it: pip install 'shardwise[memcached]'.", url=url)  # fmt: skip
        self.counters = Counters()
        self._lifetime = Lifetime(ttl_s, jitter)
        self._generations: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._client: Any = pymemcache.PooledClient(
            url.removeprefix("memcached://"), connect_timeout=timeout_s, timeout=timeout_s, no_delay=True,
            max_pool_size=connections,
        )  # fmt: skip

    def get(self, version: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        if not keys:
            return {}
        names = {_name(version, key): key for key in keys}
        mark = _generation_name(version)
        with _failures():
            values = self._client.get_many([mark, *names])
        generation = self._remember(version, values.get(mark, _FIRST))
        found = {
            names[name]: value[_GENERATION_BYTES:]
            for name, value in values.items()
            if name != mark and value.startswith(generation)
        }
        self.counters.looked(len(keys), len(found))
        return found

    def put(self, version: str, items: Mapping[bytes, bytes], ttl_s: float | None = None) -> None:
        lives: dict[int, dict[str, bytes]] = {}
        with _failures():
            generation = self._generation(version)
            for key, value in items.items():
                life_s = self._lifetime.draw(ttl_s)
                seconds = 0 if life_s is None else min(math.ceil(life_s), _MONTH_S)
                lives.setdefault(seconds, {})[_name(version, key)] = generation + value
            for seconds, values in lives.items():
                self._client.set_many(values, expire=seconds, noreply=False)
        self.counters.add(puts=len(items))

    def clear(self, version: str) -> None:
        generation = secrets.token_bytes(_GENERATION_BYTES)
        with _failures():
            self._client.set(_generation_name(version), generation, noreply=False)
        self._remember(version, generation)

    def close(self) -> None:
        with _failures():
            self._client.close()

    def _generation(self, version: str) -> bytes:
        """As it was seen last: values that are put with an old one are as good as gone."""
        with self._lock:
            known = self._generations.get(version)
        return known or self._remember(version, self._client.get(_generation_name(version)) or _FIRST)

    def _remember(self, version: str, generation: bytes) -> bytes:
        with self._lock:
            self._generations[version] = generation
        return generation


def _name(version: str, key: bytes) -> str:
    return f"sw:{version}:{key.hex()}"


def _generation_name(version: str) -> str:
    return f"sw:{version}:generation"


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # over an answer that makes no sense the client stumbles in any way
        raise CacheFailure(f"Memcached: {error}") from error
