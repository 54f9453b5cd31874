"""Small runs of every task, as a report gets them; and a strict reading of the page."""

from html.parser import HTMLParser
from typing import Any

import numpy as np

from shardwise.report.data import ReportData

VOID = {"meta", "link", "br", "hr", "img", "input", "col", "area", "base", "embed", "source", "track", "wbr"}
CLASSES = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c", "d")}
TASKS = ("binary", "multiclass", "regression", "count", "quantile")


def evaluated(task: str, rows: int = 400, seed: int = 0) -> dict[str, Any]:
    """Targets and predictions that are right more often than not."""
    draw = np.random.default_rng(seed)
    if task in CLASSES:
        n = len(CLASSES[task])
        y = draw.integers(0, n, rows)
        weight = draw.gamma(1.0, size=(rows, n)) + 2.0 * np.eye(n)[y]
        prediction = weight / weight.sum(axis=1, keepdims=True)
    else:
        prediction = draw.gamma(2.0, 10.0, rows)
        y = draw.poisson(0.05 * prediction) if task == "count" else prediction + draw.normal(0, 5, rows)
        prediction = 0.05 * prediction if task == "count" else prediction
    return {"y": y, "prediction": prediction, "metrics": {"main": {"value": 0.71234, "low": 0.69, "high": 0.73}}}


def column(name: str, **facts: Any) -> dict[str, Any]:
    return {"name": name, "type": "int64", "group": "integer", "count": 1000, "nulls": 12, "distinct": 40, **facts}


def trial(number: int, score: float, **facts: Any) -> dict[str, Any]:
    interval = {"low": score - 0.01, "high": score + 0.01, "fold_scores": [score - 0.005, score + 0.005]}
    base = {"number": number, "family": "trees", "params": {"leaves": 31}, "score": score, "seconds": 1.5}
    return {**base, **interval, "rounds": 80, "status": "done", "why": "no gain for 20 rounds", **facts}


def run_of(task: str, **changes: Any) -> ReportData:
    """A whole run of a task, every section filled."""
    content: dict[str, Any] = {
        "title": "a run",
        "task": task,
        "target": "goal",
        "classes": CLASSES.get(task, ()),
        "metric": "main",
        "greater_is_better": True,
        "asked": {"data": ["data/x.parquet"], "time": "60s", "storage": {"secret": "hush-hush"}},
        "rows_by_fold": {0: 600, 1: 300, -1: 400},
        "test": evaluated(task),
        "versions": {"python": "3.11"},
        "package": {"path": "runs/a/package", "hash": "abc", "size_bytes": 10**6},
        "commands": {"evaluate": "shardwise evaluate P D", "predict": "shardwise predict P D --out o.parquet"},
    }
    return ReportData(**{**content, **_findings(), **_trials(), **_use(), **changes})


def _findings() -> dict[str, Any]:
    warning = {"code": "w", "severity": "warning", "text": "rows repeat", "columns": [], "evidence": {"rows": 5}}
    leak = {"code": "l", "severity": "leak", "text": "age tells all", "columns": ["age"], "hint": "use --drop age"}
    return {
        "findings": [warning, leak],
        "columns": [
            column("age", minimum=1, maximum=90, mean=38.2, quantiles=list(np.linspace(1, 90, 41))),
            column("city", group="string", type="string", top=[["Rome", 600], ["Oslo", 300]], flags=["id_like"]),
        ],
        "slices": [{"column": "city", "value": "Rome", "rows": 240, "score": 0.7, "low": 0.68, "high": 0.74}],
    }


def _trials() -> dict[str, Any]:
    pruned = trial(3, 0.6, status="pruned")
    first, second = [(i, None, 2 / (i + 1)) for i in range(40)], [(i, 1 / (i + 2), 1 / (i + 1)) for i in range(50)]
    return {
        "trials": [trial(0, 0.5, family="baseline"), trial(1, 0.70), trial(2, 0.72), pruned],
        "curves": {1: first, 2: second},
        "importance": [("age", 0.7), ("city", 0.3)],
    }


def _use() -> dict[str, Any]:
    return {
        "stages": [{"stage": "profile", "seconds": 2.0, "rows": 1300, "peak_bytes": 10**8}],
        "ceilings": {
            "memory_bytes": {"limit": 10**9, "peak": 6 * 10**8},
            "time_s": {"limit": 60.0, "used": 55.0},
            "samples": [(float(i), 10**8 + i * 10**6) for i in range(500)],
        },
    }


class Page(HTMLParser):
    """Reads a page and holds that tags are balanced; gathers ids, links, headings and texts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> inside of <{self.open[-1]}>, line {self.getpos()[0]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data.strip())

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        held = dict(attrs)
        self.tags.append((tag, held))
        if held.get("id"):
            self.ids.append(str(held["id"]))
        self.links += [str(held[name]) for name in ("href", "src", "xlink:href", "action", "poster") if held.get(name)]

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def find(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]
