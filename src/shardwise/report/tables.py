"""Rows of the page's tables: texts and bar lengths, cut to what a page can hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shardwise.report import numbers
from shardwise.report.data import Evaluated, Record, ReportData
from shardwise.report.ensemble import ensemble
from shardwise.report.evaluation import called, class_name
from shardwise.report.summary import is_baseline, severity_order
from shardwise.report.words import (
    MISSING,
    duration,
    interval,
    metric_name,
    number,
    option,
    pairs,
    percent,
    plural,
    score,
    short,
    size,
)

MOST_TRIALS, MOST_FINDINGS, MOST_SLICES = 200, 100, 60
MOST_FEATURES, MOST_CLASSES, MOST_PARAMS = 30, 20, 12
MOST_OPTIONS, MOST_MEMBERS = 100, 60
_ENDED_WELL = frozenset({"done", "complete", "completed", "finished", "ok"})

Row = dict[str, Any]  # a row of a table, as the templates read it


@dataclass(frozen=True)
class Table:
    """Rows to show, and how many there are in all."""

    rows: Sequence[Row]
    total: int

    @property
    def left_out(self) -> int:
        return self.total - len(self.rows)


def metrics(data: ReportData) -> list[Row]:
    """All metrics of the test, the one that was optimised first."""
    given = data.test.get("metrics") or {}
    order = sorted(given, key=lambda name: name != data.metric)
    rows = []
    for name in order[:40]:
        found = given[name] if isinstance(given[name], dict) else {"value": given[name]}
        triple = (found.get("value"), found.get("low"), found.get("high"))
        main = name == data.metric
        rows.append({"name": metric_name(name), "value": score(*triple), "interval": interval(*triple), "main": main})
    return rows


def findings(data: ReportData) -> Table:
    """Worst first, in plain words, with the evidence as short texts."""
    words = {"leak": "Leak", "warning": "Warning", "info": "Note"}
    rows = []
    for finding in sorted(data.findings, key=severity_order)[:MOST_FINDINGS]:
        severity = str(finding.get("severity", "info"))
        columns = finding.get("columns") or []
        rows.append(
            {
                "severity": severity if severity in words else "info",
                "word": words.get(severity, short(severity, 20)),
                "text": short(finding.get("text") or finding.get("code"), 500),
                "hint": short(finding["hint"], 400) if finding.get("hint") else "",
                "columns": [short(name, 40) for name in columns[:8]],
                "more": max(len(columns) - 8, 0),
                "evidence": pairs(finding.get("evidence") or {}, 8),
            }
        )
    return Table(rows, len(data.findings))


def anomalies(data: ReportData) -> Table:
    """What went wrong in training, by trial, fold and step: what was seen, by which numbers, and what was done."""
    order = sorted(data.anomalies, key=lambda one: (one["trial"], one["fold"], one["step"]))
    rows = [
        {
            "trial": short(one["trial"], 12),
            "fold": short(one["fold"], 12),
            "step": number(one["step"]),
            "kind": short(str(one["kind"]).replace("_", " "), 40),
            "text": short(one["text"], 300),
            "action": short(one["action"], 300),
            "evidence": pairs(one["evidence"], 8),
        }
        for one in order[:MOST_FINDINGS]
    ]
    return Table(rows, len(data.anomalies))


def trials(data: ReportData) -> Table:
    """The leaderboard: ranked trials, then those without a rank."""
    low, high = _axis(data)
    rows = []
    for rank, trial in enumerate([*data.ranked, *data.unranked][:MOST_TRIALS], start=1):
        triple = (trial.get("score"), trial.get("low"), trial.get("high"))
        rows.append(
            {
                "rank": str(rank) if rank <= len(data.ranked) else "–",
                "number": short(trial.get("number"), 12),
                "family": short(trial.get("family"), 30),
                "params": _params(trial.get("params") or {}),
                "score": score(*triple),
                "interval": interval(*triple),
                "whisker": _whisker(_with_span(trial), low, high),
                "folds": _folds(trial),
                "seconds": duration(trial.get("seconds")),
                "rounds": _rounds(trial.get("rounds")),
                "why": _ending(trial),
            }
        )
    return Table(rows, len(data.trials))


def members(data: ReportData) -> Table:
    """The models of the package, each on rows that it learned, that stopped it, and of the test."""
    rows = [
        {
            "trial": short(one.get("trial"), 12),
            "fold": short(one.get("fold"), 12),
            "weight": percent(one.get("weight")),
            **{name: number(one.get(name)) for name in ("train", "valid", "test")},
        }
        for one in data.members[:MOST_MEMBERS]
    ]
    return Table(rows, len(data.members))


def _folds(trial: Record) -> str:
    """Scores of the folds, with digits enough to tell them apart."""
    folds = [part for part in trial.get("fold_scores") or [] if part is not None]
    return "  ".join(score(part, min(folds), max(folds)) for part in folds[:10])


def _rounds(rounds: Any) -> str:
    """Of one model, or of each fold's."""
    if isinstance(rounds, list | tuple):
        return ", ".join(dict.fromkeys(number(part) for part in rounds[:10])) or MISSING
    return number(rounds)


def _ending(trial: Record) -> str:
    status, why = str(trial.get("status") or ""), str(trial.get("why") or "")
    if why and status.lower() in _ENDED_WELL:
        return short(why, 120)
    return short(": ".join(part for part in dict.fromkeys((status, why)) if part) or None, 120)


def _params(params: Record) -> list[tuple[str, str]]:
    pairs = [(short(key, 40), short(value, 40)) for key, value in list(params.items())[:MOST_PARAMS]]
    more = len(params) - MOST_PARAMS
    return [*pairs, ("and", f"{more} more")] if more > 0 else pairs


def _axis(data: ReportData) -> tuple[float, float]:
    """The common scale of the whiskers: the better half of the trials, so that a baseline does not flatten the rest."""
    serious = [trial for trial in data.ranked if not is_baseline(trial)] or data.ranked
    better = serious[: max(3, (len(serious) + 1) // 2)]
    ends = [float(end) for trial in better for end in _with_span(trial) if end is not None]
    if not ends or max(ends) <= min(ends):
        return (0.0, 0.0)
    margin = 0.04 * (max(ends) - min(ends))
    return min(ends) - margin, max(ends) + margin


def _with_span(trial: Record) -> tuple[Any, Any, Any]:
    """Score and its interval; without one, the span of the folds."""
    folds = [part for part in trial.get("fold_scores") or [] if part is not None]
    low, high = trial.get("low"), trial.get("high")
    if (low is None or high is None) and len(folds) > 1:
        low, high = min(folds), max(folds)
    return trial.get("score"), low, high


def _whisker(triple: tuple[Any, Any, Any], low: float, high: float) -> Row | None:
    value, start, end = triple
    if value is None or high <= low or not low <= value <= high:
        return None
    place = [100 * (min(max(part, low), high) - low) / (high - low) for part in (value, start or value, end or value)]
    return {"at": f"{place[0]:.1f}", "start": f"{place[1]:.1f}", "width": f"{max(place[2] - place[1], 0):.1f}"}


def importance(data: ReportData) -> Table:
    """The most important features with bar lengths relative to the first."""
    pairs = sorted(data.importance, key=lambda pair: -pair[1])
    top = max([share for _, share in pairs[:1]] + [1e-12])
    rows = [
        {"name": short(name, 60), "share": percent(share), "width": f"{100 * share / top:.1f}"}
        for name, share in pairs[:MOST_FEATURES]
    ]
    return Table(rows, len(pairs))


def slices(data: ReportData) -> Table:
    """Scores of parts of the test, on a common scale."""
    found = [part for part in data.slices if part.get("score") is not None]
    ends = [float(part[key]) for part in found for key in ("score", "low", "high") if part.get(key) is not None]
    low, high = (min(ends), max(ends)) if ends else (0.0, 0.0)
    rows = []
    for part in found[:MOST_SLICES]:
        triple = (part["score"], part.get("low"), part.get("high"))
        rows.append(
            {
                "column": short(part.get("column"), 40),
                "value": short(part.get("value"), 40),
                "rows": number(part.get("rows")),
                "score": score(*triple),
                "interval": interval(*triple),
                "whisker": _whisker(triple, low, high),
            }
        )
    return Table(rows, len(found))


def stages(data: ReportData) -> list[Row]:
    """Where the time went; bars relative to the longest stage."""
    longest = max([float(stage.get("seconds") or 0.0) for stage in data.stages] + [1e-9])
    rows = []
    for stage in data.stages[:60]:
        seconds = float(stage.get("seconds") or 0.0)
        done = stage.get("rows")
        rows.append(
            {
                "stage": short(stage.get("stage"), 40),
                "seconds": duration(seconds),
                "width": f"{100 * seconds / longest:.1f}",
                "rows": number(done) if done else "–",
                "speed": f"{number(done / seconds, 3)}" if done and seconds > 0 else "–",
                "peak": size(stage.get("peak_bytes")),
            }
        )
    return rows


def reading(data: ReportData, most: int = 10) -> Table:
    """The partitions whose reading took longest, against the mean; nothing where there are not several."""
    found = sorted(data.reading, key=lambda record: (-record["seconds"], record["partition"]))
    if len(found) < 2:
        return Table([], 0)
    mean = max(sum(record["seconds"] for record in found) / len(found), 1e-9)
    rows = [
        {
            "partition": f"{record['partition']}  {short(str(record['path']).rsplit('/', 1)[-1], 40)}",
            "accesses": number(record["accesses"]),
            "rows": number(record["rows"]),
            "seconds": duration(record["seconds"]),
            "width": f"{100 * record['seconds'] / max(found[0]['seconds'], 1e-9):.1f}",
            "times": f"{record['seconds'] / mean:.2f}",
        }
        for record in found[:most]
    ]
    return Table(rows, len(found))


def gauges(data: ReportData) -> list[Row]:
    """Use against ceilings, as bars."""
    rows = []
    for key, used, name, shown in (("time_s", "used", "Time", duration), ("memory_bytes", "peak", "Memory", size)):
        ceiling = data.ceilings.get(key) or {}
        value, limit = ceiling.get(used), ceiling.get("limit")
        if value is None:
            continue
        share = value / limit if limit else None
        text = f"{shown(value)} of {shown(limit)}, {percent(share)}" if limit else f"{shown(value)}, no ceiling"
        rows.append(
            {
                "name": name,
                "text": text,
                "width": None if share is None else f"{100 * min(share, 1.0):.1f}",
                "over": (share or 0) > 1,
            }
        )
    return rows


def confusion(test: Evaluated | None, data: ReportData) -> Row | None:
    """Counts of actual against predicted classes; of many classes the most frequent, the rest as one."""
    if test is None or not data.is_classification:
        return None
    n = test.prediction.shape[1]
    predicted = data.called(test.prediction)
    counts = numbers.confusion(test.y, predicted, n)
    names = [class_name(data.classes, index) for index in range(n)]
    if n > MOST_CLASSES:
        counts, names = _gather(counts, names)
    rows = []
    for index, line in enumerate(counts):
        total = int(line.sum())
        shares = line / max(total, 1)
        cells = [
            {"count": number(int(count)), "level": int(np.ceil(9 * share)), "right": place == index}
            for place, (count, share) in enumerate(zip(line, shares, strict=True))
        ]
        rows.append({"name": names[index], "cells": cells, "recall": percent(float(shares[index])) if total else "–"})
    precision = [percent(counts[i, i] / counts[:, i].sum()) if counts[:, i].any() else "–" for i in range(len(names))]
    return {"names": names, "rows": rows, "precision": precision, "total": plural(int(counts.sum()), "test row")}


def _gather(counts: np.ndarray, names: list[str]) -> tuple[np.ndarray, list[str]]:
    kept = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[: MOST_CLASSES - 1])
    group = np.full(len(names), len(kept))
    group[kept] = np.arange(len(kept))
    gathered = np.zeros((len(kept) + 1, len(kept) + 1), dtype=counts.dtype)
    np.add.at(gathered, (group[:, None], group[None, :]), counts)
    return gathered, [*(names[index] for index in kept), f"{len(names) - len(kept)} others"]


def confused(test: Evaluated | None, data: ReportData, most: int = 8) -> list[Row]:
    """The most frequent mistakes of a multiclass model."""
    if test is None or not data.is_classification or test.prediction.shape[1] < 3:
        return []
    counts = numbers.confusion(test.y, data.called(test.prediction), test.prediction.shape[1])
    totals = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    return [
        {
            "actual": class_name(data.classes, int(i)),
            "predicted": class_name(data.classes, int(j)),
            "rows": number(int(counts[i, j])),
            "share": percent(counts[i, j] / totals[i]),
        }
        for i, j in zip(*np.unravel_index(order, counts.shape), strict=True)
        if counts[i, j] > 0
    ]


def gains(test: Evaluated | None, data: ReportData) -> list[Row]:
    """What acting on the highest scores of a binary model gets."""
    if test is None or not data.is_classification or test.prediction.shape[1] != 2 or len(np.unique(test.y)) < 2:
        return []
    rows = numbers.gains((test.y == 1).astype(np.float64), test.prediction[:, 1], (0.01, 0.05, 0.1, 0.2, 0.3, 0.5))
    return [
        {
            "share": f"{100 * row['share']:g} %",
            "threshold": number(row["threshold"], 3),
            "precision": percent(row["precision"]),
            "recall": percent(row["recall"]),
            "lift": f"{row['lift']:.1f}×",
        }
        for row in rows
    ]


def surest(test: Evaluated | None, data: ReportData) -> list[Row]:
    """What deciding only the surest rows of a multiclass model gets."""
    if test is None or not data.is_classification or test.prediction.shape[1] < 3:
        return []
    rows = numbers.surest(*called(test, data), (0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0))
    return [
        {
            "share": f"{100 * row['share']:g} %",
            "threshold": number(row["threshold"], 3),
            "accuracy": percent(row["accuracy"]),
        }
        for row in rows
    ]


def options(content: Record) -> list[tuple[str, str]]:
    """Name and value of each option that was given a value."""
    pairs = [(short(name, 40), option(str(name), value)) for name, value in list(content.items())[:MOST_OPTIONS]]
    return [(name, value) for name, value in pairs if value != MISSING]


def package(data: ReportData) -> list[tuple[str, str]]:
    """Where the package is and what it is known by."""
    content = dict(data.package)
    if content.get("size_bytes") is not None:
        content["size"] = size(content.pop("size_bytes"))
    return [*options(content), *ensemble(data.ensemble)]


def folds(data: ReportData) -> list[tuple[str, str]]:
    """Rows of each fold, the sealed test last."""
    names = {"-1": "sealed test", "test": "sealed test"}
    ordered = sorted(data.rows_by_fold.items(), key=lambda item: str(item[0]) in names)
    return [
        (names.get(str(key), f"fold {key}" if str(key).isdigit() else short(key, 24)), number(rows))
        for key, rows in ordered[:40]
    ]
