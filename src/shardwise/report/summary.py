"""The first screen: how good is it, can it be trusted, what next; in plain words, from the figures of the run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shardwise.core.target import Task
from shardwise.report.data import Record, ReportData
from shardwise.report.words import duration, inline, interval, metric_name, number, percent, plural, score, short, size

_BASELINES = frozenset({"baseline", "constant", "dummy"})
_FEW_ROWS = 30
_LEAST_FOLDS = 3  # whose differences have a spread
_SURE = 2.0  # standard errors
_SCALED = frozenset({"rmse", "mae"})  # metrics that are no ratios: a limit on far rows lowers them
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
    """Rows of the sealed test that were scored; None where that is not known."""
    y = data.test.get("y")
    return None if y is None or not len(y) else len(y)


def untested(data: ReportData) -> str:
    """Why nothing is told of a test, as a sentence without its full stop."""
    sealed = any(data.rows_by_fold.get(key) for key in (-1, "-1", "test"))
    if data.rows_by_fold and not sealed:
        return "No row was sealed as a test"
    if data.test.get("y") is not None:
        return "None of the sealed rows has a label and a weight"
    return "The sealed test was not opened"


def weighing(data: ReportData) -> str:
    """What weighs in metrics and not in charts; empty where every row counts once in both."""
    column, by_class = data.asked.get("weight"), data.asked.get("class_weight")
    by = [f"rows by {short(column, 40)}"] if column else []
    by += ["the classes as in training"] if by_class else []
    if not by:
        return ""
    counted = "charts, tables and shares of rows on this page count each row once, without weights"
    return f"Metrics and scores weigh {' and '.join(by)}; {counted}."


def headline(data: ReportData) -> Headline:
    """The first figure of the page."""
    better = "higher is better" if data.greater_is_better else "lower is better"
    name = metric_name(data.metric)
    if (tested := metric_of_test(data, data.metric)) is not None:
        rows = rows_of_test(data)
        source = f"on {plural(rows, 'sealed test row')}" if rows else "on the sealed test"
        return Headline(name, score(*tested), interval(*tested), source, better)
    if (found := _validation(data)) is not None:
        why = f"{name} is not defined on the test" if data.test.get("metrics") else inline(untested(data))
        return Headline(name, score(*found), interval(*found), f"on validation rows; {why}", better)
    return Headline(name, "–", "", "no trial has finished", better)


def _validation(data: ReportData) -> tuple[float, float | None, float | None] | None:
    """Value, low and high out of fold: of the package, else of the best trial."""
    if data.valid_score is not None:
        return data.valid_score, None, None
    if not data.ranked:
        return None
    best = data.ranked[0]
    return best["score"], best.get("low"), best.get("high")


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
        return Check(OPEN, f"{untested(data)}: the best of many trials looks better than it is.")
    if data.looks > 1:
        text = f"The test was opened for {data.looks} models by now: its score is a little too good."
        return Check(LOOK, f"{text} Intervals are widened for it.")
    if few := next((finding for finding in data.findings if finding.get("code") == "few_groups"), None):
        return Check(LOOK, f"Scored once, on rows that no choice was made with. {few['text']}")
    return Check(GOOD, "Scored once, on rows that no choice was made with.")


def _agreement(data: ReportData) -> list[Check]:
    tested, valid = metric_of_test(data, data.metric), _validation(data)
    if tested is None or valid is None or _is_limited(data):
        return []
    pair = f"{score(*tested)} against {score(*valid)}"
    worse = (valid[0] - tested[0]) * (1 if data.greater_is_better else -1)
    known, other = _half(*tested[1:]), _half(*valid[1:])
    if known is None:
        return []
    if abs(worse) <= math.hypot(known, known if other is None else other):  # without one: as uncertain as the test
        return [Check(GOOD, f"Test and validation agree ({pair}).")]
    if worse > 0:
        return [Check(LOOK, f"The test is worse than validation ({pair}), by more than chance explains.")]
    return [Check(LOOK, f"The test is better than validation ({pair}), by more than chance explains.")]


def _half(low: float | None, high: float | None) -> float | None:
    return None if low is None or high is None else (high - low) / 2


def _is_limited(data: ReportData) -> bool:
    """Validation scores are below the full ones, as few rows would decide them; those of the test are full."""
    return data.metric in _SCALED and any(finding.get("code") == "few_rows_decide" for finding in data.findings)


def is_baseline(trial: Record) -> bool:
    """The trial's family learns nothing from the columns."""
    return str(trial.get("family", "")).lower() in _BASELINES


def _against_baseline(data: ReportData) -> list[Check]:
    constant = next((trial for trial in data.ranked if is_baseline(trial)), None)
    if constant is None:
        return []
    best, sign = data.ranked[0], 1 if data.greater_is_better else -1
    if best["score"] == constant["score"]:
        return [Check(BAD, "Nothing is better than the constant baseline: the columns do not tell the target.")]
    text = f"the constant baseline, which scores {number(constant['score'])} on validation rows"
    value, low, high = metric_of_test(data, data.metric) or (None, None, None)
    if value is not None and low is not None and high is not None and not _is_limited(data):
        if sign * (value - constant["score"]) <= 0:
            return [Check(LOOK, f"On the test no better than {text}.")]
        clear = low > constant["score"] if data.greater_is_better else high < constant["score"]
    else:
        gaps = _gaps(best, constant, sign)
        if len(gaps) < _LEAST_FOLDS:
            return [Check(OPEN, f"Better than {text}; there are too few folds to tell whether by chance.")]
        clear = bool(gaps.mean() > _SURE * gaps.std(ddof=1) / math.sqrt(len(gaps)))
    return [Check(GOOD, f"Clearly better than {text}.") if clear else Check(LOOK, f"Hardly better than {text}.")]


def _gaps(best: Record, other: Record, sign: int) -> np.ndarray:
    """By how much the first trial is better on each fold that both have `(folds,)`."""
    pairs = zip(best.get("fold_scores") or (), other.get("fold_scores") or (), strict=False)
    return np.array([sign * (mine - theirs) for mine, theirs in pairs if mine is not None and theirs is not None])


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
