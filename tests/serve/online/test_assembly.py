"""Options of the cache, with real servers: answers lie on several nodes, and no request waits until they do."""

import errno
import io
import json

import pytest
from tests.serve.cache.servers import memcached_server, redis_server
from tests.serve.online.servers import PATIENCE_S, until
from tests.serve.online.test_protocol import patient
from tests.serve.online.test_server import ROW

from shardwise.core.errors import ConfigError
from shardwise.core.target import Task
from shardwise.registry.registry import Registry
from shardwise.serve.online.assembly import Assembly
from shardwise.serve.online.journal import Journal
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


class FullDisk(io.StringIO):
    def write(self, text):
        raise OSError(errno.ENOSPC, "no space is left")


@pytest.fixture
def assembly(packages, tmp_path):
    assembled = Assembly([f"m={packages[Task.BINARY]}"], Registry(tmp_path), ServeConfig(poll_s=0.01))
    yield assembled
    assembled.close()


def test_a_round_that_fails_is_told_and_the_next_one_comes(assembly, monkeypatch):
    told, rounds = io.StringIO(), []

    def broken(versions):
        rounds.append(versions)
        raise ZeroDivisionError

    monkeypatch.setattr(assembly.journal, "_stream", told)
    monkeypatch.setattr(assembly.routes.memory, "keep", broken)
    also = []
    assembly.start(lambda: also.append(1))
    until(lambda: len(rounds) >= 2 and len(also) >= 2, "the thread goes on")
    assert assembly.watches
    events = [json.loads(line) for line in told.getvalue().splitlines() if line.startswith("{")]
    assert [each["error"] for each in events if each["event"] == "round_failed"][:2] == ["ZeroDivisionError()"] * 2


def test_a_log_that_is_full_ends_nothing(assembly, monkeypatch):
    journal = Journal(FullDisk())
    monkeypatch.setattr(assembly, "journal", journal)
    monkeypatch.setattr(assembly.front, "_journal", journal)
    assembly.journal.tell("event")
    assert assembly.front.problem(ZeroDivisionError(), "predict", "id").status == 500
    slot = assembly.models.slots[0]
    monkeypatch.setattr(slot.source.__class__, "look", lambda self: 1 / 0)
    assembly.start()
    until(lambda: slot._failures >= 1, "a failure that cannot be told")
    assembly._watcher._thread.join(0.1)
    assert assembly.watches
