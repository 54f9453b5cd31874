"""The SQLite journal: nothing acknowledged is lost, one writer, damage is said."""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shardwise.core.errors import ConfigError, DataError, DiskFull
from shardwise.store import journal as module
from shardwise.store.journal import SqliteJournal
from shardwise.testing.journals import JournalKit


class TestSqliteJournal(JournalKit):
    @pytest.fixture
    def reopen(self, tmp_path: Path):
        opened = []

        def anew() -> SqliteJournal:
            while opened:
                opened.pop().close()
            opened.append(SqliteJournal(tmp_path / "journal.db"))
            return opened[-1]

        yield anew
        opened.pop().close()


WRITER = """
import sys
from pathlib import Path
from shardwise.store.journal import SqliteJournal
with SqliteJournal(Path(sys.argv[1])) as journal:
    number = len(journal)
    while True:
        journal.append([{"kind": "a", "number": number}, {"kind": "b", "number": number + 1}])
        number += 2
        print(number, flush=True)
"""


def start_writer(path: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)


def test_no_acknowledged_append_is_lost_when_the_writer_is_killed_20_times(tmp_path):
    path, chance = tmp_path / "journal.db", random.Random(1)
    for _ in range(20):
        with start_writer(path) as writer:
            first = writer.stdout.readline()
            time.sleep(chance.uniform(0, 0.02))
            writer.send_signal(signal.SIGKILL)
            acknowledged = int((first + writer.stdout.read()).splitlines()[-1])
        with SqliteJournal(path, read_only=True) as journal:
            numbers = [record["number"] for record in journal.read()]
        assert len(numbers) >= acknowledged
        assert numbers == list(range(len(numbers)))
        assert len(numbers) % 2 == 0  # both records of an append, or none


def test_a_second_writer_is_told_the_pid_of_the_first_and_a_reader_is_let_in(tmp_path):
    path = tmp_path / "journal.db"
    with start_writer(path) as writer:
        writer.stdout.readline()
        with pytest.raises(ConfigError, match=rf"pid {writer.pid}\)"):
            SqliteJournal(path)
        with SqliteJournal(path, read_only=True) as journal:
            assert len(journal) >= 2
        writer.kill()
        writer.stdout.read()
    with SqliteJournal(path), pytest.raises(ConfigError, match="another process"):
        SqliteJournal(path)


def test_an_open_that_fails_releases_the_lock(tmp_path):
    path = tmp_path / "journal.db"
    path.write_bytes(b"this is no database " * 100)
    for _ in range(2):
        with pytest.raises(DataError, match="damaged"):
            SqliteJournal(path)


def test_a_damaged_file_is_said(tmp_path):
    path = tmp_path / "journal.db"
    with SqliteJournal(path) as journal:
        journal.append([{"kind": "a", "text": "x" * 500, "number": number} for number in range(500)])
    content = bytearray(path.read_bytes())
    for place in range(4096, len(content), 512):
        content[place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        list(SqliteJournal(path, read_only=True).read())


def test_a_flipped_bit_in_a_record_is_found_by_its_checksum(tmp_path):
    path = tmp_path / "journal.db"
    with SqliteJournal(path) as journal:
        journal.append([{"kind": "a", "score": 1}, {"kind": "a", "score": 123456}])
    path.write_bytes(path.read_bytes().replace(b"123456", b"923456"))
    with SqliteJournal(path) as journal, pytest.raises(DataError, match="record 1 does not match"):
        list(journal.read())


def test_another_database_is_not_touched(tmp_path):
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(DataError, match="not a journal"):
        SqliteJournal(path)
    assert path.read_bytes() == before


def test_a_newer_format_asks_for_an_upgrade(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CREATE", module._CREATE.replace("user_version = 1", "user_version = 2"))
    SqliteJournal(tmp_path / "journal.db").close()
    with pytest.raises(DataError, match=r"version 2.*Upgrade"):
        SqliteJournal(tmp_path / "journal.db")


def test_reading_what_is_not_there_creates_nothing(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        SqliteJournal(tmp_path / "journal.db", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_closed_journal_is_read_where_nothing_can_be_written(tmp_path, monkeypatch):
    path = tmp_path / "journal.db"
    with SqliteJournal(path) as journal:
        journal.append([{"kind": "a"}])
    monkeypatch.setattr(module.os, "access", lambda *args: False)
    with SqliteJournal(path, read_only=True) as journal:
        assert list(journal.read()) == [{"kind": "a"}]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["journal.db", "journal.db.lock"]


def test_a_full_disk_is_our_error_and_appends_nothing(tmp_path):
    with SqliteJournal(tmp_path / "journal.db") as journal:
        journal.append([{"kind": "a"}])
        pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
        journal._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(DiskFull, match="no space"):
            journal.append([{"kind": "b", "text": "x" * 100_000}])
        assert list(journal.read()) == [{"kind": "a"}]


def test_a_folder_that_cannot_be_made_is_our_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="a file was given where a folder is needed"):
        SqliteJournal(tmp_path / "file" / "journal.db")
