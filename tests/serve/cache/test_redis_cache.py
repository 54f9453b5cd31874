"""What only the cache in Redis does."""

import threading
import time

import pytest
from tests.serve.cache.servers import redis_server

from shardwise.serve.cache import opening
from shardwise.serve.cache.opening import open_cache
from shardwise.serve.cache.redis_cache import RedisCache


def test_threads_that_ask_first_at_once_share_one_client(monkeypatch):
    redis = pytest.importorskip("redis", reason="the client of Redis is not installed")
    made = []

    def slowly(url, **waits):
        time.sleep(0.05)
        made.append(url)
        return object()

    monkeypatch.setattr(redis.Redis, "from_url", slowly)
    cache = RedisCache("redis://127.0.0.1:1")
    together = threading.Barrier(4)

    def ask():
        together.wait()
        cache._client()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_valkey_is_asked_by_its_own_name(tmp_path):
    """Over a server of the protocol that both speak: Valkey where it is installed, else Redis."""
    with redis_server(tmp_path) as server:
        cache = open_cache([f"valkey://127.0.0.1:{server.port}/0"])
        cache.put("v", {b"k": b"answer"})
        assert cache.get("v", [b"k", b"other"]) == {b"k": b"answer"}
        cache.close()


@pytest.mark.parametrize("scheme", ["valkey", "valkeys", "valkey+cluster"])
def test_schemes_of_valkey_are_those_of_redis(scheme, monkeypatch):
    opened = []
    monkeypatch.setattr(opening, "RedisCache", lambda url, **told: opened.append((url, told["cluster"])))
    for name in (scheme, scheme.replace("valkey", "redis")):
        opening.CACHES[name](f"{name}://host:6379/1", None, 0.0)
    url = "rediss://host:6379/1" if scheme == "valkeys" else "redis://host:6379/1"
    assert opened == [(url, scheme.endswith("cluster"))] * 2
