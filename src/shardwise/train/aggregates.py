"""What a person should know of the aggregates of a recipe: how they were kept, whether they leak, whom they serve."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from shardwise.core.findings import Finding
from shardwise.core.target import Target
from shardwise.features.aggregate import Aggregate
from shardwise.features.recipe import Recipe
from shardwise.split.base import TEST, Splitter
from shardwise.split.leaks import find_leaks

EMPTY = 0.5  # share of scored rows without a history from which a person is told


def aggregate_findings(recipe: Recipe, sample: pa.Table, target: Target, splitter: Splitter) -> list[Finding]:
    """Findings from a sample of the open rows; none where there are no aggregates."""
    if not recipe.aggregates or not sample.num_rows:
        return []
    batch = sample.combine_chunks().to_batches()[0]
    folds = splitter.assign(batch, 0)
    found: list[Finding] = []
    for aggregate in recipe.aggregates:
        columns = aggregate.reads
        found += [_kept(aggregate, text) for text in aggregate.told]
        found += _empty(aggregate, batch, folds, splitter)
        if aggregate.spec.time is not None:
            found += _leaks(aggregate, batch.select(dict.fromkeys([*columns, target.column])), target)
    return found


def _kept(aggregate: Aggregate, text: str) -> Finding:
    said = f"Aggregate {str(aggregate.spec)!r}: {text}."
    return Finding(code="aggregate_kept", severity="info", text=said, columns=aggregate.spec.key)


def _written(aggregate: Aggregate, batch: pa.RecordBatch, folds: np.ndarray | None) -> np.ndarray:
    out = np.empty((batch.num_rows, len(aggregate.output())), dtype=np.float32, order="F")
    aggregate.transform(batch, out, folds)
    return out


def _empty(aggregate: Aggregate, batch: pa.RecordBatch, folds: np.ndarray, splitter: Splitter) -> Iterator[Finding]:
    """Rows that are predicted, and find no history in their window."""
    scored = np.isin(folds, sorted({fold for each in splitter.folds() for fold in each.valid} - {TEST}))
    if not scored.any():
        return
    out = _written(aggregate, batch, folds)[scored]
    share = float((np.isnan(out) | (out == 0.0)).all(axis=1).mean())
    if share < EMPTY:
        return
    hint = "New rows see what was trained on, and nothing after it: give a longer window, or leave the aggregate out."
    text = f"Aggregate {str(aggregate.spec)!r}: {share:.0%} of the validation rows see no earlier row."
    yield Finding(code="aggregate_empty", severity="warning", text=text, columns=aggregate.spec.key,
                  evidence={"share": round(share, 4)}, hint=hint)  # fmt: skip


def _leaks(aggregate: Aggregate, batch: pa.RecordBatch, target: Target) -> Iterator[Finding]:
    """The leak tests of columns, of the features of new rows. What rests on earlier targets is perhaps no leak."""
    out = _written(aggregate, batch, None)
    seen = ~np.isnan(out).all(axis=1)  # rows without a history only hide what the others tell
    out, batch = out[seen], batch.filter(pa.array(seen))
    columns: dict[str, Any] = {target.column: batch.column(target.column)}
    for place, feature in enumerate(aggregate.output()):
        values = out[:, place].astype(np.float64)
        columns[feature.name] = pa.array(values, mask=np.isnan(values))
    for finding in find_leaks(pa.table(columns), target):
        if finding.severity != "leak":
            continue
        severity = "warning" if aggregate.uses_target else "leak"
        hint = "Is what it rests on known so early? Give it a lag, as in: lag 1d."
        yield Finding(code=finding.code, severity=severity, text=finding.text, columns=finding.columns,
                      evidence=finding.evidence, hint=hint)  # fmt: skip
