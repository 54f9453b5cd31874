"""Caches by name, as they are written on a command line or in a config.

memory:256MB              in this process, least recently used first; memory:256MB:lfu for another policy
redis://host:6379/0       Redis; rediss:// with TLS
redis+cluster://host:7001 a cluster
valkey://host:6379/0      Valkey, which speaks the protocol of Redis: also valkeys:// and valkey+cluster://
memcached://host:11211    Memcached
"""

from collections.abc import Callable, Sequence

from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest
from shardwise.core.units import parse_size
from shardwise.serve.cache.base import Cache
from shardwise.serve.cache.behind import WriteBehind
from shardwise.serve.cache.breaker import GuardedCache
from shardwise.serve.cache.local import LocalCache
from shardwise.serve.cache.memcached_cache import MemcachedCache
from shardwise.serve.cache.redis_cache import RedisCache
from shardwise.serve.cache.sharded import ShardedCache

DEFAULT_BYTES = "256MB"
Open = Callable[[str, float | None, float], Cache]


def open_cache(
    names: Sequence[str], *, replicas: int = 1, ttl_s: float | None = None, jitter: float = 0.1, behind: bool = False
) -> Cache:
    """A cache that never fails, on one or several nodes; with `behind` puts are done by a thread.

    Raises `ConfigError` for a name that is not known, or whose extra is not installed.
    """
    if not names:
        raise ConfigError("no cache was named", hint=f"Give memory:{DEFAULT_BYTES}, or the URL of a server.")
    nodes = {name: _open(name, ttl_s, jitter) for name in names}
    found: Cache = ShardedCache(nodes, replicas) if len(nodes) > 1 else GuardedCache(next(iter(nodes.values())))
    return WriteBehind(found) if behind else found


def _open(name: str, ttl_s: float | None, jitter: float) -> Cache:
    kind = name.partition(":")[0]
    if kind not in CACHES:
        raise ConfigError(f"there is no cache {kind!r}", hint=nearest(kind, CACHES))
    return CACHES[kind](name, ttl_s, jitter)


def _memory(name: str, ttl_s: float | None, jitter: float) -> Cache:
    _, size, policy, *_ = [*name.split(":"), "", ""]
    return LocalCache(parse_size(size or DEFAULT_BYTES), policy or "lru", ttl_s=ttl_s, jitter=jitter)


def _redis(name: str, ttl_s: float | None, jitter: float) -> Cache:
    kind, _, place = name.partition("://")
    scheme = kind.removesuffix("+cluster").replace("valkey", "redis")
    return RedisCache(f"{scheme}://{place}", cluster=kind.endswith("+cluster"), ttl_s=ttl_s, jitter=jitter)


def _memcached(name: str, ttl_s: float | None, jitter: float) -> Cache:
    return MemcachedCache(name, ttl_s=ttl_s, jitter=jitter)


CACHES: dict[str, Open] = {
    "memory": _memory, "redis": _redis, "rediss": _redis, "redis+cluster": _redis, "valkey": _redis, "valkeys": _redis,
    "valkey+cluster": _redis, "memcached": _memcached,
}  # fmt: skip
