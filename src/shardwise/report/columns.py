"""The data profile as rows of a table, with small drawings of the distributions."""

import re
from typing import Any

from shardwise.report import numbers
from shardwise.report.data import Record, ReportData
from shardwise.report.tables import Row, Table
from shardwise.report.words import MISSING, number, percent, short

MOST_COLUMNS = 300
_FLAG_WORDS = {"id": "ID-like", "id_like": "ID-like", "time_like": "time-like"}
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")


def columns(data: ReportData) -> Table:
    """The data profile; of very many columns those with flags first, in the order of the data."""
    picked = sorted(range(len(data.columns)), key=lambda i: (not data.columns[i].get("flags"), i))[:MOST_COLUMNS]
    return Table([_column(data.columns[i], data.target) for i in sorted(picked)], data.n_columns)


def _column(column: Record, target: str) -> Row:
    count = column.get("count")
    nulls = column.get("nulls")
    total = float(count or 0)
    share = float(nulls / total) if nulls is not None and total > 0 else None
    return {
        "name": short(column.get("name"), 60),
        "target": column.get("name") == target,
        "type": short(column.get("group") or column.get("type"), 24),
        "arrow": short(column["type"], 40) if column.get("type") else "",
        "nulls": percent(share) if share is not None else number(nulls),
        "nulls_width": f"{100 * min(share or 0.0, 1.0):.1f}",
        "distinct": number(None if column.get("distinct") is None else round(column["distinct"])),
        "middle": _middle(column),
        "spark": sparkline(column),
        "unused": short(column["rejected"], 120) if column.get("rejected") else "",
        "flags": [
            _FLAG_WORDS.get(str(flag), short(str(flag).replace("_", " "), 40)) for flag in column.get("flags") or []
        ][:6],
    }


def _middle(column: Record) -> str:
    """Range and mean of what has quantiles, else the most frequent values."""
    is_ordered = column.get("quantiles") and column.get("group") != "boolean" and not _is_discrete(column, 4)
    if column.get("minimum") is not None and (is_ordered or not column.get("top")):
        ends = " to ".join(number(_day(column.get(key))) for key in ("minimum", "maximum"))
        return f"{ends}, mean {number(column['mean'])}" if column.get("mean") is not None else ends
    total = float(column.get("count") or 0)
    parts = [short(value, 24) + (f": {percent(count / total)}" if total else "") for value, count in _top(column)[:3]]
    return ", ".join(parts) or MISSING


def _day(value: Any) -> Any:
    """A timestamp at midnight is its day; anything else stays."""
    return value.removesuffix("T00:00:00") if isinstance(value, str) else value


def _top(column: Record) -> list[tuple[Any, float]]:
    """The most frequent values and how often they are."""
    return [(pair[0], float(pair[1])) for pair in column.get("top") or []]


def _in_order(top: list[tuple[Any, float]]) -> list[tuple[Any, float]]:
    """Numbers by value, other values as they are: the most frequent first."""
    is_number = all(_NUMBER.fullmatch(str(value)) for value, _ in top)
    return sorted(top, key=lambda pair: float(pair[0])) if is_number else top


def _is_discrete(column: Record, most: int = 12) -> bool:
    """All values are among the most frequent ones."""
    return 0 < (column.get("distinct") or 0) <= min(most, len(_top(column)))


def sparkline(column: Record) -> str:
    """Path of a distribution in a box of 96 x 20: of few values their counts, else from quantiles; may be empty."""
    heights: list[float] = []
    if len(column.get("quantiles") or []) >= 3 and not _is_discrete(column):
        heights = numbers.spread(column["quantiles"])
    if not heights:
        counts = [count for _, count in _in_order(_top(column)[:12])]
        heights = [count / max(counts) for count in counts] if counts and max(counts) > 0 else []
    width = 96 / max(len(heights), 4)
    gap = 0.0 if len(heights) > 12 else 1.0
    return "".join(
        f"M{i * width:.1f} 20v-{max(height * 19, 0.6):.1f}h{width - gap:.1f}V20z" for i, height in enumerate(heights)
    )
