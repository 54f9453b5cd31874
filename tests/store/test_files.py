"""Atomic files and folders: whole or not at all, whatever happens."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from shardwise.core.errors import DataError, DiskFull
from shardwise.store import files
from shardwise.store.files import (
    hash_file,
    hash_folder,
    remove_leftovers,
    replace_folder,
    staged_file,
    staged_folder,
    standing_folder,
    write_atomic,
)


def fill(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("a", "b"):
        (folder / name).write_text(text)


def fail_after(_written: object) -> None:
    raise ZeroDivisionError


def content(folder: Path) -> set[str]:
    return {path.read_text() for path in folder.iterdir()}


@pytest.fixture(params=["exchange", "two renames"])
def swap(request, monkeypatch):
    """Both ways to put a folder in the place of another."""
    if request.param == "two renames":
        monkeypatch.setattr(files, "_exchange", lambda temp, final: False)


def test_a_file_is_written_and_replaced_and_nothing_else_stays(tmp_path):
    path = tmp_path / "new" / "file.json"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.json"]


def test_a_file_has_the_permissions_that_an_ordinary_one_has(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_atomic(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_writing_through_a_link_replaces_what_it_points_to(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_atomic(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_an_error_in_the_block_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, b"old")
    with pytest.raises(ZeroDivisionError), staged_file(path) as temp:
        fail_after(temp.write_bytes(b"half"))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_and_a_missing_permission_are_our_errors(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(DiskFull, match=r"no space .*out\.bin"):
        write_atomic(tmp_path / "out.bin", b"x")
    assert list(tmp_path.iterdir()) == []

    def denied(self, *args, **kwargs):
        raise PermissionError(errno.EACCES, "denied", str(self))

    monkeypatch.setattr(Path, "touch", denied)
    with pytest.raises(DataError, match="permission denied"):
        write_atomic(tmp_path / "out.bin", b"x")


def test_a_folder_where_a_file_is_needed_and_the_other_way_round(tmp_path):
    fill(tmp_path / "folder", "1")
    with pytest.raises(DataError, match="folder was given"):
        write_atomic(tmp_path / "folder", b"x")
    (tmp_path / "file").write_text("keep")
    with pytest.raises(DataError, match="a file stands"), staged_folder(tmp_path / "file") as temp:
        fill(temp, "1")
    assert (tmp_path / "file").read_text() == "keep"
    with pytest.raises(DataError, match="file was given"):
        write_atomic(tmp_path / "file" / "below", b"x")


@pytest.mark.usefixtures("swap")
def test_a_folder_is_written_and_replaced_and_nothing_else_stays(tmp_path):
    final = tmp_path / "package"
    for text in ("one", "two", "three"):
        with staged_folder(final) as temp:
            fill(temp, text)
        assert content(final) == {text}
        assert list(tmp_path.iterdir()) == [final]


def test_an_error_in_the_block_leaves_the_old_folder(tmp_path):
    final = tmp_path / "package"
    fill(final, "old")
    with pytest.raises(ZeroDivisionError), staged_folder(final) as temp:
        fail_after(fill(temp, "half"))
    assert content(final) == {"old"}
    assert list(tmp_path.iterdir()) == [final]


def test_replace_folder_takes_any_folder(tmp_path):
    fill(tmp_path / "made", "new")
    fill(tmp_path / "final", "old")
    replace_folder(tmp_path / "made", tmp_path / "final")
    assert content(tmp_path / "final") == {"new"}
    assert not (tmp_path / "made").exists()


def test_a_kill_between_two_renames_is_found_and_mended(tmp_path, monkeypatch):
    final, aside = tmp_path / "package", tmp_path / ".package.aside"
    fill(aside, "old")
    assert content(standing_folder(final)) == {"old"}
    with staged_folder(final) as temp:
        fill(temp, "new")
    assert content(standing_folder(final)) == {"new"}
    assert list(tmp_path.iterdir()) == [final]
    fill(aside, "old")  # killed after the second rename
    assert content(standing_folder(final)) == {"new"}


def test_a_reader_finds_a_folder_at_every_instant(tmp_path):
    final = tmp_path / "package"
    fill(final, "0")
    missing, done = [], threading.Event()

    def watch():
        while not done.is_set():
            if not final.is_dir():
                missing.append(time.monotonic())

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(60):
        with staged_folder(final) as temp:
            fill(temp, str(number))
    done.set()
    watcher.join()
    assert missing == []


WRITER = """
import sys
from pathlib import Path
from shardwise.store.files import staged_folder
number = 0
while True:
    with staged_folder(Path(sys.argv[1])) as temp:
        for name in "ab":
            (temp / name).write_text(str(number))
    number += 1
    print(number, flush=True)
"""


def test_a_killed_writer_leaves_a_whole_folder_and_its_leftovers_are_removed(tmp_path):
    final = tmp_path / "package"
    for round_ in range(4):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(final)], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(0.003 * round_)
            process.send_signal(signal.SIGKILL)
        assert len(content(final)) == 1
        assert sorted(path.name for path in final.iterdir()) == ["a", "b"]
    remove_leftovers(tmp_path, "package")
    assert list(tmp_path.iterdir()) == [final]


def test_leftovers_of_living_writers_and_of_other_names_stay(tmp_path):
    token = "0123456789ab"
    dead, other, user = tmp_path / f".out.{token}.tmp", tmp_path / f".out.x.{token}.tmp", tmp_path / ".out.tmp"
    for path in (dead, other, user):
        path.write_bytes(b"")
    with staged_file(tmp_path / "out") as temp:
        remove_leftovers(tmp_path, "out")
        assert temp.exists()
    assert (dead.exists(), other.exists(), user.exists()) == (False, True, True)
    remove_leftovers(tmp_path)
    assert (other.exists(), user.exists()) == (False, True)


def test_hashes_depend_on_content_and_place_alone(tmp_path):
    for name in ("one", "two"):
        fill(tmp_path / name / "sub", "x")
    shutil.copytree(tmp_path / "one", tmp_path / "three")
    (tmp_path / "three" / "sub" / "a").rename(tmp_path / "three" / "sub" / "c")
    assert hash_folder(tmp_path / "one") == hash_folder(tmp_path / "two") != hash_folder(tmp_path / "three")
    assert hash_file(tmp_path / "one" / "sub" / "a") == hash_file(tmp_path / "two" / "sub" / "b")
    assert len(hash_file(tmp_path / "one" / "sub" / "a")) == 64


def test_a_folder_with_a_link_is_not_hashed(tmp_path):
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match="no links"):
        hash_folder(tmp_path)


def test_a_file_is_created_once(tmp_path: Path) -> None:
    assert files.create_atomic(tmp_path / "deep/a", b"1")
    assert not files.create_atomic(tmp_path / "deep/a", b"2")
    assert (tmp_path / "deep/a").read_bytes() == b"1"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a"]


def test_a_file_is_created_once_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refused)
    test_a_file_is_created_once(tmp_path)
    monkeypatch.setattr(files, "_rename", lambda temp, final, flags: errno.EINVAL)
    with pytest.raises(DataError, match="neither link"):
        files.create_atomic(tmp_path / "b", b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]


def test_a_folder_is_removed_whole_whatever_a_killed_process_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ".kept"
    files.remove_folder(folder)  # it is not there
    for _ in range(2):
        folder.mkdir(exist_ok=True)
        (folder / "a").write_bytes(b"1")
        with monkeypatch.context() as killed:
            killed.setattr(os, "unlink", _killed)
            with pytest.raises(KeyboardInterrupt):
                files.remove_folder(folder)
    assert folder.exists()  # before the second one what the first has left would have to go
    files.remove_folder(folder)
    assert not list(tmp_path.iterdir())


def _killed(*_args: object, **_named: object) -> None:
    raise KeyboardInterrupt
