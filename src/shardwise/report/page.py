"""One self-contained HTML file: no scripts, no links to anywhere, styles and charts inside.

The page forbids scripts and loading by its own Content-Security-Policy, on top of the escaping of every name and value.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from shardwise.core.errors import context
from shardwise.report import evaluation, summary, tables, training, words
from shardwise.report.columns import columns
from shardwise.report.data import ReportData
from shardwise.report.workers import workers
from shardwise.store.files import write_atomic


def write_report(data: ReportData, path: Path) -> Path:
    """Write the page to `path`, whole or not at all; the same data gives the same bytes.

    Folders on the way are made. Raises `DataError` or `DiskFull` when the file cannot be written.
    """
    with context(stage="report"):
        write_atomic(path, render(data).encode("utf8"))
    return path


def render(data: ReportData) -> str:
    """The page as text."""
    template = _environment().get_template("page.html")
    return words.printable(template.render(data=data, **_first_screen(data), **_sections(data)))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("shardwise.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        short=words.short, number=words.number, plural=words.plural, unbroken=words.unbroken, breakable=words.breakable
    )
    return environment


def _first_screen(data: ReportData) -> dict[str, Any]:
    hints, commands = summary.next_steps(data)
    return {
        "headline": summary.headline(data),
        "checks": summary.checks(data),
        "hints": hints,
        "commands": commands,
        "facts": summary.lede(data),
        "metrics": tables.metrics(data),
    }


def _sections(data: ReportData) -> dict[str, Any]:
    test = data.evaluated
    return {
        "findings": tables.findings(data),
        "test": test,
        "untested": summary.untested(data),
        "weighing": summary.weighing(data),
        "test_charts": evaluation.charts(data),
        "confusion": tables.confusion(test, data),
        "confused": tables.confused(test, data),
        "surest": tables.surest(test, data),
        "gains": tables.gains(test, data),
        "trials": tables.trials(data),
        "members": tables.members(data),
        "anomalies": tables.anomalies(data),
        "training_charts": training.training_charts(data),
        "importance": tables.importance(data),
        "slices": tables.slices(data),
        "columns": columns(data),
        "stages": tables.stages(data),
        "workers": workers(data),
        "beside": workers(data, together=False),
        "reading": tables.reading(data),
        "gauges": tables.gauges(data),
        "memory": training.memory_chart(data),
        "asked": tables.options(data.asked),
        "versions": tables.options(data.versions),
        "package": tables.package(data),
        "folds": tables.folds(data),
        "metric": words.metric_name(data.metric),
        "metric_inline": words.inline(words.metric_name(data.metric)),
    }
