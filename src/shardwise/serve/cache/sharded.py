"""Several nodes as one cache: each key has its nodes on a ring, and a node that comes or goes moves few keys.

Karger et al. 1997, "Consistent hashing and random trees": https://doi.org/10.1145/258533.258660
"""

import bisect
import hashlib
from collections.abc import Mapping, Sequence

from shardwise.core.errors import ConfigError
from shardwise.serve.cache.base import Cache, Counters
from shardwise.serve.cache.breaker import Breaker, GuardedCache

POINTS = 160  # of each node on the ring: shares differ by about 8 %


class Ring:
    """Which nodes a key belongs to. The same on every machine: it depends on the names of the nodes alone."""

    def __init__(self, nodes: Sequence[str], points: int = POINTS) -> None:
        if not nodes or len(set(nodes)) != len(nodes):
            raise ConfigError(f"a ring needs nodes of different names, not {list(nodes)}")
        self.nodes = tuple(nodes)
        places = sorted((_place(f"{node}#{point}".encode()), node) for node in nodes for point in range(points))
        self._places = [place for place, _ in places]
        self._owners = [node for _, node in places]

    def owners(self, key: bytes, count: int = 1) -> tuple[str, ...]:
        """The `count` nodes of a key, the first one first; all of them where there are fewer."""
        start = bisect.bisect(self._places, _place(key))
        found: dict[str, None] = {}
        for step in range(len(self._owners)):
            found[self._owners[(start + step) % len(self._owners)]] = None
            if len(found) == min(count, len(self.nodes)):
                break
        return tuple(found)


class ShardedCache:
    """A `Cache` on several nodes, of which each key has `replicas`. Never fails: see `GuardedCache`.

    A value is put to all its nodes, and asked of the first one that answers. One that is missing there is computed
    again, and so comes back to a node that was empty.
    """

    def __init__(
        self, nodes: Mapping[str, Cache], replicas: int = 1, *, breakers: Mapping[str, Breaker] | None = None
    ) -> None:
        if not 1 <= replicas <= len(nodes):
            raise ConfigError(f"{replicas} replicas on {len(nodes)} nodes", hint=f"Give 1 to {len(nodes)}.")
        given = breakers or {}
        self.nodes = {name: GuardedCache(node, given.get(name)) for name, node in nodes.items()}
        self.replicas = replicas
        self.counters = Counters()
        self._ring = Ring(sorted(nodes))

    def get(self, version: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        left = list(keys)
        for rank in range(self.replicas):
            unanswered: list[bytes] = []
            for name, share in self._shares(left, rank).items():
                answer = self.nodes[name].ask(version, share)
                if answer is None:
                    unanswered += share
                else:
                    found |= answer
            left = unanswered
        self.counters.looked(len(keys), len(found))
        return found

    def put(self, version: str, items: Mapping[bytes, bytes], ttl_s: float | None = None) -> None:
        for rank in range(self.replicas):
            for name, share in self._shares(list(items), rank).items():
                self.nodes[name].put(version, {key: items[key] for key in share}, ttl_s)
        self.counters.add(puts=len(items))

    def clear(self, version: str) -> None:
        for node in self.nodes.values():
            node.clear(version)

    def close(self) -> None:
        for node in self.nodes.values():
            node.close()

    def _shares(self, keys: Sequence[bytes], rank: int) -> dict[str, list[bytes]]:
        """Keys by the node that is their `rank`-th."""
        shares: dict[str, list[bytes]] = {}
        for key in keys:
            shares.setdefault(self._ring.owners(key, rank + 1)[rank], []).append(key)
        return shares


def _place(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
