"""The log of a name: order, conflicts, damage, checkpoints."""

import json
import threading

import pytest
from tests.registry.test_versions import version

from shardwise.core.errors import PackageError
from shardwise.registry import versions as events
from shardwise.registry.log import CHECKPOINT, Log
from shardwise.registry.shelf import FolderShelf


def add(state):
    return events.registered(version(state.last + 1), ("newest",))


@pytest.fixture
def log(tmp_path):
    return Log(FolderShelf(tmp_path), "m/log")


def test_an_empty_log_has_no_versions(log):
    assert log.head().number == 0
    assert log.commit(lambda state: None, {}).versions == {}
    assert log.last_number() == 0


def test_the_state_is_the_same_with_and_without_checkpoints(log):
    for _ in range(2 * CHECKPOINT + 3):
        written = log.commit(add, {"by": "me"})
    head = log.head()
    assert head.number == 2 * CHECKPOINT + 3
    assert head.state == written
    replayed = type(written)()
    for number in range(1, head.number + 1):
        replayed = replayed.apply(log.entry(number)["event"])
    assert replayed == head.state
    assert log.entry(5)["by"] == "me"


def test_threads_that_append_at_once_lose_nothing(log):
    def work():
        for _ in range(10):
            log.commit(add, {})

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(log.head().state.versions) == list(range(1, 61))
    assert log.last_number() == 60


def test_a_decision_is_taken_again_when_another_was_faster(log):
    seen = []

    def decide(state):
        if not seen:
            log.commit(add, {})
        seen.append(state.last)
        return add(state)

    assert log.commit(decide, {}).last == 2
    assert seen == [0, 1]


def test_an_entry_whose_answer_was_lost_counts_once(log, monkeypatch):
    create = FolderShelf.create
    monkeypatch.setattr(FolderShelf, "create", lambda shelf, path, content: create(shelf, path, content) and False)
    assert log.commit(add, {}).last == 1
    assert log.last_number() == 1


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda text: text[:-20], "damaged"),
        (lambda text: text.replace('"by": "me"', '"by": "you"'), "changed or damaged"),
        (lambda text: "[]", "damaged"),
        (lambda text: json.dumps({**json.loads(text), "format": 99}), "newer shardwise"),
        (lambda text: None, "missing"),
    ],
)
def test_damage_is_named(log, tmp_path, spoil, told):
    for _ in range(3):
        log.commit(add, {"by": "me"})
    path = tmp_path / "m/log/00000002.json"
    text = spoil(path.read_text())
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(PackageError, match=rf"{told}.*00000002\.json"):
        log.head()


def test_an_entry_of_another_log_does_not_follow(log, tmp_path):
    other = Log(FolderShelf(tmp_path), "other/log")
    for _ in range(2):
        log.commit(add, {"by": "me"})
        other.commit(add, {"by": "you"})
    (tmp_path / "other/log/00000002.json").replace(tmp_path / "m/log/00000002.json")
    with pytest.raises(PackageError, match="does not follow"):
        log.head()
