"""All caches pass the kit, on real servers."""

import subprocess
import time

import pytest
from tests.serve.cache.servers import memcached_server, redis_server

from shardwise.serve.cache.behind import WriteBehind
from shardwise.serve.cache.breaker import GuardedCache
from shardwise.serve.cache.local import POLICIES, LocalCache
from shardwise.serve.cache.memcached_cache import MemcachedCache
from shardwise.serve.cache.redis_cache import RedisCache
from shardwise.serve.cache.sharded import ShardedCache
from shardwise.testing.caches import CacheKit

ROOM = 10_000_000


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def memcached():
    with memcached_server() as server:
        yield server


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Three masters that share the slots."""
    settings = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    folders = [tmp_path_factory.mktemp(f"cluster-{number}") for number in range(3)]
    with (
        redis_server(folders[0], *settings) as one,
        redis_server(folders[1], *settings) as two,
        redis_server(folders[2], *settings) as three,
    ):
        places = [f"127.0.0.1:{server.port}" for server in (one, two, three)]
        made = ["redis-cli", "--cluster", "create", *places, "--cluster-yes"]
        subprocess.run(made, check=True, capture_output=True)
        for server in (one, two, three):
            told = ["redis-cli", "-p", str(server.port), "cluster", "info"]
            while b"cluster_state:ok" not in subprocess.run(told, check=True, capture_output=True).stdout:
                time.sleep(0.1)
        yield one


@pytest.fixture
def fresh_redis(redis):
    subprocess.run(["redis-cli", "-p", str(redis.port), "flushall"], check=True, capture_output=True)
    return f"redis://127.0.0.1:{redis.port}"


@pytest.fixture
def fresh_memcached(memcached):
    import pymemcache

    client = pymemcache.Client(("127.0.0.1", memcached.port))
    client.flush_all(noreply=False)
    client.close()
    return f"memcached://127.0.0.1:{memcached.port}"


@pytest.mark.parametrize("policy", POLICIES)
class TestLocal(CacheKit):
    @pytest.fixture
    def cache(self, policy):
        return LocalCache(ROOM, policy)


class TestGuarded(CacheKit):
    @pytest.fixture
    def cache(self):
        return GuardedCache(LocalCache(ROOM))


class TestSharded(CacheKit):
    @pytest.fixture
    def cache(self):
        return ShardedCache({name: LocalCache(ROOM) for name in "abc"}, 2)


class TestWriteBehind(CacheKit):
    @pytest.fixture
    def cache(self):
        cache = WriteBehind(LocalCache(ROOM))
        yield cache
        cache.close()


class TestRedis(CacheKit):
    @pytest.fixture
    def cache(self, fresh_redis):
        cache = RedisCache(fresh_redis, timeout_s=5)
        yield cache
        cache.close()


class TestRedisCluster(CacheKit):
    @pytest.fixture
    def cache(self, cluster):
        cache = RedisCache(f"redis://127.0.0.1:{cluster.port}", cluster=True, timeout_s=5)
        for version in ("1" * 32, "2" * 32):
            cache.clear(version)
        yield cache
        cache.close()


class TestMemcached(CacheKit):
    @pytest.fixture
    def cache(self, fresh_memcached):
        cache = MemcachedCache(fresh_memcached, timeout_s=5)
        yield cache
        cache.close()


class TestRedisAndMemcachedBehind(CacheKit):
    @pytest.fixture
    def cache(self, fresh_redis, fresh_memcached):
        nodes = {"r": RedisCache(fresh_redis, timeout_s=5), "m": MemcachedCache(fresh_memcached, timeout_s=5)}
        cache = WriteBehind(ShardedCache(nodes, 2))
        yield cache
        cache.close()
