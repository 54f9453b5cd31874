"""A search in a run: what was found so far, and the time that is kept for what follows it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

from shardwise.choosing import Choosing
from shardwise.compute.ceiling import crowd
from shardwise.contending import choice_s
from shardwise.core.candidate import Candidate
from shardwise.core.state import State
from shardwise.ensemble.select import MEMBERS
from shardwise.refitting import can_refit, kept_s, refittable
from shardwise.split.base import TEST
from shardwise.stats.metrics import Metric
from shardwise.store.base import Record
from shardwise.store.records import encode
from shardwise.train.inherit import trial_steps
from shardwise.train.prepare import Prepared
from shardwise.train.result import FoldResult, TrialResult, rank
from shardwise.train.run import Run
from shardwise.train.trainer import left_by
from shardwise.tune.setup import POPULATION
from shardwise.tune.step import Step
from shardwise.tuning import Tuning

TEST_SHARE = 0.05  # of the time, at most kept for the sealed test; where that is too little, it is thinned
REPORT_S = 2.6  # what the sealed test's intervals, the report and the end of the process take, at most; besides,
REFITS = 2  # members for whose training on all rows time is kept; with more, their models of the folds may have to do
STUDENT_FITS = 1.5  # of the longest fit of a fold, what a student takes
REPORT_COLUMN_S, REPORT_CLASS_S = 0.0002, 0.05
PACKAGE_COLUMN_S = 1e-3  # to choose members and to write the package, each column


@dataclass
class Search:
    """The trials of a run so far, and what the package holds; `slots` fits go on side by side.

    `evaluated` are the evaluations that have rows to validate on: one without tells nothing, and would not stop early.
    `journalled`: what earlier processes of this run have told of trials, `finished`: one has ended it. `aside` are
    trials further up than the study's sequence has brought them, `reached` the steps that all these are results of, and
    `losses` by (family, rung) those of trials that are, or were, there.
    """

    prepared: Prepared
    metric: Metric
    trials: list[TrialResult] = field(default_factory=list)
    sealed_trial: int | None = None
    seal_s: float = 0.0
    cut: bool = False
    slots: int = 1
    evaluated: tuple[int, ...] = ()
    journalled: Sequence[Record] = ()
    finished: bool = False
    aside: dict[int, TrialResult] = field(default_factory=dict)
    reached: dict[int, Step] = field(default_factory=dict)
    losses: dict[tuple[str, int], dict[int, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run, prepared: Prepared, metric: Metric) -> Self:
        """As an earlier process of the run has left it."""
        packed = (record["seconds"] for record in run.records("stage") if record["stage"] == "package")
        return cls(
            prepared, metric, seal_s=max(packed, default=0.0), finished=bool(run.records("finished")),
            evaluated=tuple(range(len(prepared.splitter.folds()))),
            journalled=run.records("trial"),
        )  # fmt: skip

    @cached_property
    def replayed(self) -> frozenset[int]:
        """Numbers of the trials that an earlier process has journalled."""
        return frozenset(int(record["number"]) for record in self.journalled)

    @property
    def found(self) -> list[TrialResult]:
        """The trials, each as far as it was trained."""
        own = {trial.number for trial in self.trials}
        further = [trial for number, trial in self.aside.items() if number not in own]
        return [*(self.aside.get(trial.number, trial) for trial in self.trials), *further]

    def at(self, number: int, *, aside: bool = True) -> TrialResult | None:
        """A trial as far as it was trained, or as the study knows it; None before its first step."""
        if aside and number in self.aside:
            return self.aside[number]
        return next((trial for trial in self.trials if trial.number == number), None)

    def take(self, step: Step, trial: TrialResult) -> bool:
        """Take in what a step found; False where the trial stands better without: at a higher rung, or where the clock
        has cut the step and it was better below."""
        before, known = self.at(step.number, aside=step.aside), self.reached.get(step.number)
        if trial.complete and not trial.cut:
            self.losses.setdefault((trial.candidate.family, step.rung), {})[step.number] = trial.loss
        if before is not None and trial.cut and not trial.loss < before.loss:
            return False
        if step.aside:
            self.aside[step.number] = trial
        else:
            self.trials = [*(other for other in self.trials if other is not before), trial]
            if step.number in self.aside and known is not None and known.rung > step.rung:
                return False
            self.aside.pop(step.number, None)
        self.reached[step.number] = step
        return True

    @cached_property
    def profile_state(self) -> State:
        """Of the open rows, which no trial changes."""
        return self.prepared.opened.state()

    @property
    def folds(self) -> int:
        return len(self.evaluated)

    def choosing(self, run: Run) -> Choosing:
        return Choosing(run, self.prepared, self.metric)


def reserve_s(run: Run, search: Search, *, first: bool = False, refits: bool = True) -> float:
    """Seconds to keep for the choice of members, the sealed test of the models so far, the package and the report.

    While none is trained the time for the test is what it may be; the first one keeps time for itself, see `FitTask`.
    """
    test_rows = search.prepared.fold_rows.get(TEST, 0)
    most_s = TEST_SHARE * (run.deadline.limit_s or 0.0) if test_rows else 0.0
    trained = [trial for trial in search.found if trial.candidate.family != "baseline"]
    slowest = sorted((trial.predict_row_s for trial in trained), reverse=True)[:MEMBERS]
    test_s = 1.2 * test_rows * sum(slowest) if trained or first else most_s
    choosing_s = crowd() * choice_s(search.prepared.target, search.metric, search.prepared.train_rows, len(trained))
    after_s = choosing_s + _refits_s(run, search, trained) if refits else 0.0
    package_s = max(search.seal_s, PACKAGE_COLUMN_S * crowd() * len(search.prepared.dataset.schema))
    return report_s(search) + package_s + after_s + min(most_s, test_s)


def _refits_s(run: Run, search: Search, trained: Sequence[TrialResult]) -> float:
    """Seconds that fits take after the trials: of a student, or of members on all rows."""
    if run.config.distill:
        return STUDENT_FITS * max((fold.seconds for trial in trained for fold in trial.folds), default=0.0)
    if not can_refit(run, search.prepared):
        return 0.0
    return kept_s(refittable(rank(trained))[:REFITS], search.slots, run.config.bag_seeds)


def report_s(search: Search) -> float:
    columns, classes = len(search.prepared.dataset.schema), search.prepared.target.outputs
    return crowd() * (REPORT_S + REPORT_COLUMN_S * columns + REPORT_CLASS_S * classes)


def recall(run: Run, search: Search, tuning: Tuning) -> Iterator[TrialResult]:
    """Take in what the run has journalled and the study, which the clock has cut, has not come to again: higher rungs,
    such as those of a trial that was the best of a shorter search, and trials. What that brings.

    Those of a population have no state of their own, and are left out.
    """
    if run.config.sampler == POPULATION:
        return
    for number, records in trial_steps(search.journalled).items():
        known, limit = search.at(number), tuning.study.limit
        if (known is None and limit is not None and number >= limit) or not _goes_on(records, known):
            continue
        if known is None and records[-1]["failed"]:
            tuning.failures.append((number, records[-1]["failed"]))
            continue
        for step, trial in _results(run, search, tuning, known.candidate if known else None, records):
            higher = known is None or step.rung > search.reached[number].rung
            if higher and (known is None or trial.complete) and search.take(step, trial):
                tuning.has_model |= step.candidate.family != "baseline"
                yield trial
                break


def _goes_on(records: Sequence[Record], known: TrialResult | None) -> bool:
    """Whether records are of the candidate that is known by their number now."""
    if known is None:
        return True
    told = {name: records[-1][name] for name in known.candidate.to_json()}
    return encode(told, sort=True) == encode(known.candidate.to_json(), sort=True)


def _results(
    run: Run, search: Search, tuning: Tuning, known: Candidate | None, records: Sequence[Record]
) -> Iterator[tuple[Step, TrialResult]]:
    """Of the steps of a trial, from the highest one, what they left; records are by rung, from the lowest one."""
    candidate = known or Candidate(family=records[-1]["family"], params=records[-1]["params"])
    top = tuning.study.rung_count(candidate.family) - 1
    for place in range(len(records) - 1, -1, -1):
        rung, below = records[place]["rung"] or 0, records[:place]
        step = Step(
            number=records[place]["number"], candidate=candidate, rung=rung, last=rung == top, aside=True,
            below=tuple(lower["rung"] for lower in below),
        )  # fmt: skip
        left = [_left(run, tuning.key(step, index)) for index in search.evaluated]
        folds = tuple(fold for fold in left if fold is not None)
        before_s = sum(fold["seconds"] for lower in below for fold in lower["folds"])
        if folds:
            yield step, TrialResult(
                number=step.number, candidate=step.candidate, folds=folds, complete=len(folds) == search.folds,
                before_s=before_s,
            )  # fmt: skip


def _left(run: Run, key: str) -> FoldResult | None:
    """What a unit came to, whole or cut."""
    record = run.ledger.get(key)
    return left_by(run.folder / "models", key) if record is None else FoldResult.from_json(record)
