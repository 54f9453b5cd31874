"""Is it better, or at least not worse: on all rows, on each slice, and in calibration."""

from collections.abc import Iterator

import numpy as np

from shardwise.deploy.pairs import PairedRows
from shardwise.deploy.settings import GateConfig, margin_in
from shardwise.deploy.verdict import Check, Status
from shardwise.stats.calibration import compare_calibration
from shardwise.stats.metrics import Metric
from shardwise.stats.paired import Gain, holm
from shardwise.stats.slices import SliceConfig, slice_parts

_LEAST_UNITS = 20  # of a slice


def quality_check(rows: PairedRows, metric: Metric, config: GateConfig) -> Check:
    """The metric on all rows: the challenger must be shown to be better, or not worse by the margin."""
    found = rows.gain(metric)
    margin = 0.0 if config.require == "better" else margin_in(config.margin, found.champion)
    low, high = found.interval(config.level)
    shown = low > 0 if config.require == "better" else low >= -margin
    evidence = {"metric": metric.name, "margin": margin, "require": config.require, "level": config.level,
                **found.to_json(config.level)}  # fmt: skip
    text = f"{_compared(metric, found)}: {_told(found, margin, config)}"
    status = Status.PASS if shown else Status.FAIL
    if not shown and high > -margin and found.is_known:
        text += _rows_needed(found, margin, config)
    return Check(group="quality", name=metric.name, status=status, text=text, evidence=evidence)


def _compared(metric: Metric, found: Gain) -> str:
    return f"{metric.name} {found.challenger:.5g} against {found.champion:.5g}"


def _told(found: Gain, margin: float, config: GateConfig) -> str:
    if not found.is_known:
        return "not defined on these rows, so nothing is shown"
    low, high = found.interval(config.level)
    span = f"a gain of {found.value:.3g} ({config.level:.0%} interval {low:.3g} to {high:.3g})"
    if low > 0:
        return f"{span}, it is better"
    if config.require == "better":
        return f"{span}, it is worse" if high < 0 else f"{span}, it is not shown to be better"
    if low >= -margin:
        return f"{span}, it is not worse by more than {margin:.3g}"
    if high < -margin:
        return f"{span}, it is worse by more than {margin:.3g}"
    return f"{span}, it may be worse by more than {margin:.3g}"


def _rows_needed(found: Gain, margin: float, config: GateConfig) -> str:
    """How many rows would show it, if the gain stays what it is."""
    room = found.value + margin
    if not room > 0:
        return ""
    reach = found.value - found.interval(config.level)[0]
    return f"; about {found.units * (reach / room) ** 2:,.0f} rows or groups like these would tell"


def slice_checks(rows: PairedRows, metric: Metric, config: GateConfig) -> Iterator[Check]:
    """For each slice: it must not be shown to be worse by more than the margin, with the number of slices in mind."""
    parts = []
    for column in rows.slices:
        for label, places in slice_parts(rows.columns[column], SliceConfig(seed=config.seed)):
            parts.append((f"{column} = {label}", len(places), rows.gain_of(metric, places)))
    known = [part for part in parts if part[2].is_known and part[2].units >= _LEAST_UNITS]
    margins = [margin_in(config.slice_margin, found.champion) for _, _, found in known]
    raw = [found.p_below(-margin) for (_, _, found), margin in zip(known, margins, strict=True)]
    adjusted = dict(zip((name for name, _, _ in known), holm(np.array(raw)), strict=True))
    for name, count, found in parts:
        p_worse = adjusted.get(name)
        status, told = _of_slice(p_worse, found, config)
        evidence = {"rows": count, "p_worse": p_worse, **found.to_json(config.level)}
        yield Check(group="slices", name=name, status=status, evidence=evidence,
                    text=f"{name} ({count:,} rows): {_compared(metric, found)}, {told}")  # fmt: skip


def _of_slice(p_worse: float | None, found: Gain, config: GateConfig) -> tuple[Status, str]:
    if p_worse is None:
        return Status.SKIP, "too few rows to tell"
    if p_worse < (1 - config.level) / 2:
        return Status.FAIL, f"it is worse here by more than {margin_in(config.slice_margin, found.champion):.3g}"
    return Status.PASS, "not shown to be worse"


def calibration_check(rows: PairedRows, config: GateConfig) -> Check:
    """The calibration error must not be shown to have grown by more than allowed."""
    found = compare_calibration(
        rows.target, *rows.samples, allowed=config.calibration_margin, units=rows.units, share=rows.share,
        seed=config.seed,
    )  # fmt: skip
    worse = found.p_worse < (1 - config.level) / 2
    told = "has grown" if worse else "is not shown to have grown"
    text = (f"calibration error {found.challenger:.3g} against {found.champion:.3g}: "
            f"it {told} by more than {config.calibration_margin:g}")  # fmt: skip
    return Check(group="calibration", name="calibration error", status=Status.FAIL if worse else Status.PASS, text=text,
                 evidence={"champion": found.champion, "challenger": found.challenger, "p_worse": found.p_worse,
                           "margin": config.calibration_margin})  # fmt: skip
