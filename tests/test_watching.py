"""A run whose fits diverge: they are helped, and that is told, journalled once and shown."""

import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from shardwise.core.config import RunConfig
from shardwise.core.events import Event, Events, Said, Working
from shardwise.report.terminal import PlainLog
from shardwise.store.journal import SqliteJournal
from shardwise.testing.tables import people
from shardwise.train import beacon, beside
from shardwise.workflow import TrainResult, train

ASKED = {
    "target": "visits", "task": "count", "trials": 2, "folds": 2, "families": ("linear",), "run": "wild",
    "params": {"linear": {"learning_rate": 10.0, "batch_rows": 32}}, "drop": ("id", "weight", "spent", "bought"),
}  # fmt: skip


@dataclass
class Run:
    """A run that was done, and done again with another seal."""

    folder: Path
    result: TrainResult
    said: list[str] = field(default_factory=list)
    log: io.StringIO = field(default_factory=io.StringIO)

    def units(self) -> list[dict[str, Any]]:
        with SqliteJournal(self.folder / "journal.db", read_only=True) as journal:
            units = [dict(record) for record in journal.read() if record["kind"] == "unit"]
        return [unit["record"] for unit in units if unit["record"].get("anomalies")]


def trained(folder: Path, **changes: Any) -> Run:
    said, log = list[str](), io.StringIO()

    def listen(event: Event) -> None:
        if isinstance(event, Said) and event.level == "warning":
            said.append(event.text)

    config = RunConfig.from_mapping(
        {"data": str(folder / "people.parquet"), "runs_folder": str(folder / "runs"), **ASKED, **changes}
    )
    result = train(config, Events([listen, PlainLog(log)]))
    return Run(folder / "runs" / str(config.run), result, said, log)


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("wild")
    pq.write_table(people(900), folder / "people.parquet")
    return trained(folder)


def test_what_diverges_is_told_and_shown(wild: Run) -> None:
    told = [text for text in wild.said if "Training goes on from the best weights" in text]
    assert told
    assert all(f"warning: {text}" in wild.log.getvalue() for text in told)
    report = Path(wild.result.report).read_text(encoding="utf8")
    assert "What went wrong in training" in report
    assert "Training goes on from the best weights" in report


def test_it_ends_well(wild: Run, tmp_path: Path) -> None:
    (tmp_path / "people.parquet").symlink_to(wild.folder.parents[1] / "people.parquet")
    calm = trained(tmp_path, params={})
    assert not [text for text in calm.said if "Training" in text]
    assert wild.result.valid_score <= 1.2 * calm.result.valid_score


def test_it_is_journalled_once_and_the_same_in_another_run(wild: Run) -> None:
    before = wild.units()
    assert before
    again = trained(wild.folder.parents[1], max_size="40MB")  # chosen anew, from fits that are there
    assert again.units() == before
    other = trained(wild.folder.parents[1], run="other")
    assert [unit["anomalies"] for unit in other.units()] == [unit["anomalies"] for unit in before]
    assert other.result.package_hash == wild.result.package_hash


def test_workers_side_by_side_are_shown_and_journalled(tmp_path: Path) -> None:
    pq.write_table(people(900), tmp_path / "people.parquet")
    shown: list[Working] = []
    config = RunConfig.from_mapping(
        {"data": str(tmp_path / "people.parquet"), "runs_folder": str(tmp_path / "runs"), **ASKED, "workers": 2,
         "trials": 3, "params": {}}
    )  # fmt: skip
    train(config, Events([lambda event: shown.append(event) if isinstance(event, Working) else None]))
    folder = tmp_path / "runs" / "wild"
    with SqliteJournal(folder / "journal.db", read_only=True) as journal:
        (record,) = [dict(record) for record in journal.read() if record["kind"] == "workers"]
    assert not record["together"]
    assert sum(worker["rows"] for worker in record["workers"]) >= 2 * 2 * 360  # models, folds, rows of a fold
    assert all(worker["work_s"] > 0 and worker["wait_s"] >= 0 for worker in record["workers"])
    assert shown[-1].workers
    assert not shown[-1].together
    assert "Workers that fitted models side by side" in (folder / "report.html").read_text()
    assert not list(folder.glob(".workers-*"))


def test_the_validation_loss_of_what_is_trained_is_shown_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "LOOK_S", 0.0)
    monkeypatch.setattr(beacon, "TELL_S", 0.001)
    pq.write_table(people(900), tmp_path / "people.parquet")
    heard: list[Event] = []
    asked = {**ASKED, "params": {}, "families": ("trees",), "report": False}
    train(
        RunConfig.from_mapping(
            {"data": str(tmp_path / "people.parquet"), "runs_folder": str(tmp_path / "runs"), **asked}
        ),
        Events([heard.append]),
    )
    doing = [view.doing for event in heard if isinstance(event, Working) for view in event.workers]
    shown = [re.fullmatch(r"trial 1, fold [01], step (\d+), validation loss ([\d.]+)", each) for each in doing]
    found = {(int(each[1]), float(each[2])) for each in shown if each}
    assert found
    assert min(loss for _, loss in found) > 0
    assert not list((tmp_path / "runs" / "wild").glob(".workers-*"))
