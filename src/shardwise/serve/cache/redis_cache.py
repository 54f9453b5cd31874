"""A cache in Redis, or what speaks its protocol such as Valkey; one server or a cluster (extra: redis).

Keys are `sw:<version>:<key>`, binary. In a cluster the keys of a request lie in many slots, and are asked for by slot.
The server's own `maxmemory` and `maxmemory-policy` bound it: set `allkeys-lru` or `allkeys-lfu`.
"""

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from shardwise.core.errors import ConfigError
from shardwise.serve.cache.base import CacheFailure, Counters
from shardwise.serve.cache.local import Lifetime

try:
    import redis
except ImportError:
    redis = None  # type: ignore[assignment]

_SCAN = 1000  # keys that are looked at in one step of a clear


class RedisCache:
    """A `Cache` at `redis://host:port/db` (`rediss://` for TLS). Raises `ConfigError` without the extra.

    `timeout_s` bounds each wait for the server. `ttl_s` and `jitter` are as in `LocalCache`; Redis counts in
    milliseconds. Connecting is left to the first call, so that a server that is down stops nobody.
    """

    def __init__(
        self, url: str, *, cluster: bool = False, ttl_s: float | None = None, jitter: float = 0.0,
        timeout_s: float = 0.25,
    ) -> None:  # fmt: skip
        if redis is None:
            raise ConfigError("this cache needs a package that is not installed",
                              hint="Install it: pip install 'shardwise[redis]'.", url=url)  # fmt: skip
        self.counters = Counters()
        self._url, self._cluster = url, cluster
        self._waits = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
        self._lifetime = Lifetime(ttl_s, jitter)
        self._opened: Any = None
        self._lock = threading.Lock()

    def get(self, version: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        if not keys:
            return {}
        with _failures():
            client = self._client()
            names = [_name(version, key) for key in keys]
            values = client.mget_nonatomic(names) if self._cluster else client.mget(names)
            found = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
            if not all(isinstance(value, bytes) for value in found.values()):
                raise TypeError("a value is no string of bytes")
        self.counters.looked(len(keys), len(found))
        return found

    def put(self, version: str, items: Mapping[bytes, bytes], ttl_s: float | None = None) -> None:
        with _failures():
            pipe = self._client().pipeline(**({} if self._cluster else {"transaction": False}))
            for key, value in items.items():
                life_s = self._lifetime.draw(ttl_s)
                pipe.set(_name(version, key), value, px=None if life_s is None else math.ceil(life_s * 1000))
            pipe.execute()
        self.counters.add(puts=len(items))

    def clear(self, version: str) -> None:
        with _failures():
            client = self._client()
            names = []
            for name in client.scan_iter(match=_name(version, b"") + b"*", count=_SCAN):
                names.append(name)
                if len(names) == _SCAN:
                    _unlink(client, names)
                    names = []
            _unlink(client, names)

    def close(self) -> None:
        if self._opened is not None:
            with _failures():
                self._opened.close()

    def _client(self) -> Any:
        """One for all threads: a second client that is forgotten closes its connections under those who use them."""
        with self._lock:
            if self._opened is None:
                kind = redis.RedisCluster if self._cluster else redis.Redis
                self._opened = kind.from_url(self._url, **self._waits)
            return self._opened


def _unlink(client: Any, names: list[bytes]) -> None:
    if names:
        client.unlink(*names)


def _name(version: str, key: bytes) -> bytes:
    return b"sw:%s:%s" % (version.encode(), key)


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # over an answer that makes no sense the client stumbles in any way
        raise CacheFailure(f"Redis: {error}") from error
