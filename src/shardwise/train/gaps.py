"""How much better a model knows what it learned than what it did not: train, validation and test of each member, and
what choosing the best of many trials adds to the validation score.

Where few rows are sealed, the validation score is what a person looks at, and the best of many is too good. Nested
evaluation says by how much: for each fold the trial that is best on the other folds is chosen, and scored on this one
(Varma and Simon 2006, "Bias in error estimation when using cross-validation for model selection"; the models are those
that are there, so nothing is trained again).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shardwise.core.findings import Finding
from shardwise.data.chunk import thinned
from shardwise.data.rows import DiskRows
from shardwise.models.base import Model
from shardwise.models.families import load_model
from shardwise.split.base import TEST
from shardwise.split.few import FEW_ROWS
from shardwise.stats.intervals import interval_around
from shardwise.stats.metrics import Metric, Pairs
from shardwise.stats.parts import chosen_by_others
from shardwise.train.passes import FLOATS
from shardwise.train.prepare import Prepared
from shardwise.train.result import FoldResult, TrialResult, rank
from shardwise.train.run import Run

ROWS = 2_000  # of the training and of the test by which the gap is measured
FEW_TEST_ROWS = 1_000  # sealed rows up to which nested evaluation is told
LEAST_FOLDS = 3


def member_scores(
    run: Run, prepared: Prepared, metric: Metric, members: Sequence[tuple[TrialResult, FoldResult, float]],
    least_left_s: float,
) -> list[dict[str, Any]]:  # fmt: skip
    """`{"trial", "fold", "weight", "train", "valid", "test"}` of each member: the metric on some rows that it learned,
    on those that stopped it, and on some of the opened test (None where there are none); before calibration. The fold
    of one that learned all rows is `"all"`.

    Members for which there is no time, `least_left_s` seconds before the end, are left out.
    """
    found = []
    for trial, result, weight in members:
        if run.deadline.remaining_s() < least_left_s:
            break
        model = load_model(run.model(result.folder))
        scores = [
            _score(model, DiskRows(rows / FLOATS, prepared.recipe.features, numbers), metric, prepared.target.quantile)
            for rows, numbers in (_learned(prepared, result), (prepared.rows, (TEST,)))
        ]
        loss = result.loss if np.isfinite(result.loss) else trial.loss  # learned all rows: its folds'
        valid = -loss if metric.greater_is_better else loss
        fold = result.fold if result.fold < len(prepared.splitter.folds()) else "all"
        found.append({"trial": trial.number, "fold": fold, "weight": weight, "train": scores[0], "valid": valid,
                      "test": scores[1]})  # fmt: skip
    return found


def _learned(prepared: Prepared, result: FoldResult) -> tuple[Path, tuple[int, ...]]:
    """Where the rows lie that a model learned, and their folds: those of its evaluation, or all that are not sealed."""
    folds = prepared.splitter.folds()
    if result.fold < len(folds):
        return prepared.fold_rows_folders[result.fold], folds[result.fold].train
    return prepared.rows, tuple(sorted({fold for each in folds for fold in (*each.train, *each.valid)}))


def _score(model: Model, rows: DiskRows, metric: Metric, quantile: float) -> float | None:
    """Of evenly spread rows; None without any, or where the metric is not defined on them."""
    step = max(1, rows.n_rows // ROWS)
    parts = [
        Pairs.labelled(chunk.y, model.predict(np.asfortranarray(chunk.X)), chunk.weight)
        for chunk in thinned(rows.chunks(), step)
    ]
    if not parts:
        return None
    whole = Pairs(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("y", "prediction", "weight")))
    value = metric.of(whole, quantile)
    return float(value) if np.isfinite(value) else None


def nested_loss(trials: Sequence[TrialResult]) -> float | None:
    """Loss of the trials that are chosen, for each fold, by the other folds; None with few folds, or one trial."""
    usable = _usable(trials)
    folds = [fold.fold for fold in usable[0].folds] if usable else []
    losses = np.array([[fold.loss for fold in trial.folds] for trial in usable])
    if len(usable) < 2 or len(folds) < LEAST_FOLDS or not np.isfinite(losses).all():
        return None
    rows = np.array([max(fold.valid_rows, 1) for fold in usable[0].folds], dtype=np.float64)
    chosen = chosen_by_others(losses, rows)
    return float(np.average(losses[chosen, np.arange(len(folds))], weights=rows))


def _usable(trials: Sequence[TrialResult]) -> list[TrialResult]:
    """Those on all folds, the best first."""
    return [trial for trial in rank(trials) if trial.complete and trial.candidate.family != "baseline"]


def nested_findings(metric: Metric, trials: Sequence[TrialResult], test_rows: int) -> list[Finding]:
    """What choosing has added to the best score, where few rows are sealed (or none)."""
    nested = nested_loss(trials)
    if nested is None or test_rows > FEW_TEST_ROWS:
        return []
    sign = -1.0 if metric.greater_is_better else 1.0
    usable = _usable(trials)
    best, honest = sign * usable[0].loss, sign * nested
    text = (
        f"The best of {len(usable)} trials has {metric.name} {best:.5g} on the rows by which it was chosen; trials "
        f"chosen without the rows that score them have {honest:.5g}."
    )
    hint = "" if test_rows else "Without a sealed test, the second figure is the one to believe."
    evidence = {"best": best, "nested": honest, "trials": len(usable), "folds": len(usable[0].folds)}
    return [Finding(code="nested", severity="info", text=text, evidence=evidence, hint=hint)]


def few_findings(
    prepared: Prepared, metric: Metric, pairs: Pairs, value: float, units: np.ndarray | None = None
) -> list[Finding]:
    """Where there are so few rows that none is sealed: the interval of the out-of-fold `value` of the metric, and what
    it is worth. `pairs` are the out-of-fold answers, `units` say which of them depend on each other."""
    rows, folds = prepared.profile.rows, len(prepared.splitter.folds())
    if rows >= FEW_ROWS or prepared.fold_rows.get(TEST, 0) or not len(pairs.y):
        return []
    found = interval_around(metric, value, pairs, quantile=prepared.target.quantile, units=units).to_json()
    low, high = found["low"], found["high"]
    ends = f"from {low:.4g} to {high:.4g}" if low is not None and high is not None else "not known"
    text = (
        f"There are {rows} rows: none is sealed as a test, and {metric.name} {value:.4g} is that of {folds} folds, "
        f"each answered by models of the other rows. Its 95 % interval, {ends}, leaves out that the best candidate "
        "was chosen by the same rows."
    )
    hint = "Take it for a first impression; a few hundred rows tell more."
    return [Finding(code="few_rows", severity="warning", text=text, hint=hint,
                    evidence={"rows": rows, "folds": folds, "metric": metric.name, **found})]  # fmt: skip
