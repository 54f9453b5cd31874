"""The conformance kit of journals. Subclass it, say how one is opened, and pytest does the rest."""

from collections.abc import Callable

import pytest

from shardwise.store.base import Journal

Reopen = Callable[[], Journal]


class JournalKit:
    """Laws of `Journal`; a subclass overrides `reopen`, which gives the journal anew, as after a restart."""

    @pytest.fixture
    def reopen(self) -> Reopen:
        raise NotImplementedError("the subclass gives a function that opens its journal anew")

    def test_a_new_journal_is_empty(self, reopen: Reopen) -> None:
        assert list(reopen().read()) == []

    def test_records_come_back_in_order_and_after_a_restart(self, reopen: Reopen) -> None:
        records = [{"kind": "trial", "number": number} for number in range(3000)]
        journal = reopen()
        journal.append(records[:1])
        journal.append([])
        journal.append(records[1:])
        assert list(journal.read()) == records
        assert list(reopen().read()) == records

    @pytest.mark.parametrize("start", [0, 1, 4, 5, 99])
    def test_reading_starts_at_a_record_number(self, reopen: Reopen, start: int) -> None:
        records = [{"kind": "a", "number": number} for number in range(5)]
        journal = reopen()
        journal.append(records)
        assert list(journal.read(start)) == records[start:]

    def test_values_keep_their_types(self, reopen: Reopen) -> None:
        record = {"kind": "a", "x": [1, 2.5, None, True, "é😀\n\x00"], "nested": {"big": 2**70, "inf": float("inf")}}
        reopen().append([record])
        assert list(reopen().read()) == [record]

    def test_a_batch_with_a_bad_record_is_not_appended_at_all(self, reopen: Reopen) -> None:
        journal = reopen()
        with pytest.raises(TypeError):
            journal.append([{"kind": "good"}, {"kind": "bad", "value": object()}])
        with pytest.raises(ValueError, match="kind"):
            journal.append([{"kind": "good"}, {"value": 1}])
        assert list(journal.read()) == []

    def test_records_appended_while_reading_are_seen(self, reopen: Reopen) -> None:
        journal = reopen()
        journal.append([{"kind": "a", "number": 0}])
        seen = []
        for record in journal.read():
            seen.append(record["number"])
            if len(seen) < 3:
                journal.append([{"kind": "a", "number": len(seen)}])
        assert seen == [0, 1, 2]
