"""Looks at workers that fit models side by side: shows what they do, and names those that are slow.

They tell it themselves (`beacon`); the clock of this process says how long one has told nothing new.
"""

import json
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shardwise.compute.base import LOOK_S
from shardwise.core.events import WorkerView
from shardwise.stats.anomalies import STRAGGLER, Anomaly, Pace, slow_workers
from shardwise.train.beacon import TELL_S

SILENT_S = 10 * TELL_S  # a worker that fits and has told nothing new for so long stands still, or is gone
_PREFIX = ".workers-"


@dataclass
class _Seen:
    """What a worker has told last, when that was new here, and whether another one has begun its fit since."""

    rank: int
    told: dict[str, Any]
    new_s: float
    lost: bool = False

    @property
    def doing(self) -> tuple[int, int, str] | None:
        """Trial, fold and unit of what is under way."""
        trial, fold, _, _, unit = self.told["fits"][-1]
        return (trial, fold, unit) if self.told["busy"] else None

    def began_since(self, before: dict[str, Any] | None) -> set[tuple[int, int, str]]:
        """Trial, fold and unit of the fits that it has begun since it told what is `before`."""
        count = self.told["begun"] - (before["begun"] if before else 0)
        return {(trial, fold, unit) for trial, fold, _, _, unit in self.told["fits"][-count:]} if count > 0 else set()

    @property
    def name(self) -> str:
        return f"Worker {self.rank} ({self.told['place']})"


@dataclass
class Beside:
    """To be called again and again; it looks about once a second. `show` gets all workers at each look, `tell` each
    one that is slow once."""

    run_folder: Path
    show: Callable[[Sequence[WorkerView]], None]
    tell: Callable[[Anomaly], None]
    clock: Callable[[], float] = time.monotonic
    folder: Path = field(init=False)
    _seen: dict[str, _Seen] = field(init=False, default_factory=dict)  # by file
    _slow: dict[int, float] = field(init=False, default_factory=dict)
    _named: set[int] = field(init=False, default_factory=set)
    _looked_s: float = field(init=False, default=float("-inf"))

    def __post_init__(self) -> None:
        for left in self.run_folder.glob(f"{_PREFIX}*"):  # of a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        self.folder = self.run_folder / f"{_PREFIX}{secrets.token_hex(4)}"
        self.folder.mkdir()

    def __call__(self) -> None:
        if self.clock() - self._looked_s >= LOOK_S:
            self.look()

    def look(self) -> None:
        """Read what workers tell."""
        now = self._looked_s = self.clock()
        began: dict[int, set[tuple[int, int, str]]] = {}
        for path in sorted(self.folder.glob("*.json")):
            told = _read(path)
            before = self._seen.get(path.name)
            if told is None or (before is not None and told == before.told):
                continue
            seen = self._seen[path.name] = _Seen(len(self._seen) if before is None else before.rank, told, now)
            began[seen.rank] = seen.began_since(None if before is None else before.told)
        self._mark_lost(began)
        self._judge(now)
        if self._seen:
            self.show(self.views())

    def _mark_lost(self, began: dict[int, set[tuple[int, int, str]]]) -> None:
        """Who stands in a fit that another one has begun now is lost until it tells more: the fit was tried again."""
        for seen in self._seen.values():
            seen.lost |= any(seen.doing in fits for rank, fits in began.items() if rank != seen.rank)

    def _judge(self, now: float) -> None:
        paces = [
            Pace(worker=seen.rank, like=trial, rows=rows, seconds=seconds)
            for seen in self._seen.values()
            for trial, _, rows, seconds, _ in seen.told["fits"]
        ]
        slow = slow_workers(paces)
        for seen in self._seen.values():
            times = slow.get(seen.rank, 0.0)
            if seen.doing is not None and now - seen.new_s > SILENT_S and not seen.lost:
                slow[seen.rank] = times
                said = f"has said nothing for {now - seen.new_s:.0f} s in {_words(seen)}"
            else:
                said = f"takes {times:.1f} times as long as others for the same work"
            if seen.rank in slow and seen.rank not in self._named:
                self._named.add(seen.rank)
                evidence = {"worker": float(seen.rank), "times": times, "rows": float(seen.told["rows"])}
                self.tell(Anomaly(kind=STRAGGLER, step=0, text=f"{seen.name} {said}.", evidence=evidence))
        self._slow = slow

    def views(self) -> list[WorkerView]:
        """What each worker has done so far, by rank; those that are lost included."""
        return [self._view(seen, self.clock()) for seen in self._seen.values()]

    def _view(self, seen: _Seen, now: float) -> WorkerView:
        told = seen.told
        rows, seconds = told["fits"][-1][2:4]
        idle_s = 0.0 if told["busy"] else now - seen.new_s  # since it told
        doing = "lost" if seen.lost else _words(seen)
        return WorkerView(
            rank=seen.rank, place=told["place"], rows=told["rows"], work_s=told["work_s"], read_s=told["read_s"],
            wait_s=told["wait_s"] + idle_s, rows_s=rows / seconds if seconds else 0.0, doing=doing,
            slow=seen.rank in self._slow,
        )  # fmt: skip

    def close(self) -> list[WorkerView]:
        """The last look; what workers tell from now on is not kept."""
        self.look()
        shutil.rmtree(self.folder, ignore_errors=True)
        return self.views()


def _words(seen: _Seen) -> str:
    """What a worker does, and how far it is."""
    if seen.doing is None:
        return "idle"
    at = seen.told.get("at")
    far = ", step {}, validation loss {:.5g}".format(*at) if at else ""
    return "trial {}, fold {}".format(*seen.doing[:2]) + far


def _read(path: Path) -> dict[str, Any] | None:
    """What a worker tells; None where the file is gone, or storage shows it before its content."""
    try:
        return dict(json.loads(path.read_text(encoding="utf8")))
    except (OSError, ValueError):
        return None
