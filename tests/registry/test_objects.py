"""Shelves in object stores: what is created once, what a store without conditional writes promises."""

import threading
import time

import pytest

from shardwise.core.errors import DataError
from shardwise.registry.leases import Lease
from shardwise.registry.objects import ObjectShelf
from shardwise.registry.shelf import FolderShelf


@pytest.fixture(params=["folder", "s3", "memory"])
def shelf(request, tmp_path):
    if request.param == "folder":
        return FolderShelf(tmp_path / "shelf")
    if request.param == "s3":
        return ObjectShelf(f"s3://models/shelf-{tmp_path.name}", request.getfixturevalue("s3"))
    return ObjectShelf(f"memory://{tmp_path.name}", lease=Lease(settle_s=0.05))


def test_a_file_is_created_once(shelf):
    assert shelf.create("a/b", b"1")
    assert not shelf.create("a/b", b"2")
    assert shelf.read("a/b") == b"1"
    assert shelf.names("a") == ["b"]
    assert shelf.names("nowhere") == []
    with pytest.raises(KeyError):
        shelf.read("a/c")


def test_of_many_that_create_at_once_one_wins(shelf):
    won = []
    barrier = threading.Barrier(6)

    def work(number):
        barrier.wait()
        if shelf.create("log/1", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert shelf.read("log/1") == str(won[0]).encode()


def test_a_folder_is_copied_fetched_and_removed(shelf, tmp_path):
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "manifest.json").write_text("{}")
    (source / "deep/x").write_bytes(b"\x00" * 1000)
    shelf.add_folder("m/p", source)
    shelf.fetch("m/p", ["deep/x", "manifest.json"], tmp_path / "copy")
    assert (tmp_path / "copy/deep/x").read_bytes() == b"\x00" * 1000
    shelf.remove_folder("m/p")
    shelf.remove_folder("m/p")
    assert shelf.names("m/p") == []


def test_who_promises_what(s3, tmp_path):
    assert ObjectShelf("s3://models/a", s3).guarantee == "atomic"
    assert ObjectShelf(f"memory://{tmp_path.name}").guarantee == "lease"
    assert FolderShelf(tmp_path).guarantee == "atomic"


def test_a_store_that_overlooks_the_condition_is_found_out(s3, monkeypatch):
    shelf = ObjectShelf("s3://models/old", s3, lease=Lease(settle_s=0.0))
    put = shelf._system.pipe_file
    monkeypatch.setattr(shelf._system, "pipe_file", lambda path, content, mode="overwrite": put(path, content))
    assert shelf.guarantee == "lease"
    assert shelf.create("x", b"1")
    assert not shelf.create("x", b"2")
    assert shelf.names("") == ["x"]


def test_a_lock_of_a_dead_writer_ends(tmp_path):
    shelf = ObjectShelf(f"memory://{tmp_path.name}", lease=Lease(settle_s=0.0, wait_s=0.3))
    shelf.replace("a/.lock", b'{"token": "dead", "until": %d}' % (time.time() + 1000))
    with pytest.raises(DataError, match=r"another writer holds"):
        shelf.create("a/x", b"1")
    shelf.replace("a/.lock", b'{"token": "dead", "until": %d}' % (time.time() - 1))
    assert shelf.create("a/x", b"1")
    with pytest.raises(KeyError):
        shelf.read("a/.lock")


def test_a_bucket_that_is_not_there_is_named(s3):
    with pytest.raises(DataError, match="no-such-bucket"):
        ObjectShelf("s3://no-such-bucket/x", s3).create("a", b"1")
