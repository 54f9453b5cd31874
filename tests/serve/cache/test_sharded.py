"""Rings, replicas, breakers, write-behind: nodes that die, come back, and are slow."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.serve.cache.servers import memcached_server, nonsense_server, redis_server

from shardwise.core.errors import ConfigError
from shardwise.serve.cache.base import CacheFailure
from shardwise.serve.cache.behind import WriteBehind
from shardwise.serve.cache.breaker import Breaker, GuardedCache
from shardwise.serve.cache.local import LocalCache
from shardwise.serve.cache.memcached_cache import MemcachedCache
from shardwise.serve.cache.opening import open_cache
from shardwise.serve.cache.redis_cache import RedisCache
from shardwise.serve.cache.sharded import Ring, ShardedCache
from shardwise.testing.caches import ONE, key

KEYS = [key(number) for number in range(2000)]


class Flaky(LocalCache):
    """Fails while `dead`; counts the calls that reach it."""

    def __init__(self) -> None:
        super().__init__(10_000_000)
        self.dead, self.calls = False, 0

    def get(self, version, keys):
        self._reached()
        return super().get(version, keys)

    def put(self, version, items, ttl_s=None):
        self._reached()
        super().put(version, items, ttl_s)

    def _reached(self):
        self.calls += 1
        if self.dead:
            raise CacheFailure("dead")


# -- the ring --------------------------------------------------------------------------------------------------------


@given(st.sets(st.text(min_size=1, max_size=5), min_size=1, max_size=6), st.integers(1, 8))
def test_owners_are_different_nodes_and_do_not_depend_on_the_order(names, count):
    ring, other = Ring(sorted(names)), Ring(sorted(names, reverse=True))
    for name in KEYS[:20]:
        owners = ring.owners(name, count)
        assert owners == other.owners(name, count)
        assert len(set(owners)) == len(owners) == min(count, len(names))
        assert owners[:1] == ring.owners(name)


def test_a_new_node_takes_its_share_and_moves_nothing_else():
    before, after = Ring(["a", "b", "c"]), Ring(["a", "b", "c", "d"])
    moved = [name for name in KEYS if before.owners(name) != after.owners(name)]
    assert {after.owners(name) for name in moved} == {("d",)}
    assert 0.15 < len(moved) / len(KEYS) < 0.35
    shares = [sum(after.owners(name) == (node,) for name in KEYS) for node in "abcd"]
    assert min(shares) > 0.6 * len(KEYS) / 4


# -- breakers --------------------------------------------------------------------------------------------------------


def test_a_breaker_opens_lets_one_try_and_closes():
    now = [0.0]
    node = Flaky()
    cache = GuardedCache(node, Breaker(3, 5.0, clock=lambda: now[0]))
    cache.put(ONE, {key(1): b"a"})
    node.dead, node.calls = True, 0
    for _ in range(10):
        assert cache.get(ONE, [key(1)]) == {}
    assert (node.calls, cache.breaker.state, cache.counters.errors) == (3, "open", 3)
    now[0] = 5.0
    assert cache.breaker.state == "half-open"
    assert cache.get(ONE, [key(1)]) == cache.get(ONE, [key(1)]) == {}
    assert node.calls == 4
    node.dead, now[0] = False, 10.0
    assert cache.get(ONE, [key(1)]) == {key(1): b"a"}
    assert cache.breaker.state == "closed"


def test_failures_must_follow_each_other():
    breaker = Breaker(2)
    for _ in range(5):
        breaker.failed()
        breaker.succeeded()
    assert breaker.passes()


# -- several nodes ---------------------------------------------------------------------------------------------------


def test_replicas_hold_each_value_and_stand_in():
    nodes = {name: Flaky() for name in "abc"}
    cache = ShardedCache(nodes, 2)
    items = dict.fromkeys(KEYS[:300], b"v")
    cache.put(ONE, items)
    assert sum(len(node) for node in nodes.values()) == 600
    for dead in nodes.values():
        dead.dead = True
        assert cache.get(ONE, list(items)) == items
        dead.dead = False
    nodes["a"].dead = nodes["b"].dead = True
    found = cache.get(ONE, list(items))
    assert 0 < len(found) < len(items)
    nodes["c"].dead = True
    assert cache.get(ONE, list(items)) == {}


@pytest.mark.parametrize("replicas", [0, 3])
def test_replicas_need_nodes(replicas):
    with pytest.raises(ConfigError, match="Give 1 to 2"):
        ShardedCache({"a": Flaky(), "b": Flaky()}, replicas)


def test_a_real_node_that_is_killed_is_missed_and_comes_back(tmp_path):
    with redis_server(tmp_path) as one, memcached_server() as two:
        now = [0.0]
        nodes = {"one": RedisCache(f"redis://127.0.0.1:{one.port}", timeout_s=5),
                 "two": MemcachedCache(f"memcached://127.0.0.1:{two.port}", timeout_s=5)}  # fmt: skip
        breakers = {name: Breaker(2, 5.0, clock=lambda: now[0]) for name in nodes}
        cache = ShardedCache(nodes, breakers=breakers)
        items = dict.fromkeys(KEYS[:200], b"v")
        cache.put(ONE, items)
        assert cache.get(ONE, list(items)) == items
        for server, name in ((one, "one"), (two, "two")):
            server.kill()
            for _ in range(4):
                assert 0 < len(cache.get(ONE, list(items))) < 200
                cache.put(ONE, dict(list(items.items())[:10]))
            assert breakers[name].state == "open"
            assert cache.nodes[name].counters.errors == 2
            server.start()
            now[0] += 5.0
            cache.put(ONE, items)
            assert cache.get(ONE, list(items)) == items
        cache.close()


# -- write-behind ----------------------------------------------------------------------------------------------------


class Slow(LocalCache):
    """Puts when `gate` is open."""

    def __init__(self) -> None:
        super().__init__(10_000_000)
        self.gate, self.closed = threading.Event(), False

    def put(self, version, items, ttl_s=None):
        assert self.gate.wait(30)
        super().put(version, items, ttl_s)

    def close(self):
        self.closed = True


def test_puts_do_not_wait_and_are_seen_at_once():
    node = Slow()
    cache = WriteBehind(node)
    items = dict.fromkeys(KEYS[:1000], b"v")
    cache.put(ONE, items)
    cache.put(ONE, {KEYS[0]: b"newer"})
    assert cache.get(ONE, KEYS[:1000]) == {**items, KEYS[0]: b"newer"}
    assert not cache.flush(0.05)
    node.gate.set()
    assert cache.flush(30)
    assert node.get(ONE, KEYS[:1000]) == {**items, KEYS[0]: b"newer"}
    cache.close()


def test_the_queue_is_bounded_and_close_writes_it():
    node = Slow()
    cache = WriteBehind(node, most_keys=300)
    for name in KEYS[:1000]:
        cache.put(ONE, {name: b"v"})
    kept = cache.counters.puts
    assert 300 <= kept <= 300 + 256  # what waits, and a batch that is being written
    assert cache.counters.dropped == 1000 - kept
    node.gate.set()
    cache.close()
    assert len(node) == kept
    assert node.closed


def test_a_node_that_fails_behind_is_counted():
    node = Flaky()
    node.dead = True
    cache = WriteBehind(node)
    cache.put(ONE, {key(1): b"a"})
    assert cache.flush(30)
    assert (cache.counters.errors, cache.counters.dropped) == (1, 1)
    cache.close()


NONSENSE = (
    b":5\r\n", b"$abc\r\n", b"*2\r\n:1\r\n:2\r\n", b"*1\r\n$-1\r\n", b",1.5x\r\n", b"+OK\r\n" * 9, b"\xff\0\r\n",
    b"VALUE other 0 2\r\nxx\r\nEND\r\n", b"VALUE k z 2\r\nxx\r\nEND\r\n", b"HTTP/1.1 400 Bad\r\n\r\n",
)  # fmt: skip


@pytest.mark.parametrize("reply", NONSENSE)
@pytest.mark.parametrize("kind", ["redis", "memcached"])
def test_a_node_that_answers_nonsense_is_a_dead_one(kind, reply):
    pytest.importorskip({"redis": "redis", "memcached": "pymemcache"}[kind])
    with nonsense_server(reply) as port:
        cache = open_cache([f"{kind}://127.0.0.1:{port}"], behind=True)
        cache.put(ONE, {key(1): b"a"})
        assert cache.flush(30)
        assert cache.get(ONE, KEYS[:2]) == {}
        cache.clear(ONE)
        cache.put(ONE, {key(1): b"a"})
        assert cache.flush(30)
        cache.close()


def test_values_of_redis_that_are_no_bytes_are_not_given(tmp_path):
    with redis_server(tmp_path) as server:
        cache = GuardedCache(RedisCache(f"redis://127.0.0.1:{server.port}/0?decode_responses=true"))
        cache.put(ONE, {key(1): b"a"})
        assert cache.get(ONE, [key(1)]) == {}
        assert cache.counters.errors == 1
        cache.close()


def test_what_was_cleared_is_not_written_later():
    node = Slow()
    cache = WriteBehind(node)
    cache.put(ONE, dict.fromkeys(KEYS[:1000], b"v"))
    threading.Timer(0.05, node.gate.set).start()
    cache.clear(ONE)
    assert cache.flush(30)
    assert cache.get(ONE, KEYS[:1000]) == {}
    cache.close()
