"""Members trained anew on all rows: one model in the place of those of all folds.

A model that has seen all rows answers about as well as the five or eight of the folds together, which have seen four
fifths or seven eighths each, and takes a fraction of their size and time (decision 0026). It has no rows left to be
stopped early by, so that it boosts for the mean of the rounds of the folds' models; what it is expected to lose is what
they lose out of fold.
"""

import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from shardwise.choosing import Choosing, Ensemble
from shardwise.core.candidate import Candidate
from shardwise.split.base import Fold
from shardwise.store.ledger import unit_key
from shardwise.train.fitting import Fitting
from shardwise.train.prepare import Prepared
from shardwise.train.result import FoldResult, TrialResult
from shardwise.train.run import FORMAT, Run
from shardwise.train.trainer import FitUnit

REFITTED = ("trees", "catboost")  # families whose fit is as long as `n_estimators` says
WAIT = 1.0  # seconds of a fit on all rows, in those of a fold's: more rows, and no rounds until it is stopped early


def can_refit(run: Run, prepared: Prepared) -> bool:
    """Whether members of this run can be trained on all rows: they are split into folds, are encoded once, and there is
    no ceiling on memory, which was shared out for fewer rows."""
    folds = prepared.splitter.folds()
    every = {fold for evaluation in folds for fold in evaluation.train}
    known = {fold for evaluation in folds for fold in evaluation.valid}
    once = all(folder == prepared.rows for folder in prepared.fold_rows_folders)
    return len(folds) > 1 and every == known and once and run.config.memory_bytes is None


def refit_s(trials: Sequence[TrialResult], slots: int) -> float:
    """Seconds that it takes to train these candidates anew, about; those of other families are not."""
    again = [trial for trial in trials if trial.folds and trial.candidate.family in REFITTED]
    each = [WAIT * statistics.fmean(fold.seconds for fold in trial.folds) for trial in again]
    return max(sum(each) / slots, max(each, default=0.0))


def refitted(run: Run, prepared: Prepared, choosing: Choosing, ensemble: Ensemble, left_s: float) -> Ensemble:
    """The ensemble with one model on all rows for each member of `REFITTED` for which there is time.

    The others, and those of other families, keep their models of the folds.
    """
    trials = [trial for trial in _trials(ensemble) if trial.candidate.family in REFITTED and trial.complete]
    if not trials or not can_refit(run, prepared):
        return ensemble
    with closing(Fitting(run, prepared, choosing.metric.name)) as fitting:
        trials = affordable(trials, fitting.slots, left_s)
        deadline = time.monotonic() + left_s / max(1, -(-len(trials) // fitting.slots))
        units = [_unit(prepared, trial, deadline) for trial in trials]
        results = {unit.trial: result for unit, result in fitting.results(iter(units))}
    whole = {
        number: result for number, result in results.items() if result.folder and not result.cut and result.share == 1.0
    }
    return _with(ensemble, whole) if whole else ensemble


def affordable(trials: Sequence[TrialResult], slots: int, left_s: float) -> list[TrialResult]:
    """Those of `trials` that can be trained anew in `left_s`, in their order; first those that answer slowest."""
    chosen: list[TrialResult] = []
    for trial in sorted(trials, key=lambda trial: trial.predict_row_s, reverse=True):
        if refit_s([*chosen, trial], slots) <= left_s:
            chosen.append(trial)
    return [trial for trial in trials if trial in chosen]


def _trials(ensemble: Ensemble) -> list[TrialResult]:
    return list({trial.number: trial for trial, _, _ in ensemble.members}.values())


def _with(ensemble: Ensemble, results: dict[int, FoldResult]) -> Ensemble:
    """Each member's models replaced by the new one, where there is one; groups of a stack follow."""
    members: list[tuple[TrialResult, FoldResult, float]] = []
    groups: list[int] = []
    for place, trial in enumerate(_trials(ensemble)):
        own = [member for member in ensemble.members if member[0] is trial]
        if trial.number in results:
            rows = trial.folds[0].valid_rows
            row_s = trial.predict_row_s / len(trial.folds)
            new = replace(results[trial.number], rounds=_rounds(trial), predict_s=row_s * rows, valid_rows=rows)
            own = [(trial, new, sum(weight for _, _, weight in own))]
        members += own
        groups += [place] * len(own)
    stack = ensemble.stack and replace(ensemble.stack, groups=tuple(groups))
    told = {**ensemble.told, "models": len(members), "refitted_trials": sorted(results)}
    return replace(ensemble, members=tuple(members), stack=stack, told=told)


def _rounds(trial: TrialResult) -> int:
    return max(1, round(statistics.fmean(fold.rounds for fold in trial.folds)))


def _unit(prepared: Prepared, trial: TrialResult, deadline: float) -> FitUnit:
    candidate = Candidate(
        family=trial.candidate.family, params={**trial.candidate.params, "n_estimators": _rounds(trial)}
    )
    evaluations = prepared.splitter.folds()
    folds = tuple(sorted({fold for evaluation in evaluations for fold in evaluation.valid}))
    key = unit_key(FORMAT, "refit", prepared.rows.name, candidate.to_json(), trial.number, *folds)
    return FitUnit(
        trial=trial.number, candidate=candidate, number=len(evaluations), fold=Fold(train=folds, valid=()),
        rows=prepared.rows, key=key, deadline=deadline, forgiving=True,
    )  # fmt: skip
