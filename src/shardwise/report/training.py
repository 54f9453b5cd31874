"""Charts of the run itself: scores by trial, learning curves, memory over time."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from shardwise.core.units import format_size
from shardwise.report.charts import Chart, Frame, Legend, Mark, dots, draw, level, line, steps
from shardwise.report.data import Record, ReportData, is_whole
from shardwise.report.numbers import thin
from shardwise.report.words import duration, metric_name, number, plural, short, size

MOST_CURVES, MOST_DOTS = 5, 400
_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (1.0, "B"))
_SHAPES = ("o", "s", "^", "D", "v")


def training_charts(data: ReportData) -> list[Chart]:
    """Scores by trial and by cost, and learning curves: as far as there is something to draw."""
    history = [_history(data), _cost(data)] if len(data.ranked) >= 3 else []
    curves = _learning(data)
    return [*history, *([curves] if curves else [])]


def _history(data: ReportData) -> Chart:
    """Only what is near the best: the baseline would flatten all the rest."""
    span = _near_best(data)
    near = _near(data, span)
    trials = sorted((_number(t, i), float(t["score"]), is_whole(t)) for i, t in enumerate(near))
    x, y, whole = np.array(trials).T
    compared = whole > 0 if whole.any() else whole == 0
    x_whole, y_whole = x[compared], y[compared]
    best = np.maximum.accumulate(y_whole) if data.greater_is_better else np.minimum.accumulate(y_whole)
    first = int(x_whole[y_whole == best[-1]][0])
    alt = f"{metric_name(data.metric)} of {len(trials)} trials; the best is {number(best[-1])}, of trial {first}."
    marks = [steps(x_whole, best, 1), dots(x, y)]
    svg = draw("history", alt, Frame(x="Trial", y="Score", y_range=span, x_whole=True), marks)
    legend = [Legend("trial", 0, "o"), Legend("best so far", 1)]
    return Chart(title="Scores, trial by trial", svg=svg, legend=legend, note=_outside(data, len(trials)))


def _cost(data: ReportData) -> Chart:
    span = _near_best(data)
    near = _near(data, span)
    families = list(dict.fromkeys(str(trial.get("family", "")) for trial in near))[: len(_SHAPES)]
    marks: list[Mark] = []
    for series, family in enumerate(families):
        own = [trial for trial in near if str(trial.get("family", "")) == family]
        seconds = np.array([float(trial.get("seconds") or 0.0) for trial in own])
        marks.append(dots(seconds, np.array([float(trial["score"]) for trial in own]), series, _SHAPES[series]))
    longest = max(float(trial.get("seconds") or 0.0) for trial in near)
    frame = Frame(x="Seconds", y="Score", y_range=span, x_range=(0.0, 1.05 * longest or 1.0))
    svg = draw("cost", f"{metric_name(data.metric)} against seconds of {len(near)} trials.", frame, marks)
    legend = [Legend(short(family, 24), series, _SHAPES[series]) for series, family in enumerate(families)]
    return Chart(title="Scores against cost", svg=svg, legend=legend, note=_outside(data, len(near)))


def _number(trial: Record, place: int) -> float:
    number = trial.get("number")
    return float(number) if isinstance(number, int | float) else float(place)


def _near_best(data: ReportData) -> tuple[float, float]:
    """A range around the better three quarters of the scores."""
    y = np.array([float(trial["score"]) for trial in data.ranked])
    best, edge = (y.max(), np.quantile(y, 0.25)) if data.greater_is_better else (y.min(), np.quantile(y, 0.75))
    reach = float(abs(best - edge) or abs(best) * 0.01 or 1.0)
    ends = (
        (edge - 0.6 * reach, best + 0.15 * reach)
        if data.greater_is_better
        else (best - 0.15 * reach, edge + 0.6 * reach)
    )
    return float(ends[0]), float(ends[1])


def _near(data: ReportData, span: tuple[float, float]) -> list[Record]:
    return [trial for trial in data.ranked if span[0] <= float(trial["score"]) <= span[1]][:MOST_DOTS]


def _outside(data: ReportData, shown: int) -> str:
    far = len(data.ranked) - shown
    return f"{plural(far, 'trial')} far from the best {'is' if far == 1 else 'are'} not drawn." if far else ""


def _learning(data: ReportData) -> Chart | None:
    curves = {str(trial): curve for trial, curve in data.curves.items() if len(curve) > 1}
    order = [str(trial.get("number")) for trial in [*data.ranked, *data.unranked]]
    shown = ([key for key in order if key in curves] or list(curves))[:MOST_CURVES]
    marks: list[Mark] = []
    legend: list[Legend] = []
    losses: list[np.ndarray] = []
    for series, trial in enumerate(shown):
        step, train, valid = _columns(curves[trial])
        kinds = [(valid, f"trial {short(trial, 12)}", "line"), (train, "its training rows", "dash")]
        for loss, label, kind in kinds[: 1 if series else 2]:
            known = np.isfinite(loss)
            if known.sum() > 1:
                marks.append(line(*thin(step[known], loss[known]), series, dashed=kind == "dash"))
                legend.append(Legend(label, series, kind))
                losses.append(loss[known])
    if not marks:
        return None
    alt = f"Loss by round of {len(shown)} trials; the best trial reaches {number(losses[0].min())}."
    frame = Frame(x="Round", y="Loss", y_range=_loss_range(losses), x_whole=True)
    note = "Loss on validation rows. Where it rises again, a model learns its training rows by heart."
    return Chart(title="Learning curves", svg=draw("learning", alt, frame, marks), legend=legend, note=note)


def _columns(curve: Sequence[Sequence[Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = np.array([[np.nan if value is None else float(value) for value in point[:3]] for point in curve])
    return table[:, 0], table[:, 1], table[:, 2]


def _loss_range(losses: Sequence[np.ndarray]) -> tuple[float, float]:
    """From the lowest loss to what the first rounds reach, without the steep first fifth."""
    low = min(float(part.min()) for part in losses)
    high = max(float(np.quantile(part, 0.8)) for part in losses)
    reach = (high - low) or abs(low) or 1.0
    return low - 0.05 * reach, high + 0.05 * reach


def memory_chart(data: ReportData) -> Chart | None:
    """Memory of the whole process tree over time, against the ceiling; None without samples."""
    samples = np.asarray(data.ceilings.get("samples") or [], dtype=np.float64)
    if len(samples) < 2:
        return None
    memory = data.ceilings.get("memory_bytes") or {}
    limit, peak = memory.get("limit"), float(memory.get("peak") or samples[:, 1].max())
    drawn = limit if limit and limit <= 5 * peak else None  # a line far above would press the rest flat
    top = max(peak, drawn or 1.0)
    factor, unit = next(pair for pair in _UNITS if top >= pair[0])
    seconds, used = _peaks(samples, 160)
    end = float(samples[-1, 0])
    marks, legend = [line(seconds, used / factor)], [Legend("memory in use", 0)]
    if drawn:
        marks.append(level(drawn / factor, 1))
        legend.append(Legend(f"ceiling, {size(drawn)}", 1, "dash"))
    alt = f"Memory over {duration(end)}: at most {format_size(peak)}" + (f" of {size(limit)}." if limit else ".")
    frame = Frame(x="Seconds", y=unit, y_range=(0.0, 1.08 * top / factor), x_range=(float(samples[0, 0]), end or 1.0))
    note = "Of the whole tree of processes." + (
        f" The ceiling, {size(limit)}, is far above." if limit and not drawn else ""
    )
    svg = draw("memory", alt, frame, marks)
    return Chart(title="Memory over time", svg=svg, legend=legend, note=note)


def _peaks(samples: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` samples, each the largest of its neighbours: thinning never hides a peak."""
    if len(samples) <= most:
        return samples[:, 0], samples[:, 1]
    parts = np.array_split(samples, most)
    return np.array([part[0, 0] for part in parts]), np.array([part[:, 1].max() for part in parts])
