"""The first screen: how good is it, can it be trusted, what next; in plain words, from the figures of the run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shardwise.core.target import Task
from shardwise.report.data import Record, ReportData
from shardwise.report.words import duration, interval, metric_name, number, percent, plural, score, short, size

_BASELINES = frozenset({"baseline", "constant", "dummy"})
_FEW_ROWS = 30
GOOD, LOOK, BAD, OPEN = "good", "look", "bad", "open"


@dataclass(frozen=True)
class Check:
    """One reason for or against trust; `state` is good, look, bad or open."""

    state: str
    text: str

    @property
    def word(self) -> str:
        return {GOOD: "Good", LOOK: "Look", BAD: "Problem", OPEN: "Open"}[self.state]


@dataclass(frozen=True)
class Headline:
    """The score that is believed most: of the sealed test, else of validation."""

    name: str
    value: str
    interval: str
    source: str
    better: str


def metric_of_test(data: ReportData, name: str) -> tuple[float, float | None, float | None] | None:
    """Value, low and high of a metric of the test."""
    found = (data.test.get("metrics") or {}).get(name)
    if not isinstance(found, Mapping):
        return None if found is None else (float(found), None, None)
    return None if found.get("value") is None else (float(found["value"]), found.get("low"), found.get("high"))


def rows_of_test(data: ReportData) -> int | None:
    """Rows of the sealed test, as far as they are known."""
    for key in (-1, "-1", "test"):
        if key in data.rows_by_fold:
            return int(data.rows_by_fold[key])
    return data.evaluated.rows if data.evaluated else None


def headline(data: ReportData) -> Headline:
    """The first figure of the page."""
    better = "higher is better" if data.greater_is_better else "lower is better"
    name = metric_name(data.metric)
    if (tested := metric_of_test(data, data.metric)) is not None:
        rows = rows_of_test(data)
        source = f"on {plural(rows, 'sealed test row')}" if rows else "on the sealed test"
        return Headline(name, score(*tested), interval(*tested), source, better)
    if data.ranked:
        best = data.ranked[0]
        found = (best["score"], best.get("low"), best.get("high"))
        why = f"{name} is not defined on the test" if data.test.get("metrics") else "not yet tested"
        return Headline(name, score(*found), interval(*found), f"on validation rows; {why}", better)
    return Headline(name, "–", "", "no trial has finished", better)


def checks(data: ReportData) -> list[Check]:
    """Reasons for and against trust, the worst first."""
    found = [
        *_findings(data),
        _sealed(data),
        *_agreement(data),
        *_against_baseline(data),
        *_rare_classes(data),
        *_ceilings(data),
    ]
    return sorted(found, key=lambda check: (BAD, LOOK, OPEN, GOOD).index(check.state))


def _findings(data: ReportData) -> list[Check]:
    leaks = [f for f in data.findings if f.get("severity") == "leak"]
    warnings = [f for f in data.findings if f.get("severity") == "warning"]
    if leaks:
        columns = dict.fromkeys(str(name) for finding in leaks for name in (finding.get("columns") or ())[:3])
        named = f" ({', '.join(short(name, 24) for name in list(columns)[:3])})" if columns else ""
        first = Check(BAD, f"{plural(len(leaks), 'possible leak')}{named}: the score may be too good to be true.")
    else:
        first = Check(GOOD, "No leak of the target was found.")
    second = [Check(LOOK, f"{plural(len(warnings), 'warning')} about the data.")] if warnings else []
    return [first, *second]


def _sealed(data: ReportData) -> Check:
    if metric_of_test(data, data.metric) is None:
        if data.test.get("metrics"):
            return Check(LOOK, f"The test has too few rows, or classes, for {metric_name(data.metric)}.")
        return Check(OPEN, "The sealed test was not opened: the best of many trials looks better than it is.")
    if data.looks > 1:
        text = f"The test was opened for {data.looks} models by now: its score is a little too good."
        return Check(LOOK, f"{text} Intervals are widened for it.")
    return Check(GOOD, "Scored once, on rows that no choice was made with.")


def _agreement(data: ReportData) -> list[Check]:
    tested = metric_of_test(data, data.metric)
    if tested is None or not data.ranked:
        return []
    valid = data.ranked[0]
    pair = f"{score(*tested)} against {score(valid['score'], valid.get('low'), valid.get('high'))}"
    worse = (valid["score"] - tested[0]) * (1 if data.greater_is_better else -1)
    known, other = _half(tested[1], tested[2]), _half(valid.get("low"), valid.get("high"))
    if known is None:
        return []
    if abs(worse) <= math.hypot(known, known if other is None else other):  # without one: as uncertain as the test
        return [Check(GOOD, f"Test and validation agree ({pair}).")]
    if worse > 0:
        return [Check(LOOK, f"The test is worse than validation ({pair}), by more than chance explains.")]
    return [Check(LOOK, f"The test is better than validation ({pair}), by more than chance explains.")]


def _half(low: float | None, high: float | None) -> float | None:
    return None if low is None or high is None else (high - low) / 2


def is_baseline(trial: Record) -> bool:
    """The trial's family learns nothing from the columns."""
    return str(trial.get("family", "")).lower() in _BASELINES


def _against_baseline(data: ReportData) -> list[Check]:
    scores = [trial["score"] for trial in data.ranked if is_baseline(trial)]
    if not scores or not data.ranked:
        return []
    best = data.ranked[0]
    if best["score"] == scores[0]:
        return [Check(BAD, "Nothing is better than the constant baseline: the columns do not tell the target.")]
    edge = best.get("low" if data.greater_is_better else "high")
    edge = best["score"] if edge is None else edge
    clear = edge > scores[0] if data.greater_is_better else edge < scores[0]
    text = f"the constant baseline, which scores {number(scores[0])}."
    return [Check(GOOD, f"Clearly better than {text}") if clear else Check(LOOK, f"Hardly better than {text}")]


def _rare_classes(data: ReportData) -> list[Check]:
    test = data.evaluated
    if not data.is_classification or test is None or test.rows > len(test.y):
        return []
    counts = np.bincount(test.y, minlength=test.prediction.shape[1])
    rare = int((counts < _FEW_ROWS).sum())
    if not rare:
        return []
    return [Check(LOOK, f"{plural(rare, 'class', 'classes')} with fewer than {_FEW_ROWS} test rows: rough figures.")]


def _ceilings(data: ReportData) -> list[Check]:
    found = []
    for key, used, name, shown in (("memory_bytes", "peak", "Memory", size), ("time_s", "used", "Time", duration)):
        ceiling = data.ceilings.get(key) or {}
        limit, value = ceiling.get("limit"), ceiling.get(used)
        if limit and value is not None:
            state = GOOD if value <= 1.02 * limit else BAD
            inside = "inside" if value <= limit else "over"
            found.append(Check(state, f"{name} stayed {inside} its ceiling: {shown(value)} of {shown(limit)}."))
    return found


def next_steps(data: ReportData) -> tuple[list[str], list[tuple[str, str]]]:
    """Advice from the worst findings, and commands: predict first, the rest in the order given."""
    order = {"leak": 0, "warning": 1}
    urgent = sorted((f for f in data.findings if f.get("severity") in order), key=lambda f: order[f["severity"]])
    hints = list(dict.fromkeys(short(finding["hint"], 220) for finding in urgent if finding.get("hint")))
    known = sorted(data.commands, key=lambda name: not str(name).startswith("predict"))
    return hints[:2], [(short(name, 30), short(data.commands[name], 400)) for name in known][:6]


def lede(data: ReportData) -> list[tuple[str, str]]:
    """What the run was, as few facts as tell it: label and value."""
    kind = {
        Task.BINARY: "two classes",
        Task.MULTICLASS: plural(len(data.classes), "class", "classes"),
        Task.REGRESSION: "a number (regression)",
        Task.COUNT: "a count",
        Task.QUANTILE: f"the {percent(data.quantile)} quantile",
    }[Task(data.task)]
    rows = sum(data.rows_by_fold.values())
    seconds = (data.ceilings.get("time_s") or {}).get("used")
    facts: list[tuple[str, Any]] = [
        ("Task", kind),
        ("Rows", number(rows) if rows else None),
        ("Columns", number(data.n_columns) if data.columns else None),
        ("Trials", number(len(data.trials)) if data.trials else None),
        ("Time", duration(seconds) if seconds is not None else None),
        ("Package", size(data.package["size_bytes"]) if data.package.get("size_bytes") else None),
    ]
    return [(label, str(value)) for label, value in facts if value is not None]


def severity_order(finding: Record) -> int:
    """Sort key: leaks, warnings, then the rest."""
    return {"leak": 0, "warning": 1}.get(str(finding.get("severity")), 2)
