"""What it takes to bring the best trial of a search to its end: seconds of its rungs, about, by what others took."""

import math
import statistics
from functools import cached_property

from shardwise.core.candidate import Candidate
from shardwise.models.rungs import SHARES, progress, rounds_on
from shardwise.plan.knowledge import defaults as shipped_knowledge
from shardwise.plan.training import boosted, params_of, rounds_of
from shardwise.refitting import can_refit
from shardwise.searching import Search
from shardwise.train.forecast import sizes_of
from shardwise.train.result import TrialResult, rank
from shardwise.train.run import Run
from shardwise.tune.step import Step
from shardwise.tune.study import Study

MORE = 2.0  # times the rounds that it has, at least, a training is taken to need


class Climbing:
    """In a search on rungs; what is reckoned here decides when, and never what is trained."""

    def __init__(self, run: Run, search: Search, study: Study) -> None:
        self._run = run
        self._search = search
        self._study = study
        self._in_parts = run.config.rungs == "partitions"

    def best(self, left_s: float) -> TrialResult | None:
        """Who is to be trained to its end: the best trial. Where that is at its end, whoever is ahead of all others on
        the rung where it rests, if `left_s` seconds suffice for it."""
        if not self._study.pruner.prunes:
            return None
        whole = [trial for trial in rank(self._search.found) if trial.complete and not trial.cut]
        if whole and _rests(whole[0]):
            return whole[0]
        ahead = [trial for trial in whole if _rests(trial) and self._is_ahead(trial)]
        highest = max(ahead, key=lambda trial: self._search.reached[trial.number].rung, default=None)
        return highest if highest is not None and self.way_s(highest) <= left_s else None

    def _is_ahead(self, trial: TrialResult) -> bool:
        """Families are not compared, as their rungs are not the same."""
        family, rung = trial.candidate.family, self._search.reached[trial.number].rung
        losses = self._search.losses.get((family, rung), {})
        return all(trial.loss < loss for number, loss in losses.items() if number != trial.number)

    def way_s(self, trial: TrialResult) -> float:
        """Seconds from where a trial rests to its end, and what its training on all rows will take more."""
        rung, top = self._search.reached[trial.number].rung, self._study.rung_count(trial.candidate.family) - 1
        fold_s = self._pace_s(trial) * self._way(trial.candidate, rung, top)
        waves = -(-sum(fold.rests for fold in trial.folds) // self._search.slots)
        return fold_s * (waves + self.again)

    @cached_property
    def again(self) -> bool:
        """Whether a member is trained on all rows in the end: what a fold takes more is then taken once more."""
        return can_refit(self._run, self._search.prepared) and not self._run.config.distill

    def fold_s(self, step: Step) -> float:
        """Seconds of a step on a fold; 0 where nothing is known of its like."""
        own = self._search.at(step.number)
        like = [trial for trial in self._search.found if trial.candidate.family == step.candidate.family]
        if not like or self._study.rung_count(step.candidate.family) == 1:
            return 0.0
        pace_s = self._pace_s(own) if own is not None else statistics.median(self._pace_s(trial) for trial in like)
        return pace_s * self._way(step.candidate, step.below[-1] if step.below else -1, step.rung)

    def _way(self, candidate: Candidate, lower: int, upper: int) -> float:
        """From a rung (-1: from the beginning) to another one: rounds, or all partitions so many times."""
        if self._in_parts:  # begun anew on each rung
            return sum((*SHARES, 1.0)[lower + 1 : upper + 1])
        done = (rounds_on(candidate, lower) or 0) if lower >= 0 else 0
        return max(0.0, min(rounds_on(candidate, upper) or math.inf, self._rounds(candidate, done)) - done)

    def _pace_s(self, trial: TrialResult) -> float:
        """Seconds of a round on a fold, or of all partitions, as it was trained so far."""
        fold_s = statistics.fmean(fold.seconds for fold in trial.folds)
        rung = self._search.reached[trial.number].rung
        if self._in_parts:
            return fold_s / (*SHARES, 1.0)[rung]
        rounds = statistics.fmean(max(fold.rounds, fold.curve[-1][0] if fold.curve else 1) for fold in trial.folds)
        return (fold_s + trial.before_s / len(trial.folds)) / max(rounds, 1.0)

    def _rounds(self, candidate: Candidate, done: int) -> float:
        """Rounds of a whole training, of which so many are `done`: as the run's other trials took, or as is usual; and
        rather too many, as time that is not needed goes to the sequence."""
        ended = [
            progress(trial.candidate, fold.curve[-1][0])
            for trial in self._search.found
            if trial.candidate.family == candidate.family and trial.complete and not trial.cut
            for fold in trial.folds
            if fold.curve and not fold.rests
        ]
        rounds = statistics.median(ended) / progress(candidate, 1.0) if ended else self._usual(candidate)
        params = params_of(candidate)
        return max(min(rounds, params.n_estimators), boosted(MORE * done, params))

    def _usual(self, candidate: Candidate) -> float:
        known = shipped_knowledge()
        best = rounds_of(candidate, Candidate(family="trees"), known.rounds.at(self._train_rows), known.candidates)
        return boosted(best, params_of(candidate))

    @cached_property
    def _train_rows(self) -> int:
        return sizes_of(self._search.prepared).train_rows


def _rests(trial: TrialResult) -> bool:
    return any(fold.rests for fold in trial.folds)
