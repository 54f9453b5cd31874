"""What the workers did that fitted models, together or side by side: in lines while they work, and as tables of the
report."""

from collections.abc import Sequence
from typing import Any

from shardwise.core.events import WorkerView
from shardwise.report.data import Record, ReportData
from shardwise.report.words import duration, number, short
from shardwise.stats.anomalies import waited_for

WAITED_SHARE = 0.2  # of its time: who waits so long waits for somebody
_TOGETHER = (("work", "work_s"), ("talk", "talk_s"), ("wait", "wait_s"))
_BESIDE = (("work", "work_s"), ("read", "read_s"), ("wait", "wait_s"))
_SUMMED = ("rows", "work_s", "read_s", "talk_s", "wait_s")


def worker_lines(workers: Sequence[WorkerView], *, together: bool = True) -> list[str]:
    """A line for each worker: what it does, rows per second, and the shares of its time. Where there are more than a
    screen has room for, the slow ones come first."""
    slow = waited_for(workers, WAITED_SHARE) if together else None
    lines = []
    for worker in sorted(workers, key=lambda worker: (not worker.slow, worker.rank)):
        times = [(name, getattr(worker, key)) for name, key in (_TOGETHER if together else _BESIDE)]
        total = max(1e-9, sum(seconds for _, seconds in times))
        told = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in times)
        doing = f"{worker.doing}, " if worker.doing else ""
        mark = "  <- others wait for it" if worker.rank == slow else "  <- slow" if worker.slow else ""
        lines.append(f"worker {worker.rank}: {doing}{worker.rows_s:,.0f} rows/s, {told}{mark}")
    return lines


def workers(data: ReportData, *, together: bool = True, most: int = 20) -> list[Record]:
    """Rows of a table of the report: each worker's sums over all models that they fitted together, or side by side.

    Those that did so together are known by their rank, others by their place.
    """
    views = _summed(
        [record["workers"] for record in data.workers if record.get("together", True) == together], together
    )
    slow = waited_for(views, WAITED_SHARE) if together else None
    longest = max([_seconds(view) for view in views] + [1e-9])
    return [
        {
            "worker": short(f"{view.place or view.rank}{_mark(view, slow)}", 60),
            "seconds": duration(view.work_s), "width": f"{100 * view.work_s / longest:.1f}",
            "read": duration(view.read_s), "talk": duration(view.talk_s), "wait": duration(view.wait_s),
            "rows": number(view.rows), "rows_s": number(round(view.rows / max(view.work_s, 1e-9))),
        }
        for view in views[:most]
    ]  # fmt: skip


def _summed(records: Sequence[Sequence[dict[str, Any]]], together: bool) -> list[WorkerView]:
    sums: dict[Any, dict[str, Any]] = {}
    for record in records:
        for worker in record:
            key = worker["rank"] if together else worker["place"]
            own = sums.setdefault(key, {**dict.fromkeys(_SUMMED, 0.0), "slow": False})
            for name in _SUMMED:
                own[name] += worker.get(name, 0.0)
            own["slow"] |= worker.get("slow", False)
    keyed = sorted(sums.items()) if together else list(sums.items())
    return [
        WorkerView(rank=rank, place="" if together else str(key), **{**own, "rows": int(own["rows"])})
        for rank, (key, own) in enumerate(keyed)
    ]


def _mark(view: WorkerView, slow: int | None) -> str:
    return ", the others wait for it" if view.rank == slow else ", slow" if view.slow else ""


def _seconds(view: WorkerView) -> float:
    return view.work_s + view.read_s + view.talk_s + view.wait_s
