"""A package as bytes."""

from pathlib import Path

import pytest

from shardwise.core.errors import PackageError
from shardwise.registry.archive import pack, unpack
from shardwise.store.files import hash_folder


def folder(place: Path) -> Path:
    (place / "a").mkdir(parents=True)
    (place / "a" / "x.bin").write_bytes(bytes(range(256)))
    (place / "manifest.json").write_text("{}")
    return place


def test_what_was_packed_is_unpacked(tmp_path: Path) -> None:
    there = folder(tmp_path / "there")
    unpack(pack(there), tmp_path / "here")
    assert hash_folder(tmp_path / "here") == hash_folder(there)


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    assert pack(folder(tmp_path / "one")) == pack(folder(tmp_path / "two"))


def test_other_bytes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="no package"):
        unpack(b"PK?", tmp_path)
