"""Members trained anew on all rows: one model, or one for each of a few seeds, in the place of those of all folds.

A model that has seen all rows answers about as well as the five or eight of the folds together, which have seen four
fifths or seven eighths each, and takes a fraction of their size and time (decision 0026). It has no rows left to be
stopped early by, so that it boosts for the mean of the rounds of the folds' models; what it is expected to lose is what
they lose out of fold. Trees that draw rows, columns or thresholds at random are trained from several seeds where that
is asked for and time and limits allow: their mean is what one of them would be without the luck of the draw.
"""

import heapq
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from shardwise.choosing import Choosing, Ensemble
from shardwise.core.candidate import Candidate
from shardwise.core.findings import Finding
from shardwise.models.trees_params import TreesParams
from shardwise.split.base import Fold
from shardwise.store.ledger import unit_key
from shardwise.train.fitting import Fitting
from shardwise.train.prepare import Prepared
from shardwise.train.result import FoldResult, TrialResult
from shardwise.train.run import FORMAT, Run
from shardwise.train.trainer import FitUnit

REFITTED = ("trees", "catboost")  # families whose fit is as long as `n_estimators` says
SPARE = 1.1  # times that are kept for fits: where what comes before takes a little longer, time for none would be left


def can_refit(run: Run, prepared: Prepared) -> bool:
    """Whether members of this run can be trained on all rows: they are split into folds, are encoded once, and there is
    no ceiling on memory, which was shared out for fewer rows."""
    folds = prepared.splitter.folds()
    every = {fold for evaluation in folds for fold in evaluation.train}
    known = {fold for evaluation in folds for fold in evaluation.valid}
    once = all(folder == prepared.rows for folder in prepared.fold_rows_folders)
    return len(folds) > 1 and every == known and once and run.config.memory_bytes is None


def kept_s(trials: Sequence[TrialResult], slots: int, seeds: int) -> float:
    """Seconds to keep for training these candidates anew, about, those that draw from so many `seeds`."""
    fits = [trial for trial in trials for _ in range(seeds if draws(trial.candidate) else 1)]
    return SPARE * refit_s(fits, slots)


def refittable(trials: Sequence[TrialResult]) -> list[TrialResult]:
    """Those that are trained anew where they are members."""
    return [trial for trial in trials if trial.complete and trial.candidate.family in REFITTED]


def refit_s(trials: Sequence[TrialResult], slots: int) -> float:
    """Seconds that it takes to train these candidates anew, about, `slots` side by side and the longest first."""
    busy_s = [0.0] * slots
    for each_s in sorted((_fit_s(trial) for trial in trials), reverse=True):
        heapq.heapreplace(busy_s, busy_s[0] + each_s)
    return max(busy_s)


def _fit_s(trial: TrialResult) -> float:
    """As a fold's: there are more rows, and no rounds until it is stopped early. What it took on the rungs below
    counts: a fit on all rows is not gone on with."""
    return trial.before_s / len(trial.folds) + statistics.fmean(fold.seconds for fold in trial.folds)


def draws(candidate: Candidate) -> bool:
    """Whether trees are grown by chance, so that those of another seed err differently."""
    if candidate.family != "trees":
        return False
    params = TreesParams(**candidate.params)
    return params.extra_trees or params.subsample < 1.0 or params.feature_fraction < 1.0


def refitted(run: Run, prepared: Prepared, choosing: Choosing, ensemble: Ensemble, left_s: float) -> Ensemble:
    """The ensemble with models on all rows for each member of `REFITTED` for which there is time.

    The others, and those of other families, keep their models of the folds.
    """
    trials = refittable(_trials(ensemble))
    results: dict[int, list[FoldResult]] = {}
    possible = can_refit(run, prepared)
    if trials and possible:
        with closing(Fitting(run, prepared, choosing.metric.name)) as fitting:
            plan = Plan(fitting.slots, left_s, run.config.bag_seeds)
            fits = plan.fits(trials, lambda fits: choosing.has_room(_models(ensemble, fits)))
            until = time.monotonic() + left_s
            longest = sorted(fits, key=lambda fit: _fit_s(fit[0]), reverse=True)
            units = [_unit(prepared, trial, seed, until) for trial, seed in longest]
            for unit, result in sorted(fitting.results(iter(units)), key=lambda pair: pair[0].number):
                if _is_whole(result):
                    results.setdefault(unit.trial, []).append(result)
    anew = _with(ensemble, results) if results else ensemble
    asked = sum(run.config.bag_seeds for trial in trials if draws(trial.candidate))
    there = sum(len(results.get(trial.number, [])) for trial in trials if draws(trial.candidate))
    if run.config.bag_seeds == 1 or there == asked:
        return anew
    return replace(anew, findings=(*anew.findings, _fewer(asked, there, possible)))


def _fewer(asked: int, there: int, possible: bool) -> Finding:
    hint = "Give more --time, or higher limits." if possible else (
        "Members are trained on all rows where these are split into folds, features are encoded once, and no --memory "
        "is given."
    )  # fmt: skip
    text = f"--bag-seeds asked for {asked} models of members that draw at random; {there} were trained."
    return Finding(
        code="bag_seeds", severity="warning", text=text, evidence={"asked": asked, "trained": there}, hint=hint
    )


@dataclass(frozen=True)
class Plan:
    """For `left_s` seconds of `slots` fits side by side, from so many `seeds`."""

    slots: int
    left_s: float
    seeds: int = 1

    def fits(
        self, trials: Sequence[TrialResult], has_room: Callable[[Sequence[TrialResult]], bool]
    ) -> list[tuple[TrialResult, int]]:
        """(trial, seed) of the fits for which there is time: once those of `affordable`, then those that draw from
        further seeds, while a package with a model of each fit `has_room`."""
        first = affordable(trials, self.slots, self.left_s)
        fits = [(trial, 0) for trial in first]
        for seed in range(1, self.seeds):
            for trial in first:
                more = [*(each for each, _ in fits), trial]
                if draws(trial.candidate) and refit_s(more, self.slots) <= self.left_s and has_room(more):
                    fits.append((trial, seed))
        return fits


def affordable(trials: Sequence[TrialResult], slots: int, left_s: float) -> list[TrialResult]:
    """Those of `trials` that can be trained anew in `left_s`, in their order; first those that answer slowest."""
    chosen: list[TrialResult] = []
    for trial in sorted(trials, key=lambda trial: trial.predict_row_s, reverse=True):
        if refit_s([*chosen, trial], slots) <= left_s:
            chosen.append(trial)
    return [trial for trial in trials if trial in chosen]


def _trials(ensemble: Ensemble) -> list[TrialResult]:
    return list({trial.number: trial for trial, _, _ in ensemble.members}.values())


def _models(ensemble: Ensemble, fits: Sequence[TrialResult]) -> list[TrialResult]:
    """The trial of each model of the ensemble once these fits have taken the place of the folds' models."""
    again = {trial.number for trial in fits}
    return [*fits, *(trial for trial, _, _ in ensemble.members if trial.number not in again)]


def _is_whole(result: FoldResult) -> bool:
    return bool(result.folder) and not result.cut and result.share == 1.0


def _with(ensemble: Ensemble, results: Mapping[int, Sequence[FoldResult]]) -> Ensemble:
    """Each member's models replaced by the new ones, where there are any; groups of a stack follow."""
    members: list[tuple[TrialResult, FoldResult, float]] = []
    groups: list[int] = []
    for place, trial in enumerate(_trials(ensemble)):
        own = [member for member in ensemble.members if member[0] is trial]
        if trial.number in results:
            weight = sum(weight for _, _, weight in own) / len(results[trial.number])
            own = [(trial, new, weight) for new in _measured(trial, results[trial.number])]
        members += own
        groups += [place] * len(own)
    stack = ensemble.stack and replace(ensemble.stack, groups=tuple(groups))
    told = {**ensemble.told, "models": len(members), "refitted_trials": sorted(results)}
    return replace(ensemble, members=tuple(members), stack=stack, told=told)


def _measured(trial: TrialResult, results: Sequence[FoldResult]) -> Iterator[FoldResult]:
    """New models, with what is known of them by those of the folds."""
    rows, row_s = trial.folds[0].valid_rows, trial.predict_row_s / len(trial.folds)
    for result in results:
        yield replace(result, rounds=_rounds(trial), predict_s=row_s * rows, valid_rows=rows)


def _rounds(trial: TrialResult) -> int:
    return max(1, round(statistics.fmean(fold.rounds for fold in trial.folds)))


def _unit(prepared: Prepared, trial: TrialResult, seed: int, deadline: float) -> FitUnit:
    """The seed of a fit follows from its number, see `FitTask`."""
    candidate = Candidate(
        family=trial.candidate.family, params={**trial.candidate.params, "n_estimators": _rounds(trial)}
    )
    evaluations = prepared.splitter.folds()
    folds = tuple(sorted({fold for evaluation in evaluations for fold in evaluation.valid}))
    key = unit_key(
        FORMAT, "refit", prepared.rows.name, candidate.to_json(), trial.number, *folds, *([seed] if seed else [])
    )
    return FitUnit(
        trial=trial.number, candidate=candidate, number=len(evaluations) + seed, fold=Fold(train=folds, valid=()),
        rows=prepared.rows, key=key, deadline=deadline, forgiving=True,
    )  # fmt: skip
