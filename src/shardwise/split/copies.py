"""Rows that are scored and are copies of rows that are trained on, looked for in a sample."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from shardwise.core.findings import Finding
from shardwise.data.hashing import hash_rows
from shardwise.data.profile import Profile
from shardwise.split.base import TEST, Splitter

LEAST_TWINS = 3  # rows of a sample whose twin is in it too: where a sample is small, most rows would have to have one


def copies_across_folds(
    sample: pa.Table, features: Sequence[str], splitter: Splitter, profile: Profile | None, *, least: float
) -> Iterator[Finding]:
    """Rows whose twin (the same features) lies in a fold from which their prediction is learned.

    Told from the share `least` of the rows that are scored. `profile` is that of all rows of which `sample` is some.
    """
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
    near = 0.0  # rows whose twin, if they have one, is learned from
    for scored, learned in pairs:
        own = np.isin(folds, scored)
        seen = held[:, [fold + 1 for fold in learned if fold + 1 < width]].sum(axis=1) > 0
        rows, twins = rows + int(own.sum()), twins + int(seen[code[own]].sum())
        near += float(own.sum() * np.isin(folds, learned).mean())
    if not rows:
        return
    drawn = min(1.0, len(folds) / profile.rows) if profile is not None and profile.rows else 1.0
    if twins >= LEAST_TWINS and twins / rows >= least * drawn:
        yield _finding(rows, twins, drawn)
    elif profile is not None and drawn < 1.0 and not splitter.columns:  # by position: whole copies are torn apart
        share = profile.duplicate_rows / profile.rows * near / rows
        if share >= least:
            yield _finding(rows, twins, drawn, share)


def _finding(rows: int, twins: int, drawn: float, share: float | None = None) -> Finding:
    """A sample of the share `drawn` sees the twin of a row that seldom, so more rows have one than were seen.

    `share` is known where it was not the sample that told.
    """
    text = f"{twins:,} of {rows:,} rows that are scored have the same features as a row that is trained on"
    if share is not None:
        text = f"About {share:.0%} of the rows that are scored, or more, are the same as a row that is trained on"
    elif drawn < 1.0:
        text += f" in a sample; of all rows about {min(1.0, twins / rows / drawn):.0%}"
    share = min(1.0, twins / rows / drawn) if share is None else share
    is_nature = share > 0.5  # new rows will repeat old ones too
    return Finding(
        code="copies_across_folds",
        severity="info" if is_nature else "warning",
        text=f"{text}.",
        evidence={"scored_rows": rows, "twins": twins, "share": round(share, 4), "sample_share": round(drawn, 4)},
        hint="Most rows repeat others; if new rows will too, that is fine."
        if is_nature
        else "Remove copies, or keep them together: --key with the columns that they share.",
    )
