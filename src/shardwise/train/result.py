"""What became of trials: fold results, trial results, the leaderboard."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from shardwise.core.candidate import Candidate
from shardwise.stats.anomalies import Anomaly


@dataclass(frozen=True, kw_only=True)
class FoldResult:
    """One candidate on one fold.

    `loss` is the metric turned so that lower is better; `curve` is `[(step, loss)]` of the early stopping; `cut` says
    that the time or the user ended the training; `share` of the rows were trained on; `notes` say what the model did
    otherwise than asked for, `anomalies` what went wrong in training. `rests`: training can go on from the rung where
    it stopped. `steps` are the rounds or epochs of this fit alone, without those of the rungs below. `failed` is why
    there is no model.
    """

    trial: int
    fold: int
    loss: float
    seconds: float
    predict_s: float = 0.0
    rounds: int = 0
    valid_rows: int = 0
    cut: bool = False
    folder: str = ""
    curve: tuple[tuple[int, float], ...] = ()
    importance: Mapping[str, float] = field(default_factory=dict)
    share: float = 1.0
    notes: tuple[str, ...] = ()
    anomalies: tuple[Anomaly, ...] = ()
    rests: bool = False
    steps: int = 0
    failed: str = ""

    @property
    def model_name(self) -> str:
        """What tells its model from others: with more memory one of more rows takes the place of the old one."""
        return self.folder if self.share == 1.0 else f"{self.folder}-{self.share:g}"

    def to_json(self) -> dict[str, Any]:
        anomalies = [anomaly.to_json() for anomaly in self.anomalies]
        curve = [list(point) for point in self.curve]
        return {**asdict(self), "curve": curve, "notes": list(self.notes), "anomalies": anomalies}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "FoldResult":
        known = {key: content[key] for key in cls.__dataclass_fields__ if key in content}
        curve = tuple((int(step), float(loss)) for step, loss in content.get("curve", ()))
        anomalies = tuple(Anomaly.from_json(anomaly) for anomaly in content.get("anomalies", ()))
        return cls(**{**known, "curve": curve, "notes": tuple(content.get("notes", ())), "anomalies": anomalies})


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """One candidate over the folds that were done; `before_s` were spent on the rungs below."""

    number: int
    candidate: Candidate
    folds: tuple[FoldResult, ...]
    complete: bool
    before_s: float = 0.0

    @property
    def cut(self) -> bool:
        """Whether time or the user ended the training on a fold."""
        return any(fold.cut for fold in self.folds)

    @cached_property
    def loss(self) -> float:
        """Mean loss over the folds, weighted by their validation rows.

        Folds on which the metric is not defined (NaN), which are the same for all candidates, do not count.
        """
        defined = [fold for fold in self.folds if not np.isnan(fold.loss)]
        if not defined:
            return float("nan")
        return float(np.average([f.loss for f in defined], weights=[max(f.valid_rows, 1) for f in defined]))

    @property
    def seconds(self) -> float:
        return self.before_s + sum(fold.seconds for fold in self.folds)

    @property
    def predict_row_s(self) -> float:
        """Seconds that all fold models take for one row, measured on the validation rows."""
        return sum(fold.predict_s / max(1, fold.valid_rows) for fold in self.folds)


def rank(trials: Sequence[TrialResult]) -> list[TrialResult]:
    """Trials from best to worst, by loss; ties go to the earlier trial.

    One that was cut competes on the folds that it has, and only with the others' results on the same folds. Trials
    without a finite loss are left out.
    """
    usable = [trial for trial in trials if trial.folds and np.isfinite(trial.loss)]
    complete = sorted((trial for trial in usable if trial.complete), key=lambda trial: (trial.loss, trial.number))
    for trial in sorted((t for t in usable if not t.complete), key=lambda trial: (trial.loss, trial.number)):
        place = next((i for i, other in enumerate(complete) if _beats(trial, other)), len(complete))
        complete.insert(place, trial)
    return complete


def _beats(cut: TrialResult, other: TrialResult) -> bool:
    """Whether a cut trial is better than another one on the folds that both have."""
    mine, theirs = on_same_folds(cut, other)
    return mine < theirs


def on_same_folds(cut: TrialResult, other: TrialResult) -> tuple[float, float]:
    """Mean losses of both on the folds that both have, and on which the first one's is defined; NaN where none is."""
    others = {fold.fold: fold.loss for fold in other.folds}
    pairs = [(fold.loss, others[fold.fold]) for fold in cut.folds if fold.fold in others and not np.isnan(fold.loss)]
    mine, theirs = np.mean(pairs, axis=0) if pairs else (np.nan, np.nan)
    return float(mine), float(theirs)
