"""Scores that would be too good to be true: leaks looked for in a sample before training, with the evidence."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from shardwise.core.findings import Finding
from shardwise.core.seeds import derive_seed
from shardwise.core.target import Target
from shardwise.data.profile import Profile
from shardwise.split.base import Splitter
from shardwise.split.copies import copies_across_folds
from shardwise.split.groups import group_gap
from shardwise.split.probes import Labels, Probe, correlation, least_known, proportion, ranks
from shardwise.split.probes_wide import powers, read_probes

_SEVERITIES = ("leak", "warning", "info")
_ID_NAME = re.compile(
    r"(^|[_\W])(id|uuid|guid|key|index|instant|rownum|row|number|no)$|(?<=[a-z])(ID|Id|No)$", re.IGNORECASE
)

_ENTITY = re.compile(
    "patient|subject|customer|client|user|member|person|household|account|device|machine|session|recording|group|site|"
    "vehicle|policy|employee|student|company|driver",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class LeakConfig:
    """Powers (see `Labels.power`) from which a finding is made, chosen on 40 public tables.

    `copy`: a column that tells the target like this is taken as a copy; `missing`, `identifier`: the same of a pattern
    of nulls, and of an identifier. `outstanding`: at least this, and no other column above `ratio` of it; where it is
    no measured number, at least `outstanding_code`. `proportional`: share of rows. `drift`: of a time column.
    `group_gap`: loss of power when groups are held together. `copies`: share of rows with a twin. Where one of two
    classes is so rare that chance does as much, more is asked for (`Labels.chance`).
    """

    copy: float = 0.97
    missing: float = 0.9
    identifier: float = 0.9
    identifier_warning: float = 0.1
    outstanding: float = 0.5
    outstanding_code: float = 0.85
    ratio: float = 0.6
    proportional: float = 0.5
    drift: float = 0.1
    group_gap: float = 0.15
    copies: float = 0.01
    min_rows: int = 50
    seed: int = 0


def find_leaks(
    sample: pa.Table,
    target: Target,
    *,
    time_column: str | None = None,
    group: str | None = None,
    splitter: Splitter | None = None,
    profile: Profile | None = None,
    ignore: Collection[str] = (),
    config: LeakConfig | None = None,
) -> list[Finding]:
    """Findings about a uniform sample of rows, gravest first: `leak` is near-certain, `warning` wants a look.

    `ignore` names columns that are no features; `profile` is that of the data that the sample is from, so that what a
    sample hides can be told. Too few labelled rows, or one class only, give no findings.
    """
    config = config or LeakConfig()
    y = target.encode(sample.column(target.column))
    known = ~np.isnan(y)
    if known.sum() < config.min_rows or len(np.unique(y[known])) < 2:
        return []
    sample = sample.filter(pa.array(known))
    labels = Labels.of(target, y[known], derive_seed(config.seed, "leaks"))
    skipped = {target.column, *ignore, *([time_column] if time_column else []), *([group] if group else [])}
    search = _Search(labels, read_probes(sample, skipped), config, profile)
    found = list(search.columns())
    if group is None:
        found += search.group_ignored()
    found += search.outstanding()
    if time_column is None:
        found += search.time_ignored()
    if splitter is not None:
        features = [probe.name for probe in search.probes if not _is_identifier(probe)]
        found += copies_across_folds(sample, features, splitter, profile, least=config.copies)
    return sorted(found, key=lambda finding: _SEVERITIES.index(finding.severity))


class _Search:
    """The probed columns of a sample with the power of each; columns that were found to leak are set aside."""

    def __init__(
        self, labels: Labels, probes: Sequence[Probe], config: LeakConfig, profile: Profile | None = None
    ) -> None:
        self.labels, self.probes, self.config, self.profile = labels, probes, config, profile
        self.power = powers(labels, probes)
        self.set_aside: set[str] = set()

    @property
    def left(self) -> list[Probe]:
        return [probe for probe in self.probes if probe.name not in self.set_aside]

    def columns(self) -> Iterator[Finding]:
        """Findings about single columns, at most one for each."""
        for probe in self.probes:
            tests = (self._copy, self._identifier, self._near_copy, self._missing, self._same_quantity)
            finding = next((finding for test in tests if (finding := test(probe)) is not None), None)
            if finding is not None:
                self.set_aside.add(probe.name)
                yield finding

    def _say(self, code: str, severity: str, probe: Probe, text: str, hint: str, **evidence: Any) -> Finding:
        power = round(self.power[probe.name], 4)
        return Finding(
            code=code,
            severity=severity,
            text=text,
            columns=(probe.name,),
            evidence={"power": power, "distinct": probe.distinct, **evidence},
            hint=hint,
        )

    def _copy(self, probe: Probe) -> Finding | None:
        how = _relation(probe, self.labels)
        if how is None:
            return None
        text = f"Column {probe.name!r} is the target {self.labels.target.column!r}, {how}{_where(probe.known)}."
        hint = f"Leave it out: --drop {probe.name}."
        return self._say("target_copy", "leak", probe, text, hint, relation=how, known=round(probe.known, 4))

    def _near_copy(self, probe: Probe) -> Finding | None:
        labels, power, evidence = self.labels, self.power[probe.name], dict[str, float]()
        where = None if _is_sure(power, self.config.copy, labels) else labels.where_known(probe)
        known = 1.0 if where is None else probe.known
        if where is not None:
            labels, probe = where
            power = labels.power_of(probe)
            evidence = {"known": round(known, 4), "power_known": round(power, 4)}
        if not _is_sure(power, self.config.copy, labels):
            return None
        told = f"it alone reaches {labels.in_words(power)} on rows that were not looked at{_where(known)}"
        if _is_entity(probe, labels):
            text = (
                f"All rows with the same {probe.name!r} share the target: {told}, and a split by row tears them apart."
            )
            hint = f"Keep them together: --group {probe.name}."
            return self._say("group_tells_target", "leak", probe, text, hint, **evidence)
        text = f"Column {probe.name!r} nearly gives the target away: {told}."
        hint = f"Is it known before the target is? If not, --drop {probe.name}."
        return self._say("near_copy", "leak", probe, text, hint, **evidence)

    def _identifier(self, probe: Probe) -> Finding | None:
        power = self.power[probe.name]
        if power < max(self.config.identifier_warning, self.labels.chance) or not _is_identifier(probe):
            return None
        severity = "leak" if power >= self.config.identifier else "warning"
        text = (
            f"Column {probe.name!r} numbers the rows, and it alone reaches {self.labels.in_words(power)}: the rows "
            "were numbered in an order that depends on the target."
        )
        return self._say("id_tells_target", severity, probe, text, f"New rows get new numbers: --drop {probe.name}.")

    def _missing(self, probe: Probe) -> Finding | None:
        missing = probe.missing
        if not 0.005 < missing.mean() < 0.995:
            return None
        power = self.labels.power(missing.astype(np.int64))
        if not _is_sure(power, self.config.missing, self.labels):
            return None
        text = (
            f"Whether {probe.name!r} is missing ({missing.mean():.1%} of rows) nearly gives the target away: that "
            f"alone reaches {self.labels.in_words(power)}."
        )
        hint = f"Is it filled in only after the target is known? Then --drop {probe.name}."
        return self._say("missing_tells_target", "leak", probe, text, hint, missing_power=round(power, 4))

    def _same_quantity(self, probe: Probe) -> Finding | None:
        """A number that is proportional to the target in most rows, though some are far off."""
        if self.labels.target.task.is_classification or probe.is_category or probe.is_time or probe.distinct < 10:
            return None
        share, chance = proportion(probe.values, self.labels.y, self.config.seed)
        if share < self.config.proportional or share < 2 * chance:
            return None
        text = (
            f"Column {probe.name!r} is proportional to the target within 10 % in {share:.0%} of the rows"
            f"{_where(probe.known)} ({chance:.0%} would be by chance): it seems to be the same quantity, measured "
            "again."
        )
        hint = f"Is it known when the prediction is made? If only afterwards, --drop {probe.name}."
        evidence = {"share": round(share, 4), "chance": round(chance, 4), "known": round(probe.known, 4)}
        return self._say("same_quantity", "warning", probe, text, hint, **evidence)

    def outstanding(self) -> Iterator[Finding]:
        """Columns that tell far more than any other: known only afterwards, perhaps."""
        least, coded = self.config.outstanding, self.config.outstanding_code
        for _ in range(3):
            left = [probe for probe in self.left if not probe.is_time]
            ranked = sorted(left, key=lambda probe: (-self.power[probe.name], probe.name))
            if len(ranked) < 3:
                return
            best, second = (self.power[probe.name] for probe in ranked[:2])
            top = ranked[0]
            is_measured = not top.is_category and top.distinct > 100
            if second > self.config.ratio * best or best < max(least if is_measured else coded, self.labels.chance):
                return
            self.set_aside.add(top.name)
            text = (
                f"Column {top.name!r} tells far more of the target than any other: alone it reaches "
                f"{self.labels.in_words(best)}, the next one, {ranked[1].name!r}, {self.labels.in_words(second)}."
            )
            hint = f"Is it known when the prediction is made? If only afterwards, --drop {top.name}."
            yield self._say(
                "known_afterwards", "warning", top, text, hint, next_column=ranked[1].name, next_power=round(second, 4)
            )

    def time_ignored(self) -> list[Finding]:
        """Of the time columns the one with which the target changes most."""
        times = [probe for probe in self.left if probe.is_time and probe.distinct >= 3]
        if not times:
            return []
        drifts = {probe.name: self.labels.drift_of(probe) for probe in times}
        top = max(times, key=lambda probe: drifts[probe.name])
        power = drifts[top.name]
        hint = f"If later rows are to be predicted, split by time: --time-column {top.name}."
        if power < max(self.config.drift, self.labels.chance):
            return [
                self._say("time_column", "info", top, f"Column {top.name!r} holds times; the split is random.", hint)
            ]
        text = (
            f"The target changes with {top.name!r}, which alone reaches {self.labels.drift_in_words(power)} among "
            "rows of the same times; a random split ignores the order of time, so later rows may be scored worse."
        )
        return [self._say("time_ignored", "warning", top, text, hint, drift=round(power, 4))]

    def group_ignored(self) -> Iterator[Finding]:
        """Columns of entities whose rows a random split tears apart to a better score than new entities would get."""
        candidates = [probe for probe in self.left if _may_group(probe, self._size(probe))]
        candidates.sort(key=lambda probe: (-self.power[probe.name], probe.name))
        for probe in candidates[:3]:
            size = self._size(probe)
            each = f"({size.groups:,.0f} values, {size.rows:.1f} rows each)"
            looks = f"Column {probe.name!r} looks like a group of rows {each}"
            hint = f"If rows of new groups are to be predicted, keep groups together: --group {probe.name}."
            gap = group_gap(probe, self.left, self.labels, shared=size.rows > 2 * size.seen)
            if gap is None and _is_entity_name(probe.name):
                text = (
                    f"{looks}; too few of the rows that were looked at share one to tell what that does to the score."
                )
                yield self._say("group_column", "info", probe, text, hint, rows_each=round(size.rows, 1))
            if gap is None or gap.random - gap.grouped < max(self.config.group_gap, self.labels.chance):
                continue
            text = (
                f"{looks}: a small model reaches {gap.labels.in_words(gap.random)} when groups are torn apart, and "
                f"{gap.labels.in_words(gap.grouped)} on groups that it has not seen."
            )
            self.set_aside.add(probe.name)
            evidence = {"random": round(gap.random, 4), "grouped": round(gap.grouped, 4)}
            yield self._say("group_ignored", "warning", probe, text, hint, rows_each=round(size.rows, 1), **evidence)
            return

    def _size(self, probe: Probe) -> "_Size":
        """In all rows where they are known: a sample has fewer rows of each group."""
        present = int((~probe.missing).sum())
        seen = present / max(1, probe.distinct)
        facts = self.profile.columns.get(probe.name) if self.profile is not None else None
        if facts is None or facts.present <= present or not facts.distinct:
            return _Size(float(probe.distinct), seen, seen)
        return _Size(facts.distinct, facts.present / facts.distinct, seen)


class _Size(NamedTuple):
    groups: float
    rows: float  # of each
    seen: float  # of each, in the sample


def _relation(probe: Probe, labels: Labels) -> str | None:
    """How a column is the target: relabelled one to one, rescaled, or in another order-keeping scale."""
    x, y = probe.values, labels.y
    if labels.target.task.is_classification and probe.distinct > labels.n_classes:
        return None
    known = ~np.isnan(x)
    if known.sum() < least_known(len(x)):
        return None
    if known.sum() < 0.5 * len(x) and not labels.take(np.flatnonzero(known)).are_many:
        return None
    x, y = x[known], y[known]
    _, x_code = np.unique(x, return_inverse=True)
    _, y_code = np.unique(y, return_inverse=True)
    n_x, n_y = int(x_code.max()) + 1, int(y_code.max()) + 1
    if n_x < 2 or n_y < 2:
        return None
    if n_x == n_y <= len(x) / 2 and len(np.unique(x_code.astype(np.int64) * n_y + y_code)) == n_x:
        return "copied" if not probe.is_category and np.array_equal(x, y) else "with other labels"
    if probe.is_category or labels.target.task.is_classification or n_y < 10:
        return None
    if abs(correlation(x, y)) > 1 - 1e-9:
        return "copied" if np.allclose(x, y, rtol=1e-9) else "on another scale"
    return "on another scale" if n_x >= 10 and abs(correlation(ranks(x), ranks(y))) > 1 - 1e-9 else None


def _is_sure(power: float, least: float, labels: Labels) -> bool:
    """Whether a power is one that chance does not have either."""
    return labels.chance < 1.0 and power >= max(least, labels.chance)


def _where(known: float) -> str:
    """The share of the rows that is spoken of, unless it is nearly all."""
    return f", where it is known ({known:.0%} of rows)" if known < 0.995 else ""


def _is_identifier(probe: Probe) -> bool:
    """Whole numbers, one for each row, evenly spread over their range; or by name and nearly one for each row."""
    known = probe.values[~probe.missing]
    if not probe.is_whole or probe.is_category or len(known) < 50 or probe.distinct < 0.98 * len(known):
        return False
    place = (np.sort(known) - known.min()) / max(np.ptp(known), 1.0)
    unevenness = np.abs(place - np.linspace(0, 1, len(known))).max()
    return bool(unevenness < 0.02 + 1.0 / np.sqrt(len(known))) or bool(_ID_NAME.search(probe.name))


def _is_entity(probe: Probe, labels: Labels) -> bool:
    """Whether values repeat, and are more than the target could name."""
    if not (probe.is_category or probe.is_whole or probe.is_time):
        return False
    most = max(20, 5 * labels.n_classes)
    return labels.target.task.is_classification and most < probe.distinct < 0.5 * len(probe.values)


def _is_entity_name(name: str) -> bool:
    return bool(_ID_NAME.search(name) or _ENTITY.search(name))


def _may_group(probe: Probe, size: _Size) -> bool:
    """Whether a column could name entities: text, or numbers named so; 20 or more, of 2 rows each and at most 100 of
    those that are looked at."""
    rows = int((~probe.missing).sum())
    if rows < 0.5 * len(probe.values) or probe.distinct < max(20, rows / 100) or size.rows < 2:
        return False
    return probe.is_category or (probe.is_whole and _is_entity_name(probe.name))
