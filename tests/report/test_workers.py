from dataclasses import asdict
from typing import Any

from shardwise.core.events import WorkerView
from shardwise.report.data import ReportData
from shardwise.report.words import duration
from shardwise.report.workers import worker_lines, workers

SLOW = WorkerView(rank=0, place="a:1", rows=100, work_s=9.0, talk_s=1.0, wait_s=0.0, rows_s=10.0)
FAST = WorkerView(rank=1, place="b:2", rows=100, work_s=4.0, talk_s=1.0, wait_s=5.0, rows_s=10.0)


def test_lines_tell_rows_and_shares() -> None:
    assert worker_lines([SLOW, FAST]) == [
        "worker 0: 10 rows/s, work 90%, talk 10%, wait 0%  <- others wait for it",
        "worker 1: 10 rows/s, work 40%, talk 10%, wait 50%",
    ]


def test_lines_of_workers_side_by_side_tell_what_they_do() -> None:
    idle = WorkerView(rank=0, place="a:1", rows=100, work_s=4.0, read_s=1.0, wait_s=5.0, doing="idle")
    slow = WorkerView(rank=1, place="b:2", rows=100, work_s=10.0, rows_s=10.0, doing="trial 3, fold 1", slow=True)
    assert worker_lines([idle, slow], together=False) == [
        "worker 1: trial 3, fold 1, 10 rows/s, work 100%, read 0%, wait 0%  <- slow",
        "worker 0: idle, 0 rows/s, work 40%, read 10%, wait 50%",
    ]


def data_of(*records: dict[str, Any]) -> ReportData:
    return ReportData(
        title="t", task="binary", target="y", metric="roc_auc", greater_is_better=True, workers=list(records)
    )


def test_the_table_of_those_side_by_side_adds_up_by_place() -> None:
    other = WorkerView(rank=0, place="b:2", rows=50, work_s=1.0, read_s=2.0)
    records = [{"together": False, "workers": [asdict(view) for view in views]} for views in ([SLOW, FAST], [other])]
    rows = workers(data_of(*records, {"workers": [asdict(SLOW)]}), together=False)
    assert [(row["worker"], row["rows"], row["rows_s"]) for row in rows] == [("a:1", "100", "11"), ("b:2", "150", "30")]
    assert [row["read"] for row in rows] == [duration(0.0), duration(2.0)]


def test_the_table_adds_up_the_fits() -> None:
    record = {"workers": [asdict(SLOW), asdict(FAST)]}
    rows = workers(data_of(record, record, {"together": False, "workers": [asdict(FAST)]}))
    assert [row["rows"] for row in rows] == ["200", "200"]
    assert [row["width"] for row in rows] == ["90.0", "40.0"]
    assert "wait for it" in rows[0]["worker"]
