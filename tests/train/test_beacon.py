import json
from pathlib import Path
from typing import Any

import pytest

from shardwise.data.reading import READING
from shardwise.train import beacon
from shardwise.train.beacon import Beacon, beacon_in


def told(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("*.json")
    return dict(json.loads(path.read_text()))


class Time:
    """In the place of the module `time`."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    monkeypatch.setattr("shardwise.data.reading.time", clock)
    monkeypatch.setattr(beacon, "time", clock)
    return clock


def test_work_reading_and_waiting_add_up(tmp_path: Path, time: Time) -> None:
    mine = Beacon(tmp_path)
    with mine.fitting(3, 1, "a"):
        time.now_s += 2.0  # to load a library, say
        with READING.running():
            time.now_s += 1.0
            assert mine.told()["read_s"] == 1.0
        mine.saw(500)
        time.now_s += 4.0
        mine.saw(500)
        assert mine.told()["busy"]
    time.now_s += 5.0
    with mine.fitting(4, 0):
        pass
    found = told(tmp_path)
    assert (found["rows"], found["work_s"], found["read_s"], found["wait_s"]) == (1000, 6.0, 1.0, 5.0)
    assert found["fits"] == [[3, 1, 500, 4.0, "a"], [4, 0, 0, 0.0, ""]]  # the pace counts from the first rows on
    assert not found["busy"]


def test_a_fit_is_told_of_while_it_goes_on_and_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beacon, "TELL_S", 0.01)
    mine = Beacon(tmp_path)
    with pytest.raises(ValueError, match="as asked"):
        fail_once_told(mine, tmp_path)
    assert not told(tmp_path)["busy"]


def fail_once_told(mine: Beacon, folder: Path) -> None:
    with mine.fitting(1, 0):
        mine.saw(7)
        while not any(json.loads(path.read_text())["rows"] == 7 for path in folder.glob("*.json")):
            pass
        raise ValueError("as asked")


def test_fits_are_counted_beyond_those_that_are_kept(tmp_path: Path) -> None:
    mine = Beacon(tmp_path)
    for trial in range(beacon.KEPT_FITS + 2):
        with mine.fitting(trial, 0, f"unit {trial}"):
            pass
    found = told(tmp_path)
    assert found["begun"] == beacon.KEPT_FITS + 2
    assert [fit[4] for fit in found["fits"]] == [f"unit {trial}" for trial in range(2, beacon.KEPT_FITS + 2)]


def test_how_far_a_fit_is_belongs_to_that_fit(tmp_path: Path) -> None:
    mine = Beacon(tmp_path)
    assert mine.told()["at"] is None
    with mine.fitting(1, 0):
        mine.reported(7, 0.25)
    assert told(tmp_path)["at"] == [7, 0.25]
    with mine.fitting(2, 0):
        assert mine.told()["at"] is None


def test_nobody_watches_where_the_folder_is_gone(tmp_path: Path) -> None:
    with Beacon(tmp_path / "gone").fitting(1, 0):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_process_has_one_in_a_folder(tmp_path: Path) -> None:
    assert beacon_in(tmp_path) is beacon_in(tmp_path)
    assert beacon_in(tmp_path / "other") is not beacon_in(tmp_path)
