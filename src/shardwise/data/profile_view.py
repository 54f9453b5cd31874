"""A profile for people: a table on a terminal."""

import math
from typing import Any

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from shardwise.core.errors import SchemaError
from shardwise.core.units import format_size
from shardwise.data.association import association
from shardwise.data.column_profile import TEMPORAL, ColumnProfile
from shardwise.data.profile import Profile

_BARS = "▁▂▃▄▅▆▇█"
_SPARK_BINS = 12
_MOST_COLUMNS = 300
_TARGET_ROWS = 10


def render_profile(profile: Profile, *, target: str | None = None) -> RenderableType:
    """A head line, the target if one is named, and a row per column; columns with flags first where there are too many.

    Raises `SchemaError` when there is no column `target`.
    """
    if target is not None and target not in profile.columns:
        raise SchemaError(f"there is no column {target!r}", hint=f"There are: {', '.join(profile.columns)[:300]}.")
    power = associations(profile, target) if target is not None else {}
    parts: list[RenderableType] = [_head(profile)]
    if target is not None:
        parts.append(_target_table(profile.columns[target]))
    return Group(*parts, *_column_table(profile, target, power))


def associations(profile: Profile, target: str) -> dict[str, float]:
    """For each other column the share of the target's entropy that it explains, measured on the sample."""
    rows = profile.sample()
    answers = rows.column(target)
    return {name: association(rows.column(name), answers) for name in profile.columns if name != target}


def _head(profile: Profile) -> Text:
    duplicates = profile.duplicate_rows
    share = duplicates / profile.rows if profile.rows else 0.0
    about = "" if duplicates == 0 or profile.distinct_rows <= 16_384 else "about "
    text = f"{profile.rows:,} rows, {len(profile.columns):,} columns, {format_size(profile.size_bytes)} in memory, "
    return Text(
        text + (f"{about}{duplicates:,.0f} duplicate rows ({share:.2%})" if duplicates else "no duplicate rows")
    )


def _target_table(column: ColumnProfile) -> Table:
    """Shares of the classes, or the distribution of a number."""
    table = Table(title=f"target {column.name}", title_justify="left", box=box.SIMPLE, show_edge=False)
    if column.group in ("number", "decimal") and not (column.top_exact and len(column.top) <= _TARGET_ROWS):
        ranks = (0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0)
        names = ("min", "1 %", "25 %", "median", "75 %", "99 %", "max")
        for name in ("mean", "std", *names):
            table.add_column(name, justify="right")
        values = (column.mean, column.std, *column.quantiles(np.array(ranks)).tolist())
        table.add_row(*(format_number(value) for value in values))
        return table
    for name, justify in (("class", "left"), ("rows", "right"), ("share", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for text, count in column.top[:_TARGET_ROWS]:
        table.add_row(Text(shorten(text, 40)), f"{count:,}", f"{count / column.count:.2%}")
    if len(column.top) > _TARGET_ROWS or not column.top_exact:
        table.add_row(Text(f"... about {column.distinct:,.0f} in all", style="dim"), "", "")
    if column.nulls:
        table.add_row(Text("missing", style="yellow"), f"{column.nulls:,}", f"{column.nulls / column.count:.2%}")
    return table


def _column_table(profile: Profile, target: str | None, power: dict[str, float]) -> list[RenderableType]:
    columns = list(profile.columns.values())
    shown = columns
    if len(columns) > _MOST_COLUMNS:
        flagged = sorted(range(len(columns)), key=lambda place: (not columns[place].flags, place))[:_MOST_COLUMNS]
        shown = [columns[place] for place in sorted(flagged)]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    # On a narrow terminal the columns that may wrap get narrower; their cells are cut instead.
    table.add_column("column", overflow="ellipsis", no_wrap=True, max_width=32)
    table.add_column("type", style="cyan", no_wrap=True)
    table.add_column("missing", justify="right", no_wrap=True)
    table.add_column("distinct", justify="right", no_wrap=True)
    if target is not None:
        table.add_column("tells", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("values", max_width=60)
    table.add_column("flags", style="yellow")
    for column in shown:
        table.add_row(*_row(column, column.name == target, power if target is not None else None))
    notes = (
        [f"{len(columns) - len(shown):,} more columns without flags are in --json"] if len(shown) < len(columns) else []
    )
    if target is not None:
        notes.append(
            f"tells: share of the entropy of {target} that the column explains, on {profile.sample().num_rows:,} rows"
        )
    return [table, *(Text(note, style="dim") for note in notes)]


def _row(column: ColumnProfile, is_target: bool, power: dict[str, float] | None) -> list[RenderableType]:
    missing = column.nulls / column.count if column.count else 0.0
    about = "" if column.distinct_error == 0 else "~"
    cells: list[RenderableType] = [
        Text(column.name, style="bold" if is_target else ""),
        short_type(column.type),
        Text(_percent(missing), style="yellow" if missing > 0.5 else ""),
        f"{about}{column.distinct:,.0f}",
    ]
    if power is not None:
        cells.append(_percent(power[column.name]) if column.name in power else "target")
    return [
        *cells,
        sparkline(column),
        Text(summary(column), no_wrap=True, overflow="ellipsis"),
        Text(", ".join(flag.replace("_", " ") for flag in column.flags), no_wrap=True, overflow="ellipsis"),
    ]


def summary(column: ColumnProfile) -> str:
    """Smallest, mean and largest value of numbers; first and last of times; else the most frequent values."""
    if column.group in ("number", "decimal") and column.minimum is not None:
        ends = [format_number(float(value)) for value in (column.minimum, column.maximum)]
        return f"{ends[0]} .. {format_number(column.mean)} .. {ends[1]}"
    if column.group in TEMPORAL and column.minimum is not None:
        return f"{column.minimum} .. {column.maximum}"
    parts = [f"{shorten(text, 24)} {_percent(count / column.count)}" for text, count in column.top[:4]]
    if not parts and column.present:
        return f"{column.mean_length:,.0f} characters, {column.mean_words:,.0f} words on average"
    return ", ".join(parts)


def sparkline(column: ColumnProfile) -> str:
    """A histogram of the middle 98 % in small bars, or the counts of the most frequent values; empty without values."""
    if (column.top_exact and len(column.top) <= _SPARK_BINS) or not column.moments.count:
        shown = column.top[:_SPARK_BINS]
        if column.group in ("number", "decimal"):
            shown = sorted(shown, key=lambda pair: float(pair[0]))
        heights = np.array([count for _, count in shown], dtype=np.float64)
    else:
        values = column.quantiles(np.linspace(0.01, 0.99, 197))
        heights = np.histogram(values, bins=_SPARK_BINS)[0].astype(np.float64)
    if not len(heights) or not heights.max() > 0:
        return ""
    levels = np.ceil(heights / heights.max() * len(_BARS)).astype(int)
    return "".join(_BARS[level - 1] if level else " " for level in levels.tolist())


def short_type(text: str) -> str:
    """An Arrow type in few letters.

    >>> short_type("double"), short_type("timestamp[us, tz=UTC]"), short_type("dictionary<values=string, ...>")
    ('float64', 'timestamp UTC', 'category')
    """
    if text.startswith("dictionary"):
        return "category"
    if text.startswith("timestamp"):
        return f"timestamp {text.split('tz=')[1].rstrip(']')}" if "tz=" in text else "timestamp"
    return {"double": "float64", "float": "float32"}.get(text, text.split("[")[0])


def format_number(value: float) -> str:
    """Four significant digits, whole numbers in full.

    >>> format_number(3.14159), format_number(12345.0), format_number(1e9), format_number(float("nan"))
    ('3.142', '12,345', '1e+09', '-')
    """
    if not math.isfinite(value):
        return "-"
    if abs(value) >= 1e7:
        return f"{value:.4g}"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 10_000 else f"{value:.4g}"


def shorten(text: str, most: int) -> str:
    """One line of at most `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _percent(share: Any) -> str:
    if math.isnan(share):
        return "-"
    return "0" if share == 0 else "<0.1%" if share < 0.001 else f"{share:.1%}"
