"""Policies, bounds and lives of the cache in this process."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.core.errors import ConfigError
from shardwise.serve.cache.local import ENTRY_BYTES, POLICIES, LocalCache
from shardwise.testing.caches import ONE, TWO, key

VALUE = b"12345678"
STEP = len(key(0)) + len(VALUE) + ENTRY_BYTES
TRACES = st.lists(st.integers(0, 12), max_size=120)


def run(cache, trace):
    """Whether each request was a hit; a miss is put."""
    hits = []
    for number in trace:
        hit = bool(cache.get(ONE, [key(number)]))
        if not hit:
            cache.put(ONE, {key(number): VALUE})
        hits.append(hit)
    return hits


def plain(policy, size, trace):
    """The same from the definition: uses, last use and time of putting of each entry."""
    uses, last, put, hits = {}, {}, {}, []
    for now, number in enumerate(trace):
        hits.append(number in uses)
        if number not in uses:
            if len(uses) == size:
                order = {
                    "lru": lambda k: last[k],
                    "lfu": lambda k: (uses[k], last[k]),
                    "mfu": lambda k: (-uses[k], -last[k]),
                    "ttl": lambda k: put[k],
                }[policy]
                gone = min(uses, key=order)
                for table in (uses, last, put):
                    del table[gone]
            uses[number], put[number] = 0, now
        uses[number] += 1
        last[number] = now
    return hits


@pytest.mark.parametrize("policy", POLICIES)
@given(trace=TRACES, size=st.integers(1, 8))
def test_each_policy_is_its_definition(policy, trace, size):
    assert run(LocalCache(size * STEP, policy), trace) == plain(policy, size, trace)


@pytest.mark.parametrize(("policy", "peer"), [("lru", "LRUCache"), ("lfu", "LFUCache")])
def test_hit_rates_are_those_of_cachetools(policy, peer):
    cachetools = pytest.importorskip("cachetools", reason="cachetools is not installed")
    trace = np.random.default_rng(0).zipf(1.2, 20_000) % 5000
    ours = np.mean(run(LocalCache(300 * STEP, policy), trace.tolist()))
    theirs, hits = getattr(cachetools, peer)(300), 0
    for number in trace.tolist():
        hits += number in theirs
        if number in theirs:
            _ = theirs[number]
        else:
            theirs[number] = 1
    assert ours >= 0.95 * hits / len(trace)


@pytest.mark.parametrize("policy", POLICIES)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2000), st.sampled_from([None, 1.0, 5.0])), max_size=80))
def test_size_stays_in_bounds_and_nothing_expired_is_given(policy, puts):
    now = [0.0]
    cache = LocalCache(5 * STEP, policy, clock=lambda: now[0])
    expires = {}
    for number, size, ttl_s in puts:
        now[0] += 0.7
        cache.put(ONE, {key(number): b"x" * size}, ttl_s)
        expires[key(number)] = (size, float("inf") if ttl_s is None else now[0] + ttl_s)
        assert cache.size_bytes <= cache.max_bytes
        for name, value in cache.get(ONE, list(expires)).items():
            assert len(value) == expires[name][0]
            assert expires[name][1] > now[0]
    cache.clear(ONE)
    assert (len(cache), cache.size_bytes) == (0, 0)


def test_what_has_expired_goes_before_what_has_not():
    now = [0.0]
    cache = LocalCache(2 * STEP, "lru", clock=lambda: now[0])
    cache.put(ONE, {key(1): VALUE}, 100.0)
    cache.put(ONE, {key(2): VALUE}, 1.0)
    now[0] = 2.0
    cache.put(ONE, {key(3): VALUE})
    assert cache.get(ONE, [key(1), key(2), key(3)]).keys() == {key(1), key(3)}
    assert cache.counters.evictions == 0


def test_lives_are_shortened_by_chance_and_never_lengthened():
    now = [0.0]
    cache = LocalCache(10_000 * STEP, ttl_s=10.0, jitter=0.5, clock=lambda: now[0], seed=0)
    keys = [key(number) for number in range(1000)]
    cache.put(ONE, dict.fromkeys(keys, VALUE), ttl_s=100.0)
    left = []
    for now[0] in (4.9, 7.5, 10.0):
        left.append(len(cache.get(ONE, keys)))
    assert left[0] == 1000
    assert 400 < left[1] < 600
    assert left[2] == 0


def test_a_value_without_room_is_dropped():
    cache = LocalCache(STEP)
    cache.put(ONE, {key(1): VALUE})
    cache.put(ONE, {key(2): b"x" * 10_000})
    assert cache.get(ONE, [key(1), key(2)]) == {key(1): VALUE}
    assert cache.counters.dropped == 1


@pytest.mark.parametrize("policy", POLICIES)
def test_memory_is_what_is_counted(policy):
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        cache = LocalCache(1_500 * STEP, policy, ttl_s=1000.0)
        for number in range(2_000):
            cache.put(TWO, {key(number): bytes(8)})
            cache.get(TWO, [key(number // 2)])
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.35 * cache.size_bytes < used < cache.max_bytes


@pytest.mark.parametrize(
    ("given", "told"), [({"policy": "lur"}, "'lru'"), ({"jitter": 1.0}, "jitter"), ({"jitter": -0.1}, "jitter")]
)
def test_what_cannot_be_is_refused(given, told):
    with pytest.raises(ConfigError, match=told):
        LocalCache(1000, **given)
