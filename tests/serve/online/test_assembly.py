"""Options of the cache, with real servers: answers lie on several nodes, and no request waits until they do."""

import pytest
from tests.serve.cache.servers import memcached_server, redis_server
from tests.serve.online.servers import PATIENCE_S, until
from tests.serve.online.test_protocol import patient
from tests.serve.online.test_server import ROW

from shardwise.core.errors import ConfigError
from shardwise.core.target import Task
from shardwise.serve.online.settings import ServeConfig

httpx = pytest.importorskip("httpx")


def test_answers_lie_on_each_replica_and_outlive_a_node(packages, tmp_path):
    with redis_server(tmp_path) as first, memcached_server() as second:
        redis, memcached = pytest.importorskip("redis"), pytest.importorskip("pymemcache")
        stores = redis.Redis(port=first.port), memcached.Client(("127.0.0.1", second.port))
        words = {"cache": [f"redis://127.0.0.1:{first.port}", f"memcached://127.0.0.1:{second.port}"],
                 "cache_replicas": 2, "cache_behind": "true"}  # fmt: skip
        config = {name: getattr(ServeConfig.from_words(words), name) for name in words}
        rows = [{**ROW, "x": number / 10} for number in range(6)]
        opened = patient(packages[Task.BINARY], header_s=PATIENCE_S, **config)
        with opened as (host, port), httpx.Client(base_url=f"http://{host}:{port}", timeout=PATIENCE_S) as client:
            before = [client.post("/predict", json=row).json() for row in rows]
            until(lambda: stores[0].dbsize() >= len(rows), "all lie on the one")
            until(lambda: stores[1].stats()[b"curr_items"] >= len(rows), "and on the other")
            first.kill()
            assert [client.post("/predict", json=row).json() for row in rows] == before
            told = client.get("/metrics").text.splitlines()
            hits = next(line for line in told if line.startswith("shardwise_cache_hits_total"))
            assert float(hits.split()[-1]) == len(rows)
        for store in stores:
            store.close()


@pytest.mark.parametrize(
    "words",
    [
        {"cache_replicas": 2},
        {"cache_replicas": 3, "cache": ["memory", "memory:1MB"]},
        {"cache_replicas": 2, "cache": ["memory", "memory"]},
        {"cache_replicas": 0},
    ],
)
def test_more_replicas_than_caches_are_refused(words):
    with pytest.raises(ConfigError, match=r"replicas on .* caches"):
        ServeConfig.from_words(words)
