"""Scores that would be too good to be true: leaks looked for in a sample before training, with the evidence."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from shardwise.core.findings import Finding
from shardwise.core.seeds import derive_seed
from shardwise.core.target import Target
from shardwise.data.hashing import hash_rows
from shardwise.data.profile import Profile
from shardwise.split.base import TEST, Splitter
from shardwise.split.groups import group_gap
from shardwise.split.probes import Labels, Probe, correlation, proportion, ranks
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
    search = _Search(labels, read_probes(sample, skipped), config)
    found = list(search.columns())
    if group is None:
        found += search.group_ignored()
    found += search.outstanding()
    if time_column is None:
        found += search.time_ignored()
    if splitter is not None:
        found += _copies_across_folds(sample, search, splitter, profile)
    return sorted(found, key=lambda finding: _SEVERITIES.index(finding.severity))


class _Search:
    """The probed columns of a sample with the power of each; columns that were found to leak are set aside."""

    def __init__(self, labels: Labels, probes: Sequence[Probe], config: LeakConfig) -> None:
        self.labels, self.probes, self.config = labels, probes, config
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
        text = f"Column {probe.name!r} is the target {self.labels.target.column!r}, {how}."
        return self._say("target_copy", "leak", probe, text, f"Leave it out: --drop {probe.name}.", relation=how)

    def _near_copy(self, probe: Probe) -> Finding | None:
        power = self.power[probe.name]
        if power < self.config.copy:
            return None
        told = f"it alone reaches {self.labels.in_words(power)} on rows that were not looked at"
        if _is_entity(probe, self.labels):
            text = (
                f"All rows with the same {probe.name!r} share the target: {told}, and a split by row tears them apart."
            )
            hint = f"Keep them together: --group {probe.name}."
            return self._say("group_tells_target", "leak", probe, text, hint)
        text = f"Column {probe.name!r} nearly gives the target away: {told}."
        hint = f"Is it known before the target is? If not, --drop {probe.name}."
        return self._say("near_copy", "leak", probe, text, hint)

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
        if power < self.config.missing:
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
            f"Column {probe.name!r} is proportional to the target within 10 % in {share:.0%} of the rows "
            f"({chance:.0%} would be by chance): it seems to be the same quantity, measured again."
        )
        hint = f"Is it known when the prediction is made? If only afterwards, --drop {probe.name}."
        return self._say("same_quantity", "warning", probe, text, hint, share=round(share, 4), chance=round(chance, 4))

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
        candidates = [probe for probe in self.left if _may_group(probe)]
        candidates.sort(key=lambda probe: (-self.power[probe.name], probe.name))
        for probe in candidates[:3]:
            gap = group_gap(probe, self.left, self.labels)
            if gap is None or gap.random - gap.grouped < max(self.config.group_gap, self.labels.chance):
                continue
            text = (
                f"Column {probe.name!r} looks like a group of rows ({probe.distinct:,} values, "
                f"{len(probe.values) / probe.distinct:.1f} rows each): a small model reaches "
                f"{self.labels.in_words(gap.random)} when groups are torn apart, and "
                f"{self.labels.in_words(gap.grouped)} on groups that it has not seen."
            )
            hint = f"If rows of new groups are to be predicted, keep groups together: --group {probe.name}."
            self.set_aside.add(probe.name)
            yield self._say(
                "group_ignored",
                "warning",
                probe,
                text,
                hint,
                random=round(gap.random, 4),
                grouped=round(gap.grouped, 4),
            )
            return


def _relation(probe: Probe, labels: Labels) -> str | None:
    """How a column is the target: relabelled one to one, rescaled, or in another order-keeping scale."""
    x, y = probe.values, labels.y
    if labels.target.task.is_classification and probe.distinct > labels.n_classes:
        return None
    known = ~np.isnan(x)
    if known.sum() < max(50, 0.5 * len(x)):
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


def _may_group(probe: Probe) -> bool:
    """Whether a column could name entities: text, or numbers named so; 20 or more, of 2 to 100 rows each."""
    rows = int((~probe.missing).sum())
    if rows < 0.5 * len(probe.values) or not max(20, rows / 100) <= probe.distinct <= rows / 2:
        return False
    return probe.is_category or (probe.is_whole and bool(_ID_NAME.search(probe.name) or _ENTITY.search(probe.name)))


def _copies_across_folds(
    sample: pa.Table, search: _Search, splitter: Splitter, profile: Profile | None
) -> Iterator[Finding]:
    """Rows whose twin (the same features, identifiers apart) lies in a fold from which their prediction is learned."""
    features = [probe.name for probe in search.probes if not _is_identifier(probe)]
    if not features:
        return
    batch = sample.combine_chunks().to_batches()[0]
    folds = splitter.assign(batch, 0).astype(np.int64)
    _, code = np.unique(hash_rows(batch, features), return_inverse=True)
    width = int(folds.max()) + 2
    counts = np.bincount(code * width + folds + 1, minlength=(code.max() + 1) * width)
    held = counts.reshape(-1, width)
    pairs = [*((fold.valid, fold.train) for fold in splitter.folds()), ((TEST,), splitter.visible(TEST))]
    rows = twins = 0
    for scored, learned in pairs:
        own = np.isin(folds, scored)
        seen = held[:, [fold + 1 for fold in learned if fold + 1 < width]].sum(axis=1) > 0
        rows, twins = rows + int(own.sum()), twins + int(seen[code[own]].sum())
    drawn = min(1.0, len(folds) / profile.rows) if profile is not None and profile.rows else 1.0
    if rows and twins >= 5 and twins / rows >= search.config.copies * drawn:
        yield _copies_finding(rows, twins, drawn)


def _copies_finding(rows: int, twins: int, drawn: float) -> Finding:
    """A sample of the share `drawn` sees the twin of a row that seldom, so more rows have one than were seen."""
    share = min(1.0, twins / rows / drawn)
    is_nature = share > 0.5  # new rows will repeat old ones too
    more = "" if drawn == 1.0 else f" in a sample; of all rows about {share:.0%}"
    return Finding(
        code="copies_across_folds",
        severity="info" if is_nature else "warning",
        text=f"{twins:,} of {rows:,} rows that are scored have the same features as a row that is trained on{more}.",
        evidence={"scored_rows": rows, "twins": twins, "share": round(share, 4), "sample_share": round(drawn, 4)},
        hint="Most rows repeat others; if new rows will too, that is fine."
        if is_nature
        else "Remove copies, or keep them together: --key with the columns that they share.",
    )
