"""What only the cache in Redis does."""

import threading
import time

import pytest

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
