from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

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


def test_items_are_drawn_only_when_they_can_start(tmp_path: Path) -> None:
    work = Work()

    def items() -> Iterator[int]:
        for item in range(3):
            assert len(work.done) == item
            yield item

    assert len(records(tmp_path, work, items())) == 3
