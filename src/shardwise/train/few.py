"""Few rows: how they are shared out, so that each class is learned and scored."""

from typing import TypeVar

import numpy as np

from shardwise.core.config import RunConfig
from shardwise.core.errors import TargetError
from shardwise.core.target import Target, canonical_label
from shardwise.data.dataset import Dataset
from shardwise.data.hashing import HashedBatch
from shardwise.data.profile import Profile
from shardwise.data.source import Losses, scan
from shardwise.split.base import Splitter
from shardwise.split.few import FEW_ROWS, SPARSE_ROWS, SmallTable, balanced_few, few_folds, spared
from shardwise.split.hashed import HashSplitter, Shared, Shares
from shardwise.train.targets import infer_target

S = TypeVar("S", bound=Splitter)


def split_few(splitter: Splitter, dataset: Dataset, profile: Profile, config: RunConfig) -> Splitter | None:
    """The splitter for the few rows of `profile`; None where there are enough, or where they are split
    otherwise than by a hash.

    Raises `DataError` or `TargetError` where they are too few to learn anything.
    """
    if profile.rows >= FEW_ROWS or not isinstance(splitter, HashSplitter) or config.valid_share is not None:
        return None
    target = _target(profile, config)
    rows = _read(dataset, target)
    labelled = [str(target.classes[index]) for index in rows.labelled] if target.task.is_classification else None
    folds = few_folds(config.target, len(rows.labelled) if labelled is None else labelled)
    shares = Shares(folds=config.folds or folds, test=splitter.shares.test)
    return balanced_few(splitter.with_shares(shares), rows, torn=not config.key)


def spare_classes(splitter: S, dataset: Dataset, profile: Profile, config: RunConfig) -> S | None:
    """The splitter by other hashes, where a class with two rows or more would be nowhere learned and scored; None where
    there is none, where no hash helps, or the rows are many."""
    if profile.rows >= SPARSE_ROWS or not isinstance(splitter, Shared):
        return None
    target = _target(profile, config)
    return spared(splitter, _read(dataset, target)) if target.task.is_classification else None


def check_classes(target: Target, profile: Profile, opened: Profile) -> None:
    """Raise `TargetError` where fewer than two classes are left outside the test fold: by the profiles of all rows and
    of those outside."""
    if not target.task.is_classification:
        return
    there, left = (dict(each.columns[target.column].top) for each in (profile, opened))
    labels = {canonical_label(label): label for label in target.classes}
    sealed = [label for text, label in labels.items() if there.get(text) and not left.get(text)]
    if len(labels) - len(sealed) < 2:
        told = " and of ".join(f"{label!r} ({there[canonical_label(label)]:,})" for label in sealed)
        raise TargetError(
            f"all rows of {told} are in the test fold, so that there are not two classes of {target.column!r} to learn",
            hint="Give another --seed, a smaller --test-share, or more rows of it; with --time-column or --group "
            "perhaps another column.",
        )


def _target(profile: Profile, config: RunConfig) -> Target:
    return infer_target(config.target, profile.columns[config.target], task=config.task, quantile=config.quantile)


def _read(dataset: Dataset, target: Target) -> SmallTable:
    losses = Losses() if dataset.reader.options.skip_corrupt else None
    batches, labels = [], [np.empty(0)]
    for first_row, batch in scan(dataset, losses=losses):
        batches.append((first_row, HashedBatch.of(batch)))
        labels.append(target.encode(batch.column(target.column)))
    y = np.concatenate(labels)
    codes = np.where(np.isnan(y), -1, y if target.task.is_classification else 0)
    return SmallTable(batches, codes.astype(np.int64))
