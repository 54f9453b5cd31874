from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from shardwise.compute.base import NOT_YET, NotYet
from shardwise.compute.local import InlineExecutor
from shardwise.store.blobs import FolderBlobs
from shardwise.store.journal import SqliteJournal
from shardwise.store.ledger import Ledger
from shardwise.train.units import run_units


class Work:
    """Squares numbers, and remembers which."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def __call__(self, item: int) -> Mapping[str, Any]:
        if item < 0:
            raise ValueError(item)
        self.done.append(item)
        return {"square": item * item, "cut": item == 7}


def records(folder: Path, work: Work, items: Iterator[int] | list[int]) -> list[tuple[int, int]]:
    with SqliteJournal(folder / "journal.db") as journal:
        ledger = Ledger(journal, FolderBlobs(folder / "blobs"))
        found = run_units(ledger, InlineExecutor(), work, items, key=str, final=lambda record: not record["cut"])
        return [(item, record["square"]) for item, record in found]


def test_what_is_journalled_is_not_done_again_and_the_order_stays(tmp_path: Path) -> None:
    work = Work()
    assert records(tmp_path, work, [3, 5]) == [(3, 9), (5, 25)]
    assert records(tmp_path, work, [1, 3, 2, 5, 4]) == [(1, 1), (3, 9), (2, 4), (5, 25), (4, 16)]
    assert records(tmp_path, work, [5, 4, 3]) == [(5, 25), (4, 16), (3, 9)]
    assert work.done == [3, 5, 1, 2, 4]


def test_a_record_that_is_not_final_is_worked_again(tmp_path: Path) -> None:
    work = Work()
    assert records(tmp_path, work, [7]) == records(tmp_path, work, [7])
    assert work.done == [7, 7]


def test_an_error_ends_it_and_what_was_done_before_stays(tmp_path: Path) -> None:
    work = Work()
    with pytest.raises(ValueError, match="-1"):
        records(tmp_path, work, [1, -1, 2])
    assert records(tmp_path, work, [1, 2]) == [(1, 1), (2, 4)]
    assert work.done == [1, 2]


def test_what_failed_may_have_a_record_which_is_tried_again(tmp_path: Path) -> None:
    def failed(item: int, error: BaseException) -> Mapping[str, Any] | None:
        return {"why": str(error)} if item == -1 else None

    with SqliteJournal(tmp_path / "journal.db") as journal:
        ledger = Ledger(journal, FolderBlobs(tmp_path / "blobs"))
        for _ in range(2):
            found = dict(run_units(ledger, InlineExecutor(), Work(), [1, -1, 2], key=str, failed=failed))
            assert found[-1] == {"why": "-1"}
            assert (found[1]["square"], found[2]["square"]) == (1, 4)
            assert ledger.get("-1") is None
        with pytest.raises(ValueError, match="-2"):
            list(run_units(ledger, InlineExecutor(), Work(), [-2], key=str, failed=failed))


def test_items_are_drawn_only_when_they_can_start(tmp_path: Path) -> None:
    work = Work()

    def items() -> Iterator[int]:
        for item in range(3):
            assert len(work.done) == item
            yield item

    assert len(records(tmp_path, work, items())) == 3


def test_items_may_depend_on_records_also_on_those_of_the_journal(tmp_path: Path) -> None:
    """Each item is the square of the one before: the journal's records are handed on before more is asked."""
    work = Work()

    def run(many: int) -> list[int]:
        told: list[int] = []

        def items() -> Iterator[int | NotYet]:
            yield 2
            for number in range(1, many):
                while len(told) < number:
                    yield NOT_YET
                yield told[-1]

        with SqliteJournal(tmp_path / "journal.db") as journal:
            ledger = Ledger(journal, FolderBlobs(tmp_path / "blobs"))
            for _, record in run_units(ledger, InlineExecutor(), work, items(), key=str):
                told.append(record["square"])
        return told

    assert run(3) == [4, 16, 256]
    assert run(5) == [4, 16, 256, 65536, 65536**2]
    assert work.done == [2, 4, 16, 256, 65536]


def test_records_that_never_come_end_it(tmp_path: Path) -> None:
    def items() -> Iterator[int | NotYet]:
        yield 3
        while True:
            yield NOT_YET

    with SqliteJournal(tmp_path / "journal.db") as journal:
        ledger = Ledger(journal, FolderBlobs(tmp_path / "blobs"))
        for _ in range(2):  # worked, then from the journal
            assert len(list(run_units(ledger, InlineExecutor(), Work(), items(), key=str))) == 1
