"""Whether rows are encoded as the run's parent did, so that only new partitions are read; and what is new, in words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from shardwise.core.findings import Finding
from shardwise.core.target import Target
from shardwise.data.profile import Profile
from shardwise.split.base import Splitter
from shardwise.split.temporal import TemporalSplitter
from shardwise.train.inherit import GROWTH, Encoded, Parent
from shardwise.train.run import Run

Judge = Callable[[Profile, Profile], Sequence[Finding]]
"""From the profiles of rows that the parent has seen, and of those that it has not, to what has changed."""

_SHOWN = 3


@dataclass
class Seen:
    """Open rows that the parent has seen and those that it has not; rows and partitions with the sealed ones."""

    known: Profile
    fresh: Profile
    rows: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    partitions: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})

    def add(self, opened: Profile, rows: int, *, known: bool) -> None:
        """A partition."""
        (self.known if known else self.fresh).merge(opened)
        self.rows[known] += rows
        self.partitions[known] += 1


@dataclass(frozen=True)
class Keeping:
    """How the parent encoded, if that is kept; what is told of it."""

    kept: Encoded | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the encoding of a run depends on, beside the features."""

    splitter: Splitter
    target: Target
    weights: Mapping[str, float] | None


def keep(run: Run, seen: Seen | None, wanted: Wanted, judge: Judge) -> Keeping:
    """Keep the parent's features and bins where nothing speaks against it."""
    parent = run.parent
    if parent is None or seen is None:
        return Keeping()
    unused = {*run.config.drop, *run.config.key}
    changes = [
        finding
        for finding in (judge(seen.known, seen.fresh) if seen.rows[True] and seen.rows[False] else ())
        if not set(finding.columns) <= unused
    ]
    why = _against(run, parent, seen, wanted) or ("columns have changed" if changes else "")
    kept = None if why else parent.encoded
    text = f"{_new(seen, parent)} {_changed(seen, changes)} {_done(seen, why)}"
    evidence = {
        "parent": parent.run, "parent_package": parent.package_hash, "known_rows": seen.rows[True],
        "new_rows": seen.rows[False], "new_partitions": seen.partitions[False], "kept": kept is not None,
        "changes": [finding.to_json() for finding in changes],
    }  # fmt: skip
    columns = tuple(dict.fromkeys(name for finding in changes for name in finding.columns))
    told = Finding(code="retrained", severity="info", text=" ".join(text.split()), columns=columns, evidence=evidence)
    return Keeping(kept, (told,))


def _against(run: Run, parent: Parent, seen: Seen, wanted: Wanted) -> str:
    """What speaks against it but for a change of the rows."""
    if run.config.refit:
        return "that was asked for"
    if run.config.aggregates or run.config.joins:
        return "aggregates and joins look at all rows"
    if isinstance(wanted.splitter, TemporalSplitter):
        return "a split by time has to see how late the new rows are"
    if not seen.rows[True]:
        return "no partition is as the parent read it"
    if parent.encoded is not None and sum(seen.rows.values()) > GROWTH * parent.encoded.rows:
        return f"there are more than {GROWTH:g} times the rows"
    return parent.misfit(wanted.splitter, wanted.target, wanted.weights)


def _new(seen: Seen, parent: Parent) -> str:
    where = f"in {seen.partitions[False]:,} partition(s)"
    if not seen.rows[True]:
        return f"{seen.rows[False]:,} rows {where} are read: nothing that the run {parent.run} has counted fits."
    return f"{seen.rows[False]:,} rows {where} are new beside {seen.rows[True]:,} that the run {parent.run} has read."


def _changed(seen: Seen, changes: Sequence[Finding]) -> str:
    if not seen.rows[False] or not seen.rows[True]:
        return ""
    if not changes:
        return "No column of the new rows differs by more than a little."
    more = f"; and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    return f"What has changed: {'; '.join(finding.text for finding in changes[:_SHOWN])}{more}."


def _done(seen: Seen, why: str) -> str:
    if not why:
        return "Its features and bins are kept, and the other rows are not read again."
    counted = "; what was counted of unchanged partitions is taken over" if seen.rows[True] else ""
    return f"Features and bins are planned anew, as {why}{counted}."
