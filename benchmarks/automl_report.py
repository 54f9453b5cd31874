"""Tables and critical-difference plots of what `bench_automl.py` has recorded.

    python benchmarks/automl_report.py [benchmarks/results/automl.jsonl]

For each budget: the loss of each tool on each data set over that of the best, mean ranks with Nemenyi's critical
difference at 5 % (Demsar, "Statistical comparisons of classifiers over multiple data sets", JMLR 2006), overruns,
memory, sizes, failures. Tools that failed share the last ranks. Ranked are tools that were run on half of the sets at
least, on those sets on which all of them were run; the seeds of a set are those that all its tools have.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from scipy.stats import rankdata, studentized_range

Line = Mapping[str, Any]
RANKED = 0.5  # of the data sets, at least, that a tool was run on
OURS = "shardwise"
UNSEALED = "unsealed"  # ours with `--test-share 0`: like its peers it learns from all rows, and scores itself on none
DIGITS = 6  # of a loss; those of right answers differ in the last ones


@dataclass(frozen=True)
class Comparison:
    """Of one budget, or `BUDGET-unsealed`: `loss[case][tool]`, the mean over seeds, None where it failed."""

    budget: str
    loss: Mapping[str, Mapping[str, float | None]]
    lines: Sequence[Line]

    @property
    def tools(self) -> list[str]:
        """Those that were run on any data set."""
        return list(dict.fromkeys(tool for row in self.loss.values() for tool in row))

    @property
    def ranked(self) -> list[str]:
        """Those that were run on enough of them."""
        return [t for t in self.tools if sum(t in row for row in self.loss.values()) >= RANKED * len(self.loss)]

    @property
    def whole(self) -> list[str]:
        """Data sets on which all of these were run."""
        return [case for case, row in self.loss.items() if set(row) >= set(self.ranked)]

    def ranks(self) -> np.ndarray:
        """Float64 `(data sets, ranked tools)`, 1 is the best."""
        losses = [[self.loss[case][tool] for tool in self.ranked] for case in self.whole]
        return np.array([rankdata([np.inf if loss is None else loss for loss in row]) for row in losses])

    def critical_difference(self) -> float:
        """Of mean ranks, at 5 %."""
        tools, cases = len(self.ranked), len(self.whole)
        quantile = float(studentized_range.ppf(0.95, tools, np.inf)) / np.sqrt(2.0)
        return quantile * float(np.sqrt(tools * (tools + 1) / (6.0 * cases)))

    def of(self, tool: str, name: str) -> list[float]:
        """A figure of a tool over what it was run on; failures have none."""
        return [line[name] for line in self.lines if line["peer"] == tool and line.get(name) is not None]


def read_comparisons(path: Path) -> list[Comparison]:
    """One for each budget, and one with ours that seals no rows in the place of ours by default, where it was run; of
    lines that say the same thing the last one counts."""
    lines = [json.loads(text) for text in path.read_text().splitlines()] if path.is_file() else []
    last = {(line["budget"], line["case"], line["peer"], line["seed"]): line for line in lines}
    found = []
    for budget in sorted({line["budget"] for line in last.values()}):
        own = [line for line in last.values() if line["budget"] == budget]
        found.append(_comparison(budget, [line for line in own if line["peer"] != UNSEALED]))
        unsealed = {line["case"] for line in own if line["peer"] == UNSEALED}
        if unsealed:
            rest = [line for line in own if line["peer"] != OURS and line["case"] in unsealed]
            found.append(_comparison(f"{budget}-{UNSEALED}", rest))
    return found


def _comparison(name: str, lines: Sequence[Line]) -> Comparison:
    losses: dict[str, dict[str, dict[int, float | None]]] = defaultdict(lambda: defaultdict(dict))
    for line in lines:
        loss = None if line["loss"] is None else round(line["loss"], DIGITS)
        losses[line["case"]][line["peer"]][line["seed"]] = loss
    means: dict[str, dict[str, float | None]] = {}
    for case, row in losses.items():
        seeds = set.intersection(*(set(values) for values in row.values()))
        means[case] = {tool: _mean([values[seed] for seed in sorted(seeds)]) for tool, values in row.items() if seeds}
    return Comparison(name, {case: row for case, row in means.items() if row}, lines)


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if len(there) == len(values) else None


def table(comparison: Comparison) -> str:
    """Markdown."""
    tools = comparison.tools
    unsealed = (
        "" if UNSEALED not in tools else f" {UNSEALED}: `shardwise train --test-share 0`, which learns from all rows."
    )
    lines = [f"## {comparison.budget}", "", f"Loss over that of the best.{unsealed}", ""]
    lines += ["| | " + " | ".join(tools) + " |", "|---|" + "---|" * len(tools)]
    for case, row in comparison.loss.items():
        known = [loss for loss in row.values() if loss is not None]
        best = min(known, default=1.0)
        cells = ["-" if tool not in row else _ratio(row[tool], best) for tool in tools]
        lines.append(f"| {case} | " + " | ".join(cells) + " |")
    lines += [_row("median excess", [_excess(comparison, tool) for tool in tools])]
    if comparison.whole:
        ranks = dict(zip(comparison.ranked, comparison.ranks().mean(axis=0).tolist(), strict=True))
        cells = [f"{ranks[tool]:.2f}" if tool in ranks else "-" for tool in tools]
        lines += [_row(f"mean rank ({len(comparison.whole)} sets)", cells)]
    for title, name, digits in (
        ("worst overrun", "overrun", ".0%"), ("most memory, MB", "peak_mb", ",.0f"),
        ("largest model, MB", "model_mb", ",.1f"),
    ):  # fmt: skip
        cells = [format(max(values), digits) if (values := comparison.of(tool, name)) else "-" for tool in tools]
        lines.append(_row(title, cells))
    speeds = [comparison.of(tool, "rows_per_s") for tool in tools]
    lines.append(_row("rows/s, median", [f"{median(values):,.0f}" if values else "-" for values in speeds]))
    many = [comparison.of(tool, "batch_rows_per_s") for tool in tools]
    lines.append(_row("rows/s of a large batch, median", [f"{median(each):,.0f}" if each else "-" for each in many]))
    lines.append(_row("least of it", [f"{min(each):,.0f}" if each else "-" for each in many]))
    failed = [sum(bool(line["failure"]) for line in comparison.lines if line["peer"] == tool) for tool in tools]
    lines.append(_row("failures", [str(number) for number in failed]))
    own = sorted({line["commit"] for line in comparison.lines if line["peer"] in (OURS, UNSEALED)})
    seeds = {seed for line in comparison.lines if (seed := line["seed"]) is not None}
    paces = sorted(line["pace_s"] for line in comparison.lines if line.get("pace_s"))
    pace = f" The machine's pace: {paces[0]:.2f} to {paces[-1]:.2f} s for the same trees." if paces else ""
    ranked = ", ".join(comparison.ranked)
    lines += ["", f"Ranked are tools that were run on half of the sets at least: {ranked}."]
    lines += [f"Seeds: {len(seeds)}. Commits of {OURS}: {', '.join(own)}.{pace}"]
    return "\n".join(lines) + "\n"


def _row(title: str, cells: Sequence[str]) -> str:
    return f"| *{title}* | " + " | ".join(cells) + " |"


def _ratio(loss: float | None, best: float) -> str:
    """Over a best of 0 (all answers right) the loss itself."""
    if loss is None:
        return "failed"
    told = f"{loss / best:.4f}" if best else f"{loss:.2g}"
    return f"**{told}**" if loss <= best else told


def _excess(comparison: Comparison, tool: str) -> str:
    """Over the best of those that were run; a failure is infinitely worse."""
    ratios = []
    for row in comparison.loss.values():
        best = min((loss for loss in row.values() if loss is not None), default=0.0)
        if tool in row and best > 0:
            loss = row[tool]
            ratios.append(np.inf if loss is None else loss / best - 1.0)
    return f"{median(ratios):.2%}" if ratios else "-"


def draw(comparison: Comparison, path: Path) -> None:
    """Mean ranks on a line, and bars over tools between which there is no critical difference."""
    ranks, difference = comparison.ranks().mean(axis=0), comparison.critical_difference()
    order = np.argsort(ranks).tolist()
    figure = Figure(figsize=(7.0, 1.6 + 0.28 * len(order)))
    axes = figure.add_subplot()
    axes.set_xlim(0.8, len(order) + 0.2)
    axes.set_ylim(-len(order) - 2.5, 1.6)
    axes.plot([1, len(order)], [0, 0], color="black", lw=1)
    for rank in range(1, len(order) + 1):
        axes.plot([rank, rank], [0, 0.15], color="black", lw=1)
        axes.text(rank, 0.3, str(rank), ha="center", fontsize=8)
    for place, tool in enumerate(order):
        y = -1.0 - place
        axes.plot([ranks[tool], ranks[tool]], [0, y], color="0.6", lw=0.8)
        axes.text(ranks[tool] + 0.06, y, f"{comparison.ranked[tool]}  {ranks[tool]:.2f}", va="center", fontsize=9)
        axes.plot(ranks[tool], y, "o", color="tab:blue", ms=4)
    _bars(axes, np.sort(ranks), difference)
    sets = len(comparison.whole)
    title = f"{comparison.budget}: mean rank on {sets} data sets; bars: no difference at 5 % (CD {difference:.2f})"
    axes.set_title(title, fontsize=9)
    axes.axis("off")
    FigureCanvasSVG(figure)
    with rc_context({"svg.hashsalt": comparison.budget}):  # the same lines give the same bytes
        figure.savefig(path, format="svg", metadata={"Date": None})


def _bars(axes: Any, ranks: np.ndarray, difference: float) -> None:
    reached, y = -1, -len(ranks) - 1.2
    for first, rank in enumerate(ranks):
        last = int(np.flatnonzero(ranks <= rank + difference)[-1])
        if last > max(first, reached):
            axes.plot([rank - 0.04, ranks[last] + 0.04], [y, y], color="black", lw=3, solid_capstyle="round")
            reached, y = last, y - 0.4


def write_report(path: Path, folder: Path) -> list[Path]:
    """`automl.md` and a plot for each budget with three data sets or more; what was written."""
    comparisons = read_comparisons(path)
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "automl.md"]
    head = "# AutoML within a time\n\nMade by `automl_report.py` from `automl.jsonl`.\n\n"
    written[0].write_text(head + "\n".join(table(comparison) for comparison in comparisons))
    for comparison in comparisons:
        if len(comparison.whole) >= 3 and len(comparison.ranked) >= 2:
            written.append(folder / f"automl-{comparison.budget}.svg")
            draw(comparison, written[-1])
    return written


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "results" / "automl.jsonl"
    for written in write_report(path, path.parent):
        print(written.name)


if __name__ == "__main__":
    main()
