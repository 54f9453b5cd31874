"""The conformance kit of caches. Subclass it, say how one is made, and pytest does the rest."""

import threading
import time

import pytest

from shardwise.serve.cache.base import KEY_BYTES, Cache

ONE, TWO = "1" * 32, "2" * 32
_PATIENCE_S = 20.0


def key(number: int) -> bytes:
    """A key of all kinds of bytes."""
    return bytes((number * 37 + place * 13) % 256 for place in range(KEY_BYTES - 4)) + number.to_bytes(4, "big")


class CacheKit:
    """Laws of `Cache`; a subclass overrides the fixture `cache` with an empty one that has room for all of this."""

    @pytest.fixture
    def cache(self) -> Cache:
        raise NotImplementedError("the subclass gives an empty cache")

    def test_what_was_put_is_given(self, cache: Cache) -> None:
        items = {key(number): b"%d\r\n\x00" % number for number in range(1000)}
        cache.put(ONE, items)
        assert cache.get(ONE, list(items)) == items

    def test_what_was_not_put_is_left_out(self, cache: Cache) -> None:
        cache.put(ONE, {key(1): b"a"})
        assert cache.get(ONE, [key(2), key(1), key(3)]) == {key(1): b"a"}
        assert cache.get(ONE, []) == {}
        cache.put(ONE, {})

    def test_a_second_put_replaces(self, cache: Cache) -> None:
        cache.put(ONE, {key(1): b"a longer first value"})
        cache.put(ONE, {key(1): b"second"})
        assert cache.get(ONE, [key(1)]) == {key(1): b"second"}

    @pytest.mark.parametrize("value", [b"", b"\x00\xff\r\n END\r\n", b"x" * 100_000])
    def test_values_are_any_bytes(self, cache: Cache, value: bytes) -> None:
        cache.put(ONE, {key(1): value})
        assert cache.get(ONE, [key(1)]) == {key(1): value}

    @pytest.mark.parametrize("byte", [0, 10, 13, 32, 42, 127, 255])
    def test_keys_are_any_bytes(self, cache: Cache, byte: int) -> None:
        name = bytes([byte]) * KEY_BYTES
        cache.put(ONE, {name: b"a"})
        assert cache.get(ONE, [name, key(1)]) == {name: b"a"}

    def test_versions_know_nothing_of_each_other(self, cache: Cache) -> None:
        cache.put(ONE, {key(1): b"old"})
        assert cache.get(TWO, [key(1)]) == {}
        cache.put(TWO, {key(1): b"new"})
        assert cache.get(ONE, [key(1)]) == {key(1): b"old"}

    def test_clear_forgets_one_version(self, cache: Cache) -> None:
        items = {key(number): b"a" for number in range(50)}
        cache.put(ONE, items)
        cache.put(TWO, items)
        cache.clear(ONE)
        assert cache.get(ONE, list(items)) == {}
        assert cache.get(TWO, list(items)) == items
        cache.put(ONE, {key(1): b"b"})
        assert cache.get(ONE, list(items)) == {key(1): b"b"}

    def test_what_has_expired_is_not_given(self, cache: Cache) -> None:
        cache.put(ONE, {key(1): b"a"}, ttl_s=1.0)
        cache.put(ONE, {key(2): b"b"})
        until = time.monotonic() + _PATIENCE_S
        while cache.get(ONE, [key(1)]) and time.monotonic() < until:
            time.sleep(0.1)
        assert cache.get(ONE, [key(1), key(2)]) == {key(2): b"b"}

    def test_keys_are_counted(self, cache: Cache) -> None:
        cache.put(ONE, {key(1): b"a", key(2): b"b"})
        cache.get(ONE, [key(1), key(2), key(3)])
        counted = cache.counters.to_json()
        assert (counted["hits"], counted["misses"], counted["puts"], counted["errors"]) == (2, 1, 2, 0)
        assert cache.counters.hit_rate == pytest.approx(2 / 3)

    def test_threads_may_share_it(self, cache: Cache) -> None:
        wrong: list[object] = []

        def work(thread: int) -> None:
            for number in range(40):
                name = key(1000 * thread + number)
                cache.put(ONE, {name: b"%d" % thread})
                if cache.get(ONE, [name]) != {name: b"%d" % thread}:
                    wrong.append((thread, number))

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
