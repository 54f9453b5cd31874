"""The conformance kit of blob stores. Subclass it, say how one is made, and pytest does the rest."""

import pickle

import pytest

from shardwise.store.base import BlobStore


class BlobStoreKit:
    """Laws of `BlobStore`; a subclass overrides the fixture `blobs` with an empty store."""

    @pytest.fixture
    def blobs(self) -> BlobStore:
        raise NotImplementedError("the subclass gives an empty store")

    @pytest.mark.parametrize("content", [b"", b"\x00\xff", b"x" * 1_000_000])
    def test_what_is_written_is_read(self, blobs: BlobStore, content: bytes) -> None:
        blobs.write("a", content)
        assert blobs.read("a") == content

    def test_a_second_write_replaces(self, blobs: BlobStore) -> None:
        blobs.write("a", b"a longer first content")
        blobs.write("a", b"second")
        assert blobs.read("a") == b"second"
        assert list(blobs.keys()) == ["a"]

    def test_an_unknown_key_is_a_key_error(self, blobs: BlobStore) -> None:
        blobs.write("a/b", b"1")
        for key in ("missing", "a", "a/b/c"):
            with pytest.raises(KeyError):
                blobs.read(key)

    def test_keys_are_sorted_and_filtered_by_prefix(self, blobs: BlobStore) -> None:
        for key in ("b/2", "a/1", "b/10", "c"):
            blobs.write(key, b"")
        assert list(blobs.keys()) == ["a/1", "b/10", "b/2", "c"]
        assert list(blobs.keys("b/")) == ["b/10", "b/2"]
        assert list(blobs.keys("b/1")) == ["b/10"]
        assert list(blobs.keys("z")) == []

    def test_an_empty_store_has_no_keys(self, blobs: BlobStore) -> None:
        assert list(blobs.keys()) == []

    def test_remove_is_idempotent(self, blobs: BlobStore) -> None:
        blobs.write("a", b"1")
        blobs.write("b", b"2")
        blobs.remove("a")
        blobs.remove("a")
        assert list(blobs.keys()) == ["b"]

    @pytest.mark.parametrize("key", ["", "/a", "a/", "../a", "a/../b", ".a", "a b", "a\n", "a//b"])
    def test_a_key_that_could_leave_the_store_is_refused(self, blobs: BlobStore, key: str) -> None:
        with pytest.raises(ValueError, match="key"):
            blobs.write(key, b"")

    def test_a_pickled_store_is_the_same_store(self, blobs: BlobStore) -> None:
        pickle.loads(pickle.dumps(blobs)).write("a", b"1")  # noqa: S301 - our own bytes, as an executor sends them
        assert blobs.read("a") == b"1"
