"""Fewer rows than are sealed and split as usual: how they are shared out."""

from shardwise.core.config import RunConfig
from shardwise.data.profile import Profile
from shardwise.split.base import Splitter
from shardwise.split.few import FEW_ROWS, balanced, few_folds
from shardwise.split.hashed import HashSplitter
from shardwise.train.targets import infer_target


def split_few(splitter: Splitter, profile: Profile, config: RunConfig) -> Splitter | None:
    """The splitter for the few rows of `profile`; None where there are enough, or where they are split
    otherwise than by a hash.

    Raises `DataError` or `TargetError` where they are too few to learn anything.
    """
    if profile.rows >= FEW_ROWS or not isinstance(splitter, HashSplitter) or config.valid_share is not None:
        return None
    rows = profile.sample()  # all of them
    column = config.target
    rows = rows.filter(rows.column(column).is_valid())
    target = infer_target(column, profile.columns[column], task=config.task, quantile=config.quantile)
    labels = [str(value) for value in rows.column(column).to_pylist()] if target.task.is_classification else None
    folds = few_folds(column, rows.num_rows if labels is None else labels)
    return balanced(splitter, rows, labels, config.folds or folds)
