"""Are the partitions fit for training: skew, hot keys, empty and oversize ones, overlaps, the straggler to expect.

Notation: n_i rows of partition i, m their mean over the partitions that are not empty. Skew is max(n) / m. Gini's index
is sum over i, j of |n_i - n_j| / (2 N^2 m): 0 where all are equal, near 1 where one has all. The straggler factor of W
workers is the makespan of the partitions, each taken by the worker that is free first, the largest first, over the rows
of an even share: 1 is ideal, and no number of workers makes a partition faster that is larger than such a share.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

import numpy as np

from shardwise.core.findings import Finding
from shardwise.core.units import format_size
from shardwise.data.partitioners.packed import makespan

HOT_SHARE = 0.01  # of the rows, at least
OVERSIZE, UNDERSIZE = 2.0, 0.25  # times the mean
LARGE_BYTES, SMALL_BYTES = 512_000_000, 1_000_000
MANY = 10_000
SKEWED, SLOW = 1.5, 1.3
_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Part:
    """A partition as it is looked at: `minimum` and `maximum` of the key, None where nothing is known."""

    label: str
    rows: int
    size_bytes: int = 0
    files: int = 1
    minimum: Any = None
    maximum: Any = None


@dataclass(frozen=True, kw_only=True)
class HotKey:
    """A frequent key: its cells as text (None: null), its rows, and their share of all.

    `spread` says that its rows were salted, or have a partition of their own.
    """

    key: tuple[str | None, ...]
    rows: int
    share: float
    spread: bool = False

    @property
    def name(self) -> str:
        return ", ".join("null" if cell is None else cell for cell in self.key)


@dataclass(frozen=True, kw_only=True)
class Health:
    """What was found; `to_json` is what `--json` prints."""

    partitions: int
    rows: int
    size_bytes: int
    files: int
    empty: int
    mean_rows: float
    largest_rows: int
    smallest_rows: int
    skew: float
    gini: float
    workers: int
    straggler: float
    overlaps: int
    key: tuple[str, ...] = ()
    hot_keys: tuple[HotKey, ...] = ()
    findings: tuple[Finding, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        content = {name: value for name, value in asdict(self).items() if name not in ("hot_keys", "findings")}
        hot = [
            {"key": list(each.key), "rows": each.rows, "share": each.share, "spread": each.spread}
            for each in self.hot_keys
        ]
        return content | {"hot_keys": hot, "findings": [finding.to_json() for finding in self.findings]}


def gini(sizes: Sequence[float]) -> float:
    """The Gini index of sizes that are not negative.

    >>> gini([1, 1, 1, 1]), gini([0, 0, 0, 4])
    (0.0, 0.75)
    """
    ordered = np.sort(np.asarray(sizes, dtype=np.float64))
    total = ordered.sum()
    if total <= 0:
        return 0.0
    ranks = np.arange(1, len(ordered) + 1)
    return float(2 * (ranks * ordered).sum() / (len(ordered) * total) - (len(ordered) + 1) / len(ordered))


def straggler(rows: Sequence[int], workers: int) -> float:
    """The makespan over an even share of the rows; 1.0 for no rows.

    >>> straggler([40, 10, 10, 10], 2), straggler([10, 10, 10, 10], 2)
    (1.1428571428571428, 1.0)
    """
    total = sum(rows)
    return makespan([float(count) for count in rows], workers) * workers / total if total else 1.0


def count_overlaps(parts: Sequence[Part]) -> int:
    """Partitions whose range of keys reaches into that of one before it, in the order of their least keys."""
    known = sorted(
        ((part.minimum, part.maximum) for part in parts if part.minimum is not None), key=lambda pair: pair[0]
    )
    found, reach = 0, None
    for low, high in known:
        if reach is not None and low <= reach:
            found += 1
        reach = high if reach is None or high > reach else reach
    return found


def assess(
    parts: Sequence[Part], *, workers: int, key: Sequence[str] = (), hot_keys: Sequence[HotKey] = (),
    ranged: bool = False,
) -> Health:  # fmt: skip
    """Judge partitions; `ranged` says that their key ranges should not overlap."""
    rows = [part.rows for part in parts]
    filled = [count for count in rows if count]
    mean = sum(filled) / max(1, len(filled))
    hot = [each for each in hot_keys if each.share >= max(HOT_SHARE, 1 / max(2, len(parts)))][:_SHOWN]
    health = Health(
        partitions=len(parts), rows=sum(rows), size_bytes=sum(part.size_bytes for part in parts),
        files=sum(part.files for part in parts), empty=len(rows) - len(filled), mean_rows=mean,
        largest_rows=max(rows, default=0), smallest_rows=min(rows, default=0),
        skew=max(filled, default=0) / mean if mean else 1.0, gini=gini(filled), workers=workers,
        straggler=straggler(rows, workers), overlaps=count_overlaps(parts), key=tuple(key), hot_keys=tuple(hot),
    )  # fmt: skip
    findings = [*_hot(health), *_sizes(health, parts), *_files(health, parts), *_order(health, ranged)]
    return Health(**{**vars(health), "findings": tuple(findings)})


def _hot(health: Health) -> list[Finding]:
    each = 1 / max(1, health.partitions)
    return [
        Finding(
            code="hot_key", severity="warning", columns=health.key,
            text=f"key {hot.name!r} of {', '.join(health.key)} has {hot.share:.1%} of all rows ({hot.rows:,}); an even "
            f"partition has {each:.1%}",
            evidence={"key": list(hot.key), "rows": hot.rows, "share": hot.share},
            hint="--remedy salt spreads it over several partitions; --remedy isolate gives it one of its own",
        )
        for hot in health.hot_keys
        if not hot.spread
    ]  # fmt: skip


def _sizes(health: Health, parts: Sequence[Part]) -> list[Finding]:
    found = []
    large = [part for part in parts if part.rows > OVERSIZE * health.mean_rows or part.size_bytes > LARGE_BYTES]
    if large:
        worst = max(large, key=lambda part: part.rows)
        found.append(Finding(
            code="oversize", severity="warning",
            text=f"{len(large):,} of {health.partitions:,} partitions are oversize; the largest, {worst.label!r}, has "
            f"{worst.rows:,} rows, {worst.rows / health.mean_rows:.1f} times the mean",
            evidence={"count": len(large), "largest": worst.label, "rows": worst.rows},
            hint="--remedy split cuts them; --remedy rerange plans ranges anew",
        ))  # fmt: skip
    if health.empty:
        found.append(Finding(
            code="empty", severity="info", text=f"{health.empty:,} of {health.partitions:,} partitions are empty",
            evidence={"count": health.empty}, hint="--remedy merge leaves them out",
        ))  # fmt: skip
    if health.straggler > SLOW:
        found.append(Finding(
            code="straggler", severity="warning",
            text=f"with {health.workers} workers the last one ends {health.straggler:.2f} times later than with even "
            f"partitions (skew {health.skew:.2f}, Gini {health.gini:.2f})",
            evidence={"workers": health.workers, "factor": health.straggler},
            hint="use more partitions than workers, and the remedies of what is oversize",
        ))  # fmt: skip
    elif health.skew > SKEWED and not large:
        found.append(Finding(
            code="skew", severity="info",
            text=f"the largest partition has {health.skew:.2f} times the mean of rows (Gini {health.gini:.2f})",
            evidence={"skew": health.skew, "gini": health.gini}, hint="--remedy split, or more partitions",
        ))  # fmt: skip
    return found


def _files(health: Health, parts: Sequence[Part]) -> list[Finding]:
    found = []
    sizes = [part.size_bytes for part in parts if part.rows]
    small = [part for part in parts if part.rows and part.rows < UNDERSIZE * health.mean_rows]
    if len(sizes) > 4 * health.workers and median(sizes) < SMALL_BYTES:
        found.append(Finding(
            code="small", severity="info",
            text=f"partitions are small: half of {len(sizes):,} have less than {format_size(median(sizes))}",
            evidence={"median_bytes": median(sizes)}, hint="--remedy merge, or fewer partitions",
        ))  # fmt: skip
    elif small:
        found.append(Finding(
            code="uneven", severity="info",
            text=f"{len(small):,} of {health.partitions:,} partitions have less than a quarter of the mean of rows",
            evidence={"count": len(small)}, hint="--remedy merge puts small ones together",
        ))  # fmt: skip
    if health.files > max(MANY, 2 * health.partitions):
        found.append(Finding(
            code="files", severity="info",
            text=f"{health.files:,} files for {health.partitions:,} partitions",
            evidence={"files": health.files}, hint="--compact writes one file for each partition",
        ))  # fmt: skip
    return found


def _order(health: Health, ranged: bool) -> list[Finding]:
    if not ranged or not health.overlaps:
        return []
    return [Finding(
        code="overlap", severity="info", columns=health.key,
        text=f"the ranges of {health.key[0]} overlap in {health.overlaps:,} of {health.partitions:,} partitions: "
        "none can be left out when a range is asked for",
        evidence={"count": health.overlaps}, hint=f"shardwise partition DATA OUT --by range:{health.key[0]}",
    )]  # fmt: skip
