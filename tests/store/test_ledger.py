"""Work units: done once, also over restarts."""

import json
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.core.errors import DataError
from shardwise.store.blobs import FolderBlobs
from shardwise.store.journal import SqliteJournal
from shardwise.store.ledger import Ledger, unit_key

SCALARS = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@pytest.fixture
def restart(tmp_path: Path):
    journals = []

    def anew() -> Ledger:
        while journals:
            journals.pop().close()
        journals.append(SqliteJournal(tmp_path / "journal.db"))
        return Ledger(journals[-1], FolderBlobs(tmp_path / "blobs"))

    yield anew
    while journals:
        journals.pop().close()


def test_work_is_done_once_over_restarts(restart):
    calls = []

    def work(unit):
        calls.append(unit)
        return {"rows": np.int64(len(calls)), "columns": ("a",)}, unit.encode()

    for _ in range(3):
        ledger = restart()
        records = [ledger.once(unit, lambda unit=unit: work(unit)) for unit in ("p0", "p1")]
        assert records == [{"rows": 1, "columns": ["a"]}, {"rows": 2, "columns": ["a"]}]
        assert [ledger.content(unit) for unit in ("p0", "p1")] == [b"p0", b"p1"]
    assert calls == ["p0", "p1"]
    assert (ledger.reused, ledger.worked) == (2, 0)


def test_the_record_is_the_same_before_and_after_a_restart(restart):
    ledger = restart()
    ledger.put("u", {"score": np.float64(0.5), "folds": (1, 2), "by": {1: "a"}})
    before = ledger.get("u")
    assert json.dumps(before) == json.dumps(restart().get("u"))


def test_a_unit_that_fails_is_not_done(restart):
    ledger = restart()
    with pytest.raises(ZeroDivisionError):
        ledger.once("u", lambda: 1 // 0)
    assert ledger.get("u") is None
    assert list(ledger.journal.read()) == []


def test_a_later_put_takes_the_place_of_an_earlier_one(restart):
    ledger = restart()
    ledger.put("u", {"n": 1}, b"one")
    ledger.put("u", {"n": 2}, b"two")
    for current in (ledger, restart()):
        assert current.get("u") == {"n": 2}
        assert current.content("u") == b"two"


def test_other_records_in_the_journal_are_left_alone(restart):
    ledger = restart()
    ledger.journal.append([{"kind": "finding", "text": "x"}])
    ledger.put("u", {})
    assert [record["kind"] for record in restart().journal.read()] == ["finding", "unit"]


def test_a_unit_without_bytes_has_none(restart):
    ledger = restart()
    ledger.put("u", {})
    with pytest.raises(KeyError):
        ledger.content("u")
    with pytest.raises(KeyError):
        ledger.content("unknown")


def test_a_removed_blob_means_not_done_and_a_damaged_one_is_said(restart):
    ledger = restart()
    ledger.put("kept", {}, b"kept")
    ledger.put("lost", {}, b"lost")
    kept, lost = (record["blob"] for record in ledger.journal.read())
    ledger.blobs.remove(lost)
    ledger.blobs.write(kept, b"kepT")
    ledger = restart()
    assert ledger.get("lost") is None
    with pytest.raises(DataError, match="does not match its hash"):
        ledger.content("kept")


def test_a_kill_between_blob_and_record_loses_only_that_unit(restart, monkeypatch):
    ledger = restart()
    ledger.put("u", {"n": 1}, b"one")

    def killed(records):
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger.journal, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        ledger.put("v", {"n": 2}, b"two")
    ledger = restart()
    assert (ledger.get("u"), ledger.get("v")) == ({"n": 1}, None)
    assert ledger.once("v", lambda: ({"n": 2}, b"two")) == {"n": 2}


@given(VALUES, VALUES)
def test_keys_are_equal_exactly_when_the_parts_are(left, right):
    same = json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
    assert (unit_key(left) == unit_key(right)) is same
    assert unit_key(left, right) != unit_key([left, right])


class Colour(StrEnum):
    RED = "red"


def test_keys_take_what_configs_are_made_of_and_refuse_the_rest():
    assert unit_key((1, 2), Colour.RED, np.float64(0.5)) == unit_key([1, 2], "red", 0.5)
    for value in ({1, 2}, b"x", object(), np.arange(2)):
        with pytest.raises(TypeError):
            unit_key(value)
