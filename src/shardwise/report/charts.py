"""Charts as inline SVG, drawn by matplotlib; colours are the page's CSS variables, so that light and dark both work.

No text of the user's is drawn: names live in the HTML legends, where they are escaped, wrap, and need no glyphs here.
"""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

Mark = Callable[[Axes], object]
COLOURS = 5  # then the same again, dashed
_WIDTH, _HEIGHT = 380, 262
_INK, _MUTED, _GRID = "#010101", "#020202", "#030303"
_VARIABLES = {_INK: "--ink", _MUTED: "--muted", _GRID: "--grid"}
_VARIABLES |= {f"#0a0a0{n}": f"--s{n}" for n in range(COLOURS)}
_LEVELS = (0.16, 0.32, 0.5, 0.72, 1.0)  # opacities of a density
_STYLE: Any = {  # typed by matplotlib only since 3.11
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 11,
    "font.family": ["DejaVu Sans"],
    "text.color": _MUTED,
    "axes.labelcolor": _MUTED,
    "axes.labelsize": 11,
    "axes.edgecolor": _GRID,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.unicode_minus": True,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "xtick.major.pad": 6,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_joinstyle": "round",
    "path.simplify": True,
}


@dataclass(frozen=True)
class Legend:
    """One entry below a chart: `series` numbers the colour; `kind` is line, dash, rule, box, a marker (o s ^ D v)."""

    label: str
    series: int
    kind: str = "line"


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A drawn chart with what stands around it."""

    title: str
    svg: Markup
    legend: Sequence[Legend] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The axes of a chart: labels, ranges (None: as the data needs), and shares shown in percent, logarithmic."""

    x: str
    y: str
    x_range: tuple[float, float] | None = None
    y_range: tuple[float | None, float | None] | None = None
    x_percent: bool = False
    y_percent: bool = False
    y_log: bool = False
    x_whole: bool = False
    x_ticks: Sequence[float] | None = None


def draw(name: str, alt: str, frame: Frame, marks: Sequence[Mark]) -> Markup:
    """One chart as an SVG element. `name` makes its ids unique in the page, `alt` says what is seen."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for mark in marks:
            mark(axes)
        _set_frame(axes, frame)
        content = io.StringIO()
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(content.getvalue(), name, alt)


def colour(series: int) -> str:
    """The placeholder that becomes the CSS variable of a series."""
    return f"#0a0a0{series % COLOURS}"


def line(x: np.ndarray, y: np.ndarray, series: int = 0, *, dashed: bool = False, marker: str = "") -> Mark:
    style = (0, (4, 2.2)) if dashed or series >= COLOURS else "-"
    return lambda axes: axes.plot(
        x, y, color=colour(series), linestyle=style, marker=marker or None, markersize=4.5, solid_capstyle="round"
    )


def steps(x: np.ndarray, y: np.ndarray, series: int = 0) -> Mark:
    """A curve that holds each value until the next point."""
    return lambda axes: axes.step(x, y, where="post", color=colour(series))


def dots(x: np.ndarray, y: np.ndarray, series: int = 0, shape: str = "o") -> Mark:
    return lambda axes: axes.plot(
        x, y, color=colour(series), linestyle="", marker=shape, markersize=5, markeredgewidth=1.2, fillstyle="none"
    )


def bars(left: np.ndarray, height: np.ndarray, width: np.ndarray | float, series: int = 0, alpha: float = 0.85) -> Mark:
    return lambda axes: axes.bar(left, height, width, align="edge", color=colour(series), alpha=alpha, linewidth=0)


def whiskers(x: np.ndarray, low: np.ndarray, high: np.ndarray, series: int = 0) -> Mark:
    return lambda axes: axes.vlines(x, low, high, color=colour(series), linewidth=1.4)


def rule(points: tuple[Sequence[float], Sequence[float]]) -> Mark:
    """A thin reference line in the muted colour."""
    return lambda axes: axes.plot(*points, color=_MUTED, linewidth=1.0, linestyle=(0, (2, 2.5)), zorder=1.5)


def level(y: float, series: int | None = None) -> Mark:
    """A horizontal reference over the whole width."""
    ink = _MUTED if series is None else colour(series)
    return lambda axes: axes.axhline(y, color=ink, linewidth=1.2, linestyle=(0, (2, 2.5)), zorder=1.5)


def density(x: np.ndarray, y: np.ndarray, box: tuple[tuple[float, float], tuple[float, float]], bins: int = 36) -> Mark:
    """Rows per cell of a grid over `box`, as five opacities on a logarithmic scale."""
    counts, x_edges, y_edges = np.histogram2d(x, y, bins=bins, range=box)
    top = np.log1p(counts.max()) or 1.0
    shade = np.where(counts > 0, np.ceil(np.log1p(counts) / top * len(_LEVELS)), 0).astype(int)

    def mark(axes: Axes) -> None:
        for number, alpha in enumerate(_LEVELS, start=1):
            cells = [
                Path(_corners(x_edges[i : i + 2], y_edges[j : j + 2]), closed=True)
                for i, j in np.argwhere(shade == number)
            ]
            if cells:
                path = Path.make_compound_path(*cells)
                axes.add_patch(PathPatch(path, facecolor=colour(0), alpha=alpha, linewidth=0))

    return mark


def _corners(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    return [(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1]), (x[0], y[0])]


def compact(value: float, _position: int = 0) -> str:
    """A tick label that stays short.

    >>> compact(15000.0), compact(2.5e6), compact(0.25), compact(-3.0)
    ('15k', '2.5M', '0.25', '−3')
    """
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * factor or (factor > 1e3 and abs(value) >= factor):
            return f"{value / factor:g}{unit}".replace("-", "−")
    return f"{round(value, 10):.6g}".replace("-", "−")


def _percent(value: float, _position: int = 0) -> str:
    return f"{100 * value:.6g} %"


def _set_frame(axes: Axes, frame: Frame) -> None:
    axes.set_xlabel(frame.x)
    axes.set_ylabel(frame.y)
    axes.grid(visible=False, axis="x")
    if frame.x_range:
        axes.set_xlim(*frame.x_range)
    if frame.y_range:
        axes.set_ylim(*frame.y_range)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=frame.x_whole, steps=[1, 2, 2.5, 5, 10]))
    if frame.y_log:
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if frame.x_ticks is not None:
        axes.set_xticks(list(frame.x_ticks))
    for axis, as_percent in ((axes.xaxis, frame.x_percent), (axes.yaxis, frame.y_percent)):
        axis.set_major_formatter(FuncFormatter(_percent if as_percent else compact))


_DROPPED = re.compile(
    r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>| transform=\"rotate\(-0 [^\"]*\)\""
    r"|<path d=\"[^\"]*\" style=\"fill: none\"/>"
    r"| xmlns(:xlink)?=\"[^\"]*\"| version=\"1.1\"| id=\"[A-Za-z][\w.]*_\d+\"",
    re.DOTALL,
)
_FONT = re.compile(r"font-family: [^;\"]*;? ?|font: ")
_LONG = re.compile(r"(\d\.\d{2})\d+")


def _inline(text: str, name: str, alt: str) -> Markup:
    """The SVG element alone: no prologue, no ids but those referred to, short numbers, variables for colours."""
    body = _DROPPED.sub("", text[text.index("<svg") :])
    head, body = body.split(">", 1)
    viewbox = re.search(r'viewBox="([^"]*)"', head)
    assert viewbox is not None
    body = _FONT.sub("", body).replace("xlink:href", "href")
    body = re.sub(r'"[^"]*"', lambda value: _LONG.sub(r"\1", value[0]), body)
    body = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", body)
    for placeholder, variable in _VARIABLES.items():
        body = body.replace(placeholder, f"var({variable})")
    body = re.sub(r">\s+<", "><", re.sub(r"\s*\n\s*", " ", body).replace(' "', '"')).strip()
    body = re.sub(r"<g/>|<g>(<g/>)?</g>", "", body)
    # Safe: `body` holds numbers and our own axis labels, `alt` is escaped.
    return Markup('<svg viewBox="{}" role="img" aria-label="{}">').format(viewbox[1], escape(alt)) + Markup(body)  # noqa: S704
