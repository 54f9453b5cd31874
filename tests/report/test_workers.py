from dataclasses import asdict

from shardwise.core.events import WorkerView
from shardwise.report.data import ReportData
from shardwise.report.workers import worker_lines, workers

SLOW = WorkerView(rank=0, place="a:1", rows=100, work_s=9.0, talk_s=1.0, wait_s=0.0, rows_s=10.0)
FAST = WorkerView(rank=1, place="b:2", rows=100, work_s=4.0, talk_s=1.0, wait_s=5.0, rows_s=10.0)


def test_lines_tell_rows_and_shares() -> None:
    assert worker_lines([SLOW, FAST]) == [
        "worker 0: 10 rows/s, work 90%, talk 10%, wait 0%  <- others wait for it",
        "worker 1: 10 rows/s, work 40%, talk 10%, wait 50%",
    ]


def test_the_table_adds_up_the_fits() -> None:
    record = {"workers": [asdict(SLOW), asdict(FAST)]}
    data = ReportData(
        title="t", task="binary", target="y", metric="roc_auc", greater_is_better=True, workers=[record, record]
    )
    rows = workers(data)
    assert [row["rows"] for row in rows] == ["200", "200"]
    assert [row["width"] for row in rows] == ["90.0", "40.0"]
    assert "wait for it" in rows[0]["worker"]
