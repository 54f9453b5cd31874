"""What a report needs to know of a run: plain values and NumPy arrays; the room knows no other rooms."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from shardwise.core.target import Label, Task

MOST_ROWS = 200_000  # rows from which curves are computed; what is drawn of them is thinned further
FAILED = frozenset({"pruned", "failed", "error", "stopped", "running"})  # trials without a rank
CUT = "cut"  # status of a trial that lacks folds

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Evaluated:
    """Rows of the test on which curves are computed.

    `y` `(n,)`: class indices (int64) or numbers; `prediction` `(n, classes)` or `(n,)`; `rows`: how many there were
    before the even thinning to `MOST_ROWS`.
    """

    y: np.ndarray
    prediction: np.ndarray
    rows: int


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """A run, as it is told. Everything but the first five may be missing: its section then says so or is left out.

    asked         options of the run (`RunConfig.to_json()`); values of `storage` are never shown
    rows_by_fold  fold -> rows; -1 or `test` is the sealed test
    columns       one dict per column: name, type, group, count, nulls, distinct, minimum, maximum, mean, std,
                  quantiles (values at even shares, or `[share, value]`), top (`[value, count]`), flags
    columns_in_all  how many columns there are, where not all of them are described
    findings      `Finding.to_json()` dicts
    decision      weights of the classes by which the label is chosen; empty: the greatest probability
    looks         models that were scored on the test so far; the intervals are widened by it
    valid_score   the metric of the package out of fold; None: that of the best trial is told
    trials        dicts: number, family, params, score, low, high, fold_scores (None for a fold that is missing),
                  place (0 for the best, None without one), seconds, rounds, status, why
    curves        trial number -> list of `(step, train | None, valid)` losses
    members       dicts: trial, fold, weight; train, valid, test: the metric on rows that the model learned, and others
    importance    `(feature, share)` pairs
    test          y `(n,)`, prediction `(n,)` or `(n, classes)`, metrics `{name: {value, low, high}}`
    slices        dicts: column, value, rows, score, low, high
    stages        dicts: stage, seconds, rows, peak_bytes
    anomalies     dicts: trial, fold, kind, step, text, action, evidence
    workers       dicts: `together` (one per model that workers fitted so; else of all models that they fitted side by
                  side), workers `[{rank, place, rows, work_s, read_s, talk_s, wait_s, slow}]`
    reading       dicts, one per partition: partition, path, accesses, rows, seconds
    ceilings      memory_bytes `{limit, peak}`, time_s `{limit, used}`, samples `[(t_s, bytes)]`
    package       path, hash, size_bytes
    ensemble      kind, models, judged `[{kind, trials, models, score, gain, error}]`, and of a distilled one `student`
    commands      what to do next -> command line, in the order in which they are shown
    """

    title: str
    task: str
    target: str
    metric: str
    greater_is_better: bool
    classes: Sequence[Label] = ()
    quantile: float = 0.5
    decision: Sequence[float] = ()
    looks: int = 1
    confidence: float = 0.95
    asked: Record = field(default_factory=dict)
    rows_by_fold: Mapping[Any, int] = field(default_factory=dict)
    columns: Sequence[Record] = ()
    columns_in_all: int = 0
    findings: Sequence[Record] = ()
    valid_score: float | None = None
    trials: Sequence[Record] = ()
    curves: Mapping[Any, Sequence[tuple[float, float | None, float | None]]] = field(default_factory=dict)
    members: Sequence[Record] = ()
    importance: Sequence[tuple[str, float]] = ()
    test: Record = field(default_factory=dict)
    slices: Sequence[Record] = ()
    stages: Sequence[Record] = ()
    anomalies: Sequence[Record] = ()
    workers: Sequence[Record] = ()
    reading: Sequence[Record] = ()
    ceilings: Record = field(default_factory=dict)
    versions: Record = field(default_factory=dict)
    package: Record = field(default_factory=dict)
    ensemble: Record = field(default_factory=dict)
    commands: Record = field(default_factory=dict)

    def called(self, prediction: np.ndarray) -> np.ndarray:
        """Class indices `(n,)` that are predicted, by the weights of the decision."""
        weighted = prediction * np.asarray(self.decision) if len(self.decision) else prediction
        return np.asarray(weighted.argmax(axis=1))

    @property
    def n_columns(self) -> int:
        """How many columns the data has, described or not."""
        return max(len(self.columns), self.columns_in_all)

    @property
    def is_classification(self) -> bool:
        return Task(self.task).is_classification

    @cached_property
    def ranked(self) -> list[Record]:
        """Finished trials with a score, best first: by place, else whole ones before others, by score and number."""
        sign = -1.0 if self.greater_is_better else 1.0
        scored = [trial for trial in self.trials if _is_ranked(trial)]
        return sorted(
            scored, key=lambda trial: (_place(trial), not is_whole(trial), sign * trial["score"], _order(trial))
        )

    @cached_property
    def unranked(self) -> list[Record]:
        """Trials that were stopped, failed or have no score, in the order of their numbers."""
        return sorted((trial for trial in self.trials if not _is_ranked(trial)), key=_order)

    @cached_property
    def evaluated(self) -> Evaluated | None:
        """The test rows, or None when there are none; rows whose target or prediction is no number are left out."""
        y, prediction = self.test.get("y"), self.test.get("prediction")
        if y is None or prediction is None or not len(y):
            return None
        y, prediction = np.asarray(y, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
        if self.is_classification and prediction.ndim == 1:
            prediction = np.column_stack([1.0 - prediction, prediction])
        usable = np.isfinite(y) & np.isfinite(prediction.reshape(len(y), -1)).all(axis=1)
        places = np.flatnonzero(usable)
        if not len(places):
            return None
        if len(places) > MOST_ROWS:
            places = places[np.linspace(0, len(places) - 1, MOST_ROWS).astype(np.int64)]
        y = y[places].astype(np.int64) if self.is_classification else y[places]
        return Evaluated(y=y, prediction=prediction[places], rows=int(usable.sum()))


def is_whole(trial: Record) -> bool:
    """Its score is that of all folds, and can be compared with others'."""
    return str(trial.get("status", "")).lower() != CUT


def _place(trial: Record) -> float:
    place = trial.get("place")
    return math.inf if place is None else float(place)


def _is_ranked(trial: Record) -> bool:
    score = trial.get("score")
    return score is not None and bool(np.isfinite(score)) and str(trial.get("status", "")).lower() not in FAILED


def _order(trial: Record) -> tuple[int, str]:
    number = trial.get("number")
    return (number, "") if isinstance(number, int) else (2**62, str(number))
