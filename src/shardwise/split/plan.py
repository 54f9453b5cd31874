"""Which split fits the data, and whether it came out well. Pure: sizes and names in, a splitter or findings out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shardwise.core.errors import ConfigError, DataError
from shardwise.core.findings import Finding
from shardwise.core.target import Target
from shardwise.split.base import TEST, Splitter
from shardwise.split.few import FEW_ROWS, LEAST_ROWS
from shardwise.split.given import ColumnSplitter
from shardwise.split.grouped import GroupSplitter
from shardwise.split.hashed import HashSplitter, PositionSplitter, Shares
from shardwise.split.temporal import TemporalSplitter, temporal_cuts

SPLITTERS: dict[str, Any] = {
    "hash": HashSplitter,
    "group": GroupSplitter,
    "position": PositionSplitter,
    "temporal": TemporalSplitter,
    "column": ColumnSplitter,
}
HOLDOUT_ROWS = 100_000  # from here on one hold-out tells as much as k folds, at a fraction of the time
MANY_COPIES = 0.5
FAR = 10.0  # times as many rows as planned, or as few: shares are then far from what they should be
SHOWN = 4  # folds, and classes of a fold, that are named
PAST_BLOCKS = 5  # of the time before the first validation block: what target encodings see grows block by block


@dataclass(frozen=True, kw_only=True)
class SplitPlan:
    """What decides the split.

    `features` are the columns that serve as the key when `key` is empty; `copies` is the share of rows that repeat an
    earlier one; `times` are values of the time column in rising order, and the rows that each stands for, as
    `Quantiles.weighted` gives them (needed with `time_column`). What is None is chosen by size.
    """

    rows: int
    features: Sequence[str]
    key: Sequence[str] = ()
    group: str | None = None
    time_column: str | None = None
    fold_column: str | None = None
    times: tuple[np.ndarray, np.ndarray] | None = None
    copies: float = 0.0
    folds: int | None = None
    test_share: float | None = None
    valid_share: float | None = None
    seed: int = 0


def splitter_from_json(content: Mapping[str, Any]) -> Splitter:
    """Inverse of `Splitter.to_json`; raises `ConfigError` for an unknown kind."""
    kind = content.get("kind")
    if kind not in SPLITTERS:
        raise ConfigError(f"there is no splitter {kind!r}", hint=f"There are: {', '.join(SPLITTERS)}.")
    splitter: Splitter = SPLITTERS[kind].from_json(content)
    return splitter


def choose_splitter(plan: SplitPlan) -> Splitter:
    """By given folds, time, group or key when one is named; else by content, or by position if most rows repeat.

    Raises `DataError` for fewer than 4 rows (20 by time or group) or too few times, `ConfigError` for options that
    exclude each other.
    """
    if plan.fold_column is not None:
        _check_given(plan)
        return ColumnSplitter(plan.fold_column, plan.folds or 0)
    _check(plan)
    if plan.time_column is not None:
        assert plan.times is not None
        return _temporal(plan)
    shares = choose_shares(plan)
    if plan.group is not None:
        return GroupSplitter(plan.group, key=plan.key or plan.features, shares=shares, seed=plan.seed)
    if plan.key:
        return HashSplitter(plan.key, shares=shares, seed=plan.seed)
    if plan.copies > MANY_COPIES or not plan.features:
        return PositionSplitter(shares=shares, seed=plan.seed)
    return HashSplitter(plan.features, shares=shares, seed=plan.seed)


def replanned(plan: SplitPlan, rows: int) -> SplitPlan:
    """The plan for as many `rows` as were counted, where they are so many more or fewer than planned that the split is
    another one; else the same plan.

    Raises `DataError` for fewer rows than can be split.
    """
    if rows == plan.rows:
        return plan
    counted = replace(plan, rows=rows)
    before, after = choose_splitter(plan), choose_splitter(counted)
    ratio = max(rows, plan.rows) / max(1, min(rows, plan.rows))
    other = (rows < FEW_ROWS) != (plan.rows < FEW_ROWS) or (ratio >= 2 and len(before.folds()) != len(after.folds()))
    return counted if (other or ratio >= FAR) and after.to_json() != before.to_json() else plan


def _temporal(plan: SplitPlan) -> Splitter:
    """Forward chaining: a past of several blocks, then one to three validation blocks, then the test."""
    assert plan.time_column is not None
    assert plan.times is not None
    test = default_test_share(plan.rows) if plan.test_share is None else plan.test_share
    evaluated = plan.folds or (3 if plan.rows < HOLDOUT_ROWS else 1)
    share = plan.valid_share or min(default_valid_share(plan.rows), 0.5 / evaluated) * (1.0 - test)
    past = max(0.1, 1.0 - test - evaluated * share)
    blocks = [past / PAST_BLOCKS] * PAST_BLOCKS + [share] * evaluated
    cuts = temporal_cuts(*plan.times, folds=blocks, test_share=test)
    return TemporalSplitter(plan.time_column, cuts, min(evaluated, len(cuts) - 1))


def _check(plan: SplitPlan) -> None:
    if plan.rows < LEAST_ROWS:
        hint = f"It takes at least {LEAST_ROWS} labelled rows."
        raise DataError(f"{plan.rows} rows are too few to train on and to be scored by", hint=hint)
    if plan.rows < FEW_ROWS and (plan.time_column or plan.group):
        column = plan.time_column or plan.group
        hint = f"It takes at least {FEW_ROWS} labelled rows; without --group and --time-column {LEAST_ROWS}."
        raise DataError(f"{plan.rows} rows are too few to be split by {column!r}", hint=hint)
    if plan.time_column is not None and plan.group is not None:
        raise ConfigError(
            f"a split by group {plan.group!r} and by time {plan.time_column!r} at once is not offered",
            hint="Name one of them.",
        )
    if plan.time_column is not None and plan.test_share == 0:
        raise ConfigError(
            "a split by time seals its last block as the test, and test_share is 0", hint="Leave one of them out."
        )
    if plan.time_column is not None and plan.times is None:
        raise ConfigError("a split by time needs values of the time column", hint="Give `times`.")


def _check_given(plan: SplitPlan) -> None:
    """Folds that are given need their number, and nothing else that would split the rows."""
    if plan.folds is None:
        raise ConfigError(f"fold column {plan.fold_column!r} needs the number of folds", hint="Give `folds`.")
    given = {"key": plan.key, "group": plan.group, "time column": plan.time_column, "test share": plan.test_share}
    for name, value in given.items():
        if value:
            raise ConfigError(
                f"a {name} ({value!r}) does not go with fold column {plan.fold_column!r}", hint="Leave one of them out."
            )


def choose_shares(plan: SplitPlan) -> Shares:
    """Test share, and folds or a hold-out, by the number of rows; what was asked for stands.

    >>> choose_shares(SplitPlan(rows=1000, features=["x"]))
    Shares(folds=8, test=0.2, holdout=None)
    >>> choose_shares(SplitPlan(rows=10_000_000, features=["x"]))
    Shares(folds=1, test=0.02, holdout=0.02)
    """
    test = plan.test_share
    if test is None:
        test = default_test_share(plan.rows) if plan.rows >= FEW_ROWS else 0.0
    if plan.folds is not None or (plan.rows < HOLDOUT_ROWS and plan.valid_share is None):
        return Shares(folds=plan.folds or default_folds(plan.rows), test=test)
    return Shares(folds=1, test=test, holdout=plan.valid_share or default_valid_share(plan.rows))


def default_folds(rows: int) -> int:
    """8 folds for small data, where each row that is not trained on hurts; fewer where a fold would be tiny."""
    if rows < 100:
        return 3
    if rows < 500:
        return 5
    return 8 if rows < 5_000 else 5


def default_test_share(rows: int) -> float:
    """A fifth of up to 1,000 rows, then falling with the third root to 7 %, from 167,000 rows on with the fourth root,
    and never more than 200,000 rows.

    What is sealed is not learned from. Where rows are few a model loses more by each of them than the interval of its
    score does: of 2,500 rows a quarter less is sealed than of a hold-out, and the interval is wider by a sixth.

    >>> [default_test_share(rows) for rows in (1000, 10_000, 50_000, 1_000_000, 10_000_000)]
    [0.2, 0.093, 0.07, 0.045, 0.02]
    """
    falling = 0.2 * max(1.0, rows / 1_000) ** (-1 / 3)
    return float(min(default_valid_share(rows), max(0.07, round(falling, 3))))


def default_valid_share(rows: int) -> float:
    """Of a hold-out: a fifth of up to 2,500 rows, then falling with the fourth root, and about 200,000 rows at most.

    By it candidates are compared and rounds are chosen: 5,000 rows tell an AUC to about one percent.

    >>> [default_valid_share(rows) for rows in (1000, 1_000_000, 10_000_000, 1_000_000_000)]
    [0.2, 0.045, 0.02, 0.0002]
    """
    share = min(0.2 * max(1.0, rows / 2_500) ** -0.25, 200_000 / max(rows, 1))
    return float(round(share, max(3, 1 - math.floor(math.log10(share)))))


def check_folds(
    counts: Mapping[int, Any], *, target: Target | None = None, expected: Mapping[int, float] | None = None
) -> list[Finding]:
    """What is wrong with the folds: empty, far from their share, or without a class.

    `counts` maps fold numbers (with TEST) to rows, or to rows of each class `(classes,)`; `expected` maps them to
    shares of all rows.
    """
    rows = {fold: int(np.sum(count)) for fold, count in sorted(counts.items())}
    total = sum(rows.values())
    empty = [fold for fold in sorted({*rows, *(expected or {})}) if not rows.get(fold)]
    found = [_empty(empty)] if empty else []
    wanted = {fold: share * total for fold, share in sorted((expected or {}).items()) if rows.get(fold)}
    lumpy = {fold: n for fold, n in wanted.items() if abs(rows[fold] - n) > max(0.25 * n, 5 * np.sqrt(n))}
    found += [_lumpy(rows, lumpy)] if lumpy else []
    if target is not None and target.task.is_classification:
        present = {fold: np.atleast_1d(counts[fold]) > 0 for fold in rows if rows[fold]}
        absent = {fold: np.flatnonzero(~known).tolist() for fold, known in present.items() if not known.all()}
        found += [_absent(absent, target)] if absent else []
    return found


def check_training(rows: Mapping[int, int], splitter: Splitter) -> None:
    """Raise `DataError` where an evaluation has no row to train on, or none has one to be scored by: by fold numbers,
    how many rows there are."""
    scored = False
    for fold in splitter.folds():
        valid, train = (sum(rows.get(number, 0) for number in numbers) for numbers in (fold.valid, fold.train))
        scored = scored or valid > 0
        if not train and (valid or rows.get(TEST, 0) == sum(rows.values())):
            place = fold_name(fold.valid[0]) if valid else fold_name(TEST)
            raise _too_few_values(f"all rows that could be trained on are in {place}, which is scored", splitter)
    if not scored:
        raise _too_few_values("no row is in a fold by which candidates are scored", splitter)


def _too_few_values(what: str, splitter: Splitter) -> DataError:
    columns = ", ".join(repr(column) for column in splitter.columns) or "position"
    return DataError(
        f"{what}: the split goes by {columns}, which has too few different values",
        hint="Split by another column, or leave --group and --key out.",
    )


def fold_name(fold: int) -> str:
    return "the test fold" if fold == TEST else f"fold {fold}"


def _empty(folds: Sequence[int]) -> Finding:
    return Finding(
        code="empty_fold",
        severity="warning",
        text=_sentence([f"{fold_name(fold)} has no rows" for fold in folds]),
        evidence={"folds": list(folds)},
        hint="There are too few rows, groups or different times: ask for fewer folds.",
    )


def _lumpy(rows: Mapping[int, int], wanted: Mapping[int, float]) -> Finding:
    told = [
        f"{fold_name(fold)} has {rows[fold]:,} rows where {share:,.0f} were meant" for fold, share in wanted.items()
    ]
    return Finding(
        code="uneven_fold",
        severity="warning",
        text=_sentence(told),
        evidence={
            "folds": list(wanted),
            "rows": [rows[fold] for fold in wanted],
            "expected_rows": [round(share) for share in wanted.values()],
        },
        hint="There are few groups, or some of them hold many of the rows; scores of single folds will differ.",
    )


def _absent(classes: Mapping[int, Sequence[int]], target: Target) -> Finding:
    """`classes`: the indices of those that each fold lacks."""
    labels = {fold: [str(target.classes[index]) for index in missing] for fold, missing in classes.items()}
    told = [f"{fold_name(fold)} has no row of {_listed(missing, ', ')}" for fold, missing in labels.items()]
    return Finding(
        code="class_absent",
        severity="warning",
        text=_sentence(told),
        columns=(target.column,),
        evidence={"folds": list(labels), "classes": list(labels.values())},
        hint="Rare classes are not scored there, and a metric that compares classes leaves such a fold out: give fewer "
        "--folds, or merge rare classes.",
    )


def _listed(parts: Sequence[str], between: str) -> str:
    return between.join(parts[:SHOWN]) + (f"{between}and {len(parts) - SHOWN} more" if len(parts) > SHOWN else "")


def _sentence(parts: Sequence[str]) -> str:
    text = _listed(parts, "; ")
    return f"{text[0].upper()}{text[1:]}."
