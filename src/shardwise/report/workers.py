"""What the workers did that fitted models together: in lines while they work, and as a table of the report."""

from collections.abc import Sequence
from typing import Any

from shardwise.core.events import WorkerView
from shardwise.report.data import Record, ReportData
from shardwise.report.words import duration, number, short
from shardwise.stats.anomalies import waited_for

WAITED_SHARE = 0.2  # of its time: who waits so long waits for somebody


def worker_lines(workers: Sequence[WorkerView]) -> list[str]:
    """A line for each worker: rows per second, and the shares of its time."""
    slow = waited_for(workers, WAITED_SHARE)
    lines = []
    for worker in workers:
        total = max(1e-9, worker.work_s + worker.talk_s + worker.wait_s)
        shares = zip(("work", "talk", "wait"), (worker.work_s, worker.talk_s, worker.wait_s), strict=True)
        told = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in shares)
        mark = "  <- others wait for it" if worker.rank == slow else ""
        lines.append(f"worker {worker.rank}: {worker.rows_s:,.0f} rows/s, {told}{mark}")
    return lines


def workers(data: ReportData, most: int = 20) -> list[Record]:
    """Rows of the report's table: each worker's sums over all models that they fitted together."""
    sums: dict[int, dict[str, float]] = {}
    for record in data.workers:
        for worker in record["workers"]:
            own = sums.setdefault(worker["rank"], dict.fromkeys(("rows", "work_s", "talk_s", "wait_s"), 0.0))
            for name in own:
                own[name] += worker[name]
    views = [WorkerView(rank=rank, place="", **_typed(own)) for rank, own in sorted(sums.items())]
    slow = waited_for(views, WAITED_SHARE)
    longest = max([view.work_s + view.talk_s + view.wait_s for view in views] + [1e-9])
    return [
        {
            "worker": short(f"{view.rank}{', the others wait for it' if view.rank == slow else ''}", 60),
            "seconds": duration(view.work_s), "width": f"{100 * view.work_s / longest:.1f}",
            "talk": duration(view.talk_s), "wait": duration(view.wait_s), "rows": number(view.rows),
        }
        for view in views[:most]
    ]  # fmt: skip


def _typed(own: dict[str, float]) -> dict[str, Any]:
    return {**own, "rows": int(own["rows"])}
