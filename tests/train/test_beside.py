"""Workers side by side are seen: real ones, and what is made of what they tell."""

import contextlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from shardwise.compute.base import stream
from shardwise.compute.local import ProcessExecutor
from shardwise.core.events import WorkerView
from shardwise.stats import anomalies
from shardwise.stats.anomalies import STRAGGLER, Anomaly
from shardwise.train.beacon import KEPT_FITS, beacon_in, place
from shardwise.train.beside import SILENT_S, Beside


@dataclass
class Watched:
    """A folder of a run, what was shown and told, and a clock."""

    folder: Path
    now_s: float = 0.0
    shown: list[list[WorkerView]] = field(default_factory=list)
    told: list[Anomaly] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.beside = Beside(
            self.folder, show=lambda views: self.shown.append(list(views)), tell=self.told.append,
            clock=lambda: self.now_s,
        )  # fmt: skip

    def worker(self, place: str, *fits: tuple[int, int, int, float], busy: bool = True, **more: Any) -> None:
        """`fits` are told without their units: each trial is fitted once on a fold."""
        told = {"place": place, "rows": 100, "work_s": 8.0, "read_s": 1.0, "wait_s": 1.0, "busy": busy}
        units = [(*fit, f"{fit[0]}/{fit[1]}") for fit in fits]
        content = json.dumps({**told, "fits": units, "begun": len(units), **more})
        (self.beside.folder / f"{place}.json").write_text(content)

    def look(self, seconds: float = 2.0) -> list[WorkerView]:
        self.now_s += seconds
        self.beside()
        return self.shown[-1]


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_what_a_worker_does_and_did_is_shown(watched: Watched) -> None:
    watched.worker("a:1", (1, 0, 4000, 2.0), (3, 1, 1000, 2.0))
    watched.worker("b:2", (1, 1, 4000, 2.0), busy=False)
    busy, idle = watched.look()
    assert (busy.doing, busy.rows_s, busy.work_s, busy.read_s, busy.wait_s) == ("trial 3, fold 1", 500.0, 8.0, 1.0, 1.0)
    assert (idle.doing, idle.wait_s) == ("idle", 1.0)
    assert watched.look(3.0)[1].wait_s == 4.0  # it has told nothing since, as it does nothing
    watched.beside()
    assert len(watched.shown) == 2  # about once a second
    assert not watched.told


def test_how_far_a_fit_is_is_shown_while_it_goes_on(watched: Watched) -> None:
    watched.worker("a:1", (3, 1, 1000, 2.0), at=[40, 0.123456])
    assert watched.look()[0].doing == "trial 3, fold 1, step 40, validation loss 0.12346"
    watched.worker("a:1", (3, 1, 1000, 2.0), at=[40, 0.123456], busy=False)
    assert watched.look()[0].doing == "idle"


def test_who_is_slow_for_the_same_work_is_named_once(watched: Watched) -> None:
    watched.worker("a:1", (1, 0, 10_000, 2.0), (2, 0, 10_000, 10.0))
    watched.worker("b:2", (1, 1, 10_000, 5.0), (2, 1, 10_000, 24.0))
    assert [view.slow for view in watched.look()] == [False, True]
    watched.look()
    (anomaly,) = watched.told
    assert (anomaly.kind, anomaly.evidence["worker"]) == (STRAGGLER, 1.0)
    assert anomaly.text == "Worker 1 (b:2) takes 2.4 times as long as others for the same work."


def test_other_work_tells_nothing(watched: Watched) -> None:
    watched.worker("a:1", (1, 0, 10_000, 2.0))
    watched.worker("b:2", (2, 1, 10_000, 60.0))
    assert not any(view.slow for view in watched.look())


def test_who_stands_still_is_named_and_who_was_lost_is_not(watched: Watched) -> None:
    watched.worker("a:1", (2, 0, 100, 2.0))
    watched.worker("b:2", (1, 1, 100, 2.0), busy=False)
    watched.look()
    assert not watched.told
    assert watched.look(SILENT_S + 1)[0].slow
    assert watched.told[0].text == f"Worker 0 (a:1) has said nothing for {SILENT_S + 1:.0f} s in trial 2, fold 0."
    watched.worker("b:2", (1, 1, 100, 2.0), (2, 0, 10, 0.5))  # its fit was tried again elsewhere
    lost = watched.look()[0]
    assert (lost.doing, lost.slow) == ("lost", False)


def test_who_stands_still_in_a_fit_is_named_though_another_one_did_the_rung_below(watched: Watched) -> None:
    below, above = (5, 1, 100, 2.0, "on rung 0"), (5, 1, 50, 1.0, "on rung 1")
    watched.worker("a:1", fits=[below], begun=1)
    watched.worker("b:2", fits=[above], begun=1)
    watched.look()
    for second in range(int(SILENT_S) + 1):  # the other one goes on
        watched.worker("a:1", fits=[below, (6, 0, second, 1.0, "other")], begun=2)
        watched.look(1.0)
    still = watched.look(1.0)[1]
    assert (still.doing, still.slow) == ("trial 5, fold 1", True)
    assert [anomaly.text.split(" in ")[0] for anomaly in watched.told] == ["Worker 1 (b:2) has said nothing for 11 s"]


def test_who_stands_still_in_a_fit_that_failed_on_another_one_is_named(watched: Watched) -> None:
    fit = (5, 1, 100, 2.0, "unit")
    watched.worker("a:1", fits=[fit], begun=1)
    watched.look()
    watched.worker("a:1", fits=[fit], begun=1, busy=False)  # for want of memory, say
    watched.worker("b:2", fits=[fit], begun=1)
    watched.look()
    watched.worker("a:1", fits=[fit, (6, 0, 10, 1.0, "other")], begun=2)
    found = {view.place: view for view in watched.look(SILENT_S + 1)}
    assert (found["b:2"].doing, found["b:2"].slow) == ("trial 5, fold 1", True)


def test_who_was_lost_stays_so_when_many_fits_came_after_its_own(watched: Watched) -> None:
    watched.worker("a:1", (1, 0, 100, 2.0))
    watched.look()
    watched.worker("b:2", (1, 0, 100, 2.0))
    watched.look()
    watched.worker("b:2", *((trial, 0, 100, 2.0) for trial in range(20, 20 + KEPT_FITS)), begun=1 + KEPT_FITS)
    assert watched.look(SILENT_S + 1)[0].doing == "lost"
    assert not watched.told
    watched.worker("a:1", (1, 0, 200, 4.0))  # it is there again
    assert watched.look()[0].doing == "trial 1, fold 0"


def test_what_was_left_of_a_run_that_was_killed_goes(tmp_path: Path) -> None:
    first = Watched(tmp_path).beside
    second = Watched(tmp_path).beside
    assert not first.folder.exists()
    second.close()
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True)
class Fit:
    """Goes over rows; in the process that has made the file `slow` first, five times as slowly."""

    folder: Path
    beacons: Path

    def __call__(self, item: tuple[int, int]) -> str:
        mine = beacon_in(self.beacons)
        with mine.fitting(*item):
            mark = self.folder / "slow"
            with contextlib.suppress(FileExistsError), mark.open("x") as file:
                file.write(place())
            slow = mark.read_text() == place()
            for _ in range(20):
                time.sleep(0.05 if slow else 0.01)
                mine.saw(1000)
        return place()


def test_a_slow_process_is_named_while_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anomalies, "SLOW_FITS_S", 0.5)
    shown, told = list[list[WorkerView]](), list[Anomaly]()
    beside = Beside(tmp_path, show=lambda views: shown.append(list(views)), tell=told.append)
    with ProcessExecutor(2) as executor:
        items = [(trial, fold) for trial in range(6) for fold in (0, 1)]
        places = {outcome.unwrap() for outcome in stream(executor, Fit(tmp_path, beside.folder), items, look=beside)}
    ended = beside.close()
    slow = (tmp_path / "slow").read_text()
    assert {view.place for view in ended} == places
    assert [view.place for view in ended if view.slow] == [slow]
    assert len(told) == 1
    assert slow in told[0].text
    assert sum(view.rows for view in ended) == 12 * 20_000
    assert any("trial" in view.doing for views in shown for view in views)  # while it worked
    assert all(view.doing == "idle" for view in ended)
