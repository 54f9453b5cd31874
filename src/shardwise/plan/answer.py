"""The answer of `plan`: does it fit, what takes how much, what limits; as JSON values and as a table for people."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shardwise.core.errors import ConfigError
from shardwise.core.units import format_duration, format_size
from shardwise.plan.calibrate import Calibration
from shardwise.plan.cost import (
    WORKERS,
    Budget,
    Forecast,
    Knowledge,
    Range,
    forecast,
    least_memory_bytes,
    under_ceiling,
)
from shardwise.plan.memory import MAIN_BYTES
from shardwise.plan.sizes import Sizes


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Whether a run fits, and what it takes.

    whole       with all rows, whatever the ceilings say; `expected` what will happen under them
    row_share   of the training rows that models will be trained on; 0.0 where nothing can be trained
    workers     the same on other numbers of workers
    """

    fits: bool
    reasons: tuple[str, ...]
    sizes: Sizes
    budget: Budget
    whole: Forecast
    expected: Forecast
    row_share: float
    least_memory_bytes: int
    workers: tuple[Forecast, ...]
    calibration: Calibration | None = None
    past_runs: int = 0
    refused: tuple[str, ...] = ()

    @property
    def limits(self) -> dict[str, str]:
        """The stages that take the most time and the most memory."""
        return {
            "time": max(self.whole.stages, key=lambda stage: stage.time_s.value).name,
            "memory": max(self.whole.stages, key=lambda stage: stage.memory_bytes.value).name,
        }

    def to_json(self) -> dict[str, Any]:
        """One object: the verdict, the stages, the totals; ranges are `low`, `value` and `high`."""
        found = self.calibration
        return {
            "fits": self.fits, "reasons": list(self.reasons), **self.whole.to_json(), "limits": self.limits,
            "row_share": self.row_share, "least_memory_bytes": self.least_memory_bytes,
            "expected": {
                "time_s": self.expected.time_s.to_json(), "memory_bytes": self.expected.memory_bytes.to_json(),
            },
            "on_workers": [each.to_json() for each in self.workers],
            "sizes": self.sizes.to_json(),
            "past_runs": self.past_runs, "refused": list(self.refused),
            "calibration": None if found is None else {
                "seconds": found.seconds, "rows": found.rows, "passes_s": found.passes_s,
                "rows_s": {name: found.rows / max(each, 1e-9) for name, each in found.passes_s.items()},
                "fits": [dict(fit.__dict__) for fit in found.fits], "write_bytes_s": found.write_bytes_s,
                "base_bytes": found.base_bytes,
            },
        }  # fmt: skip


def answer(sizes: Sizes, budget: Budget, known: Knowledge) -> Plan:
    """The plan for a budget, and what the same takes on 1, 2, 4, 8 and 32 workers."""
    whole = forecast(sizes, budget, known)
    expected, share = under_ceiling(sizes, budget, known)
    reasons = [*_memory_reasons(whole, budget, share), *_member_reasons(whole, budget), *_disk_reasons(whole, budget)]
    return Plan(
        fits=not reasons, reasons=tuple(reasons), sizes=sizes, budget=budget, whole=whole, expected=expected,
        row_share=share, least_memory_bytes=least_memory_bytes(sizes, budget),
        workers=tuple(_on_workers(sizes, budget, known)),
    )  # fmt: skip


def _on_workers(sizes: Sizes, budget: Budget, known: Knowledge) -> Iterator[Forecast]:
    """Of those numbers of workers on which a network can lie as it was asked for."""
    for count in sorted({*WORKERS, budget.workers or 1}):
        try:
            yield forecast(sizes, replace(budget, workers=count), known)
        except ConfigError:
            continue


def _memory_reasons(whole: Forecast, budget: Budget, share: float) -> list[str]:
    if whole.memory_bytes.value <= budget.memory_bytes and share >= 1.0:
        return []
    needed, allowed = format_size(whole.memory_bytes.value), format_size(budget.memory_bytes)
    return [f"memory: all rows need {needed}, {allowed} are allowed"]


def _member_reasons(whole: Forecast, budget: Budget) -> list[str]:
    """Where workers fit a model together, and have too little for their share: on a cluster, or all of them here."""
    if whole.members < 2:
        return []
    here = budget.engine == "local"
    has = (budget.memory_bytes - MAIN_BYTES) // whole.members if here else budget.worker_bytes
    if has is None or whole.member_bytes <= has:
        return []
    needed, told = format_size(whole.member_bytes), format_size(max(0, has))
    there = f"{told} are left for it" if here else f"a CPU of the cluster has {told}"
    return [f"memory of the workers: each of {whole.members} needs {needed}, {there}"]


def _disk_reasons(whole: Forecast, budget: Budget) -> list[str]:
    if whole.disk_bytes <= budget.disk_bytes:
        return []
    return [f"disk: {format_size(whole.disk_bytes)} are needed, {format_size(budget.disk_bytes)} are allowed"]


# -- for people --------------------------------------------------------------------------------------------------------


def render(plan: Plan) -> str:
    """Lines of text; the first says whether it fits."""
    return "\n".join([
        _first_line(plan), *_share_lines(plan), "", *_stage_lines(plan.whole), "", *_worker_lines(plan), "",
        *_notes(plan),
    ])  # fmt: skip


def _first_line(plan: Plan) -> str:
    whole = plan.whole
    if not plan.fits:
        return f"does not fit: {'; '.join(plan.reasons)}"
    return (
        f"fits: {_seconds(whole.time_s)}, {format_size(whole.memory_bytes.value)} of memory, "
        f"{format_size(whole.disk_bytes)} of disk"
    )


def _share_lines(plan: Plan) -> list[str]:
    """Where not all rows are trained on: how many, or the least memory that works."""
    if plan.row_share >= 1.0:
        return []
    least = format_size(plan.least_memory_bytes)
    if plan.row_share <= 0.0:
        return [f"nothing can be trained under this ceiling; the least that works is about {least}"]
    told = f"train would use {plan.row_share:.1%} of the training rows, and take {_seconds(plan.expected.time_s)}; "
    return [f"{told}the least memory that works is about {least}"]


def _seconds(found: Range) -> str:
    return f"{format_duration(found.value)} ({format_duration(found.low)} to {format_duration(found.high)})"


def _stage_lines(whole: Forecast) -> list[str]:
    rows: list[tuple[str, ...]] = [("stage", "time", "low", "high", "memory")]
    rows += [
        (
            stage.name, *(format_duration(max(each, 0.001)) for each in _value_first(stage.time_s)),
            format_size(stage.memory_bytes.value),
        )
        for stage in whole.stages
    ]  # fmt: skip
    rows.append(
        ("in all", *(format_duration(each) for each in _value_first(whole.time_s)),
         format_size(whole.memory_bytes.value))
    )  # fmt: skip
    return table(rows)


def _value_first(found: Range) -> tuple[float, float, float]:
    return found.value, found.low, found.high


def _worker_lines(plan: Plan) -> list[str]:
    """A line for each number of workers; where they fit a model together, with what each of them needs."""
    each_told = any(each.member_bytes for each in plan.workers)
    rows: list[tuple[str, ...]] = [("workers", "time", "low", "high", "memory", "disk", *["each worker"][:each_told])]
    rows += [
        (
            str(each.workers), *(format_duration(part) for part in _value_first(each.time_s)),
            format_size(each.memory_bytes.value), format_size(each.disk_bytes),
            *[format_size(each.member_bytes) if each.member_bytes else "-"][:each_told],
        )
        for each in plan.workers
    ]  # fmt: skip
    return table(rows)


def _notes(plan: Plan) -> list[str]:
    limits, sizes, whole = plan.limits, plan.sizes, plan.whole
    least = format_size(plan.least_memory_bytes)
    most = f"most time: {limits['time']}; most memory: {limits['memory']}; least memory that works: about {least}"
    split = f"{sizes.rows:,} rows, {sizes.features} features, {sizes.folds} fold(s)"
    lines = [most, f"{split}, {whole.trials} candidates, {whole.workers} worker(s)"]
    if plan.calibration is not None:
        lines.append(
            f"calibrated in {format_duration(plan.calibration.seconds)} on {plan.calibration.rows:,} rows; "
            f"{plan.past_runs} past run(s) learned from"
        )
    more = [told for each in plan.workers for told in each.told if "workers; at most" in told]
    return [*lines, *whole.told, *more[-1:], *(f"not learned from: {reason}" for reason in plan.refused)]


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns, the first to the left.

    >>> table([("a", "bb"), ("ccc", "d")])
    ['a    bb', 'ccc   d']
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
