from collections.abc import Iterator

import pytest

from shardwise.data import reading
from shardwise.data.reading import ReadingClock


class Time:
    """In the place of the module `time`."""

    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


def test_what_is_done_with_rows_is_no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    time, clock = Time(), ReadingClock()
    monkeypatch.setattr(reading, "time", time)

    def rows() -> Iterator[int]:
        for number in range(3):
            time.now_s += 1.0
            with clock.running():  # inside of another one: once
                time.now_s += 1.0
            yield number

    found = []
    for number in clock.each(rows()):
        found.append(number)
        time.now_s += 10.0
    assert (found, clock.seconds()) == ([0, 1, 2], 6.0)


def test_a_reading_that_is_under_way_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    time, clock = Time(), ReadingClock()
    monkeypatch.setattr(reading, "time", time)
    with clock.running():
        time.now_s += 2.0
        assert clock.seconds() == 2.0
    time.now_s += 5.0
    assert clock.seconds() == 2.0
