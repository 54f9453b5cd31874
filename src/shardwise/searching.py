"""A search in a run: what was found so far, and the time that is kept for what follows it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

from shardwise.choosing import Choosing, choice_s
from shardwise.compute.ceiling import crowd
from shardwise.core.state import State
from shardwise.ensemble.select import MEMBERS
from shardwise.refitting import can_refit, kept_s, refittable
from shardwise.split.base import TEST
from shardwise.stats.metrics import Metric
from shardwise.train.prepare import Prepared
from shardwise.train.result import TrialResult, rank
from shardwise.train.run import Run

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
    `replayed`: trials that an earlier process of this run has journalled, `finished`: one has ended it.
    """

    prepared: Prepared
    metric: Metric
    trials: list[TrialResult] = field(default_factory=list)
    sealed_trial: int | None = None
    seal_s: float = 0.0
    cut: bool = False
    slots: int = 1
    evaluated: tuple[int, ...] = ()
    replayed: frozenset[int] = frozenset()
    finished: bool = False

    @classmethod
    def of(cls, run: Run, prepared: Prepared, metric: Metric) -> Self:
        """As an earlier process of the run has left it."""
        packed = (record["seconds"] for record in run.records("stage") if record["stage"] == "package")
        return cls(
            prepared, metric, seal_s=max(packed, default=0.0), finished=bool(run.records("finished")),
            evaluated=tuple(range(len(prepared.splitter.folds()))),
            replayed=frozenset(int(record["number"]) for record in run.records("trial")),
        )  # fmt: skip

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
    trained = [trial for trial in search.trials if trial.candidate.family != "baseline"]
    slowest = sorted((trial.predict_row_s for trial in trained), reverse=True)[:MEMBERS]
    test_s = 1.2 * test_rows * sum(slowest) if trained or first else most_s
    choosing_s = crowd() * choice_s(search.prepared.target, search.prepared.train_rows, len(trained))
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
