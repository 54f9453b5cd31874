"""Blobs in a folder."""

from pathlib import Path

import pytest

from shardwise.store.blobs import FolderBlobs
from shardwise.testing.blobs import BlobStoreKit


class TestFolderBlobs(BlobStoreKit):
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> FolderBlobs:
        return FolderBlobs(tmp_path / "blobs")


def test_what_a_dead_writer_left_is_no_blob_and_is_swept(tmp_path):
    blobs = FolderBlobs(tmp_path)
    blobs.write("a/b", b"1")
    leftover = tmp_path / "a" / f".b.{'0' * 12}.tmp"
    leftover.write_bytes(b"half")
    assert list(blobs.keys()) == ["a/b"]
    blobs.sweep()
    assert not leftover.exists()
    assert blobs.read("a/b") == b"1"
