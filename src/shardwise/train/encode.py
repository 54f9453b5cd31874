"""The last pass over the raw data: model-ready rows on disk, as codes for trees and as floats for the others.

rows/<key>/bins/      codes of all open rows, a byte a cell
rows/<key>/floats/    float32 of the rows on which models are scored, and of as many others as `FLOAT_BYTES` holds:
                      linear models have few weights, and gain nothing from ever more rows
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shardwise.core.events import Advanced
from shardwise.core.state import load_state
from shardwise.data.bins import Binner
from shardwise.data.dataset import Dataset
from shardwise.data.profile import Profile
from shardwise.data.rows import keep_binner
from shardwise.features.recipe import Recipe
from shardwise.split.base import TEST, Splitter
from shardwise.split.grouped import GroupSplitter
from shardwise.split.temporal import TemporalSplitter
from shardwise.store.files import folder_bytes
from shardwise.store.ledger import unit_key
from shardwise.train.inherit import ENCODED, Encoded
from shardwise.train.passes import BINS, FLOATS, EncodePass, LabelledPass, keep_state
from shardwise.train.run import FORMAT, Run
from shardwise.train.units import run_pass, split_key

FLOAT_BYTES = 2**30  # of training rows on disk as floats
_SAMPLE_BATCH_ROWS = 16_384


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """What is encoded, and by what."""

    dataset: Dataset
    splitter: Splitter
    profile: Profile  # of the open rows
    recipe: Recipe
    fold_rows: Mapping[int, int]
    labelled: LabelledPass
    kept: Encoded | None = None  # as the run's parent did


def fit_binner(recipe: Recipe, profile: Profile) -> Binner:
    """Bounds from the profile's uniform sample of the open rows."""
    batches = profile.sample().to_batches(max_chunksize=_SAMPLE_BATCH_ROWS)
    parts = [recipe.transform(batch) for batch in batches if batch.num_rows]
    X = np.concatenate(parts) if parts else np.empty((0, len(recipe.features)), np.float32)
    return Binner.fit(recipe.features, X)


def encode(run: Run, encoding: Encoding) -> tuple[Path, tuple[Path, ...]]:
    """Encode all rows; the folder of the rows as they are predicted, and for each evaluation the folder of its own.

    Where features derive from the target and a validation fold also trains other models (k folds), each evaluation
    gets rows whose features have not seen the targets that it is scored on; often all folders are the same.
    """
    kept = encoding.kept
    binner = _kept_binner(run, kept) if kept else fit_binner(encoding.recipe, encoding.profile)
    rows = _encode(run, encoding, binner)
    splitter, folds = encoding.splitter, encoding.splitter.folds()
    shared = {fold for each in folds for fold in each.train} & {fold for each in folds for fold in each.valid}
    if not encoding.recipe.uses_target or not shared or isinstance(splitter, TemporalSplitter):
        return rows, (rows,) * len(folds)
    return rows, tuple(_encode(run, encoding, binner, fold.valid) for fold in folds)


def _kept_binner(run: Run, kept: Encoded) -> Binner:
    return Binner.from_state(load_state(run.ledger.blobs.read(kept.binner)))


def _encode(run: Run, encoding: Encoding, binner: Binner, hidden: tuple[int, ...] = ()) -> Path:
    labelled, splitter, features = encoding.labelled, encoding.splitter, encoding.recipe.features
    bins = keep_state(run.blobs, binner.state())
    share = encoding.kept.share if encoding.kept else float_share(encoding.fold_rows, splitter, len(features))
    parts = [labelled.recipe, bins, split_key(splitter, labelled.target), list(hidden), share]
    group = splitter.group if isinstance(splitter, GroupSplitter) else None
    parts += [] if group is None else ["groups"]
    folder = run.folder / "rows" / unit_key(FORMAT, *parts)[:12]  # a partition that changes is written anew into it
    work = EncodePass(
        dataset=encoding.dataset, folds=labelled.folds, target=labelled.target, blobs=run.blobs,
        recipe=labelled.recipe, weight=labelled.weight, class_weight=labelled.class_weight, group=group, folder=folder,
        hidden=hidden, binner=bins, float_share=share, scored=scored_folds(splitter),
    )  # fmt: skip
    if not hidden:
        _note(run, encoding, bins, share)
    if run.parent is not None:
        run.parent.link_rows(folder, {partition.index for partition in encoding.dataset.partitions})
    with run.stage("encode", len(encoding.dataset.partitions)) as stage:
        run.check_disk(max(0, _disk_bytes(encoding, binner, share) - folder_bytes(folder)))
        keep_binner(folder / BINS, binner)
        (folder / FLOATS).mkdir(exist_ok=True)
        for _, record in run_pass(run, work, encoding.dataset, "encode", *parts):
            stage["rows"] += record["rows"]
            run.events.emit(Advanced(stage="encode", rows=record["rows"]))
    return folder


def _note(run: Run, encoding: Encoding, binner: str, share: float) -> None:
    """For a run that goes on from this one."""
    labelled = encoding.labelled
    done = Encoded(
        recipe=labelled.recipe, binner=binner, share=share, split=encoding.splitter.to_json(),
        target=labelled.target.to_json(), weights=labelled.class_weight, rows=sum(encoding.fold_rows.values()),
    )  # fmt: skip
    if not run.records(ENCODED):
        run.note(ENCODED, content=done.to_json())


def scored_folds(splitter: Splitter) -> tuple[int, ...]:
    """Folds on which some model is scored, the test among them."""
    return (TEST, *sorted({fold for each in splitter.folds() for fold in each.valid}))


def float_share(fold_rows: Mapping[int, int], splitter: Splitter, n_features: int) -> float:
    """Share of the other training rows that are kept as floats, in percent; 1.0 for all."""
    scored = scored_folds(splitter)
    rows = sum(count for fold, count in fold_rows.items() if fold not in scored)
    return min(1.0, max(0.01, int(100 * FLOAT_BYTES / max(1, 4 * n_features * rows)) / 100))


def _disk_bytes(encoding: Encoding, binner: Binner, share: float) -> int:
    scored = scored_folds(encoding.splitter)
    rows = sum(encoding.fold_rows.values())
    whole = sum(count for fold, count in encoding.fold_rows.items() if fold in scored)
    floats = whole + share * (rows - whole)
    return int(rows * (len(binner.columns) + 12) + floats * (4 * len(encoding.recipe.features) + 12))
