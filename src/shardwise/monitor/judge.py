"""Windows one after the other: which drift is more than chance, at a rate of false alarms that is kept.

All tests of a window, of every column, share its chance of a false alarm (Holm), so that more columns do not mean more
alarms. Windows are judged alone, and merged by 4 and by 16, where a slow drift shows that one window cannot; each
span has its part of the chance. What chance does not explain is still no alarm where it is too small to matter.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shardwise.core.errors import ConfigError
from shardwise.core.findings import Finding
from shardwise.monitor.drift import ColumnDrift
from shardwise.monitor.windows import Reference, Window
from shardwise.stats.paired import holm

UNREAD = "unread"  # of a finding: values of a column that cannot be compared
SPANS = (1, 4, 16)  # windows that are judged together
_SPENT = 0.5  # of the rate: the rest is for tests that are not exact far out, and for a training that is odd by chance


@dataclass(frozen=True, kw_only=True)
class DriftConfig:
    """`false_alarms`, at most, per window where nothing has changed; sizes below which a difference does not matter."""

    false_alarms: float = 0.001
    least_psi: float = 0.02
    least_ks: float = 0.03  # of numbers; of categories the change of the share of one
    least_share: float = 0.002  # of missing, new or outside rows
    least_rows: int = 100  # of a window

    def __post_init__(self) -> None:
        if not 0 < self.false_alarms < 1:
            raise ConfigError(f"false_alarms is {self.false_alarms}", hint="Give a rate per window, such as 0.001.")


def find_drift(
    reference: Reference, window: Window, config: DriftConfig | None = None, *, chance: float | None = None
) -> list[Finding]:
    """What has changed from training to a window, the largest first; `chance` of any false one, else the config's."""
    config = config or DriftConfig()
    if window.rows < config.least_rows:
        return []
    tests = [(what, drift, test, p) for what, drift in reference.compared(window) for test, p in drift.p_values.items()]
    adjusted = holm(np.array([p for *_, p in tests]))
    limit = _SPENT * config.false_alarms if chance is None else chance
    found = [_finding(what, drift, test, float(p)) for (what, drift, test, _), p in zip(tests, adjusted, strict=True)
             if p < limit and _matters(drift, test, config)]  # fmt: skip
    return sorted(found, key=lambda finding: -float(finding.evidence["psi"] or 0.0))


def _matters(drift: ColumnDrift, test: str, config: DriftConfig) -> bool:
    if test == "distribution":
        moved = drift.facts.get("largest_change", 0.0) if drift.ks is None else drift.ks
        return (drift.psi or 0.0) >= config.least_psi or moved >= config.least_ks
    return _share(drift, test) >= config.least_share


def _share(drift: ColumnDrift, test: str) -> float:
    if test == "missing":
        before, after = drift.facts["missing"]
        return float(abs(after - before))
    return float(drift.facts[f"{test}_rows"] / drift.rows)


def _finding(what: str, drift: ColumnDrift, test: str, p_value: float) -> Finding:
    texts = {
        "distribution": lambda: f"{what} {drift.column!r} is distributed differently ({_sizes(drift)})",
        "missing": lambda: "{} {!r} is missing in {:.1%} of the rows, {:.1%} in training".format(
            what, drift.column, *reversed(drift.facts["missing"])),
        "new": lambda: "{} {!r} has values that training had not: {}".format(
            what, drift.column, ", ".join(drift.facts["new_values"])),
        "outside": lambda: f"{what} {drift.column!r} is outside its range of training in {_share(drift, test):.1%}",
    }  # fmt: skip
    return Finding(
        code=f"drift_{test}", severity="warning", text=texts[test](), columns=(drift.column,),
        evidence={"what": what, "test": test, "p_value": p_value, **drift.to_json()},
    )  # fmt: skip


def _sizes(drift: ColumnDrift) -> str:
    parts = {"PSI": drift.psi, "JS": drift.js, "KS": drift.ks}
    text = ", ".join(f"{name} {value:.3f}" for name, value in parts.items() if value is not None)
    gone = drift.facts.get("vanished_values")
    return f"{text}; gone: {', '.join(gone)}" if gone else text


class DriftMonitor:
    """Judges windows in their order; keeps what is merged for longer spans."""

    def __init__(self, reference: Reference, config: DriftConfig | None = None) -> None:
        self.reference = reference
        self.config = config or DriftConfig()
        self.windows = 0
        self._merged: dict[int, Window] = {}

    def close(self, window: Window) -> list[Finding]:
        """The findings of a window and of those spans that end with it; of a column and test the longest span tells."""
        self.windows += 1
        found: dict[tuple[object, ...], Finding] = {}
        for span, merged in self._ended(window):
            for finding in find_drift(self.reference, merged, self.config, chance=self.chance(span)):
                key = (finding.code, finding.evidence["what"], *finding.columns)
                found[key] = _with_span(finding, span)
        return list(found.values())

    def chance(self, span: int) -> float:
        """Of a false alarm of a test of so many windows: each span has an equal part of what is spent per window."""
        return _SPENT * self.config.false_alarms * span / len(SPANS)

    def _ended(self, window: Window) -> Iterator[tuple[int, Window]]:
        for span in SPANS:
            if span == 1:
                yield span, window
                continue
            if span in self._merged:
                self._merged[span].merge(window)
            else:
                self._merged[span] = window.copy()
            if self.windows % span == 0:
                yield span, self._merged.pop(span)


def _with_span(finding: Finding, span: int) -> Finding:
    return Finding(**{**vars(finding), "evidence": {**finding.evidence, "windows": span}})


def suggested(findings: Sequence[Finding], by_partition: Mapping[str, Sequence[Finding]] | None = None) -> str:
    """What to do about findings; `by_partition` says which new partitions show them."""
    if not findings:
        return ""
    broken = [
        f for f in findings if f.code in ("drift_missing", "drift_new", UNREAD) and f.evidence["what"] == "column"
    ]
    if broken and len(broken) == len(findings):
        columns = ", ".join(sorted({column for finding in broken for column in finding.columns}))
        return f"Look at where {columns} come from before anything is retrained: cells are missing, new or unread."
    moved = [place for place, found in (by_partition or {}).items() if found]
    if moved:
        shown = ", ".join(moved[:5]) + (f" and {len(moved) - 5} more" if len(moved) > 5 else "")
        return f"Retrain on the old partitions together with: {shown}."
    return "Retrain on the old partitions together with those of the time since the first alarm."
