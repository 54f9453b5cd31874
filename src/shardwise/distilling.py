"""One model in the place of an ensemble: trees that learn its answers.

The answers are out of fold: a row is learned as it was predicted by models that had not seen it, so that the student
does not learn by heart what its teachers have learned by heart. It learns from all folds but one, and on that one it is
stopped early, scored against the labels, and compared with its teachers on the same rows.
"""

import io
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shardwise.choosing import Choosing, Ensemble
from shardwise.core.candidate import Candidate
from shardwise.core.findings import Finding
from shardwise.data.rows_soft import soft_path
from shardwise.models.pace import rounds_within
from shardwise.store.files import write_atomic
from shardwise.store.ledger import unit_key
from shardwise.train.fitting import Fitting
from shardwise.train.prepare import Prepared
from shardwise.train.result import FoldResult, TrialResult
from shardwise.train.run import FORMAT, Run
from shardwise.train.trainer import FitUnit

LEAF_BYTES = 90  # of a saved tree, about
LEAST_ROUNDS = 20


@dataclass(frozen=True)
class Distilling:
    """Makes a student of an ensemble; `trials` are all of the run, of which the best trees give the params."""

    run: Run
    prepared: Prepared
    choosing: Choosing
    trials: Sequence[TrialResult]

    def student(self, ensemble: Ensemble, left_s: float) -> Ensemble:
        """The student as an ensemble of one; the ensemble itself, with a finding that says why, where there is none."""
        best = next((trial for trial in self.trials if trial.candidate.family == "trees"), None)
        if (why := self._cannot(ensemble, best)) or best is None:
            return replace(ensemble, findings=(*ensemble.findings, _not_distilled(why or "no trees were trained")))
        answers = self._answers(ensemble)
        result, unit = self._fitted(ensemble, best, answers, left_s)
        if not result.folder:
            return replace(ensemble, findings=(*ensemble.findings, _not_distilled(result.failed or "the time was up")))
        trial = TrialResult(number=unit.trial, candidate=unit.candidate, folds=(result,), complete=False)
        return self._compared(ensemble, trial, answers)

    def _cannot(self, ensemble: Ensemble, best: TrialResult | None) -> str:
        evaluations = self.prepared.splitter.folds()
        known = {fold for evaluation in evaluations for fold in evaluation.valid}
        if len(ensemble.members) < 2:
            return "it is one model already"
        if not set(evaluations[0].train) <= known:
            return "rows that are trained on have no out-of-fold answers; it takes --folds"
        if any(len(evaluation.valid) != 1 for evaluation in evaluations):
            return "evaluations of several folds are not handled"
        if best is None:
            return "no trees were trained, which could learn its answers"
        return ""

    def _answers(self, ensemble: Ensemble) -> Mapping[int, np.ndarray]:
        """Of the teachers for the rows of each fold, out of fold."""
        joint = ensemble.joint

        def parts(place: int) -> Iterable[np.ndarray]:
            return (self.choosing.out_of_fold(trial.folds[place]) for trial in joint.trials)

        evaluations = enumerate(self.prepared.splitter.folds())
        return {evaluation.valid[0]: joint.combine(parts(place)) for place, evaluation in evaluations}

    def _fitted(
        self, ensemble: Ensemble, best: TrialResult, answers: Mapping[int, np.ndarray], left_s: float
    ) -> tuple[FoldResult, FitUnit]:
        number = 1 + max(trial.number for trial in self.trials)
        candidate = self._candidate(best)
        key = unit_key(FORMAT, "student", ensemble.team.key, candidate.to_json())
        teacher = self.run.folder / "teachers" / key
        teacher.mkdir(parents=True, exist_ok=True)
        for fold, prediction in answers.items():
            write_atomic(soft_path(teacher, fold), _npy(prediction))
        unit = FitUnit(
            trial=number, candidate=candidate, number=0, fold=self.prepared.splitter.folds()[0],
            rows=self.prepared.fold_rows_folders[0], key=key, deadline=time.monotonic() + max(left_s, 0.0),
            forgiving=True, teacher=teacher,
        )  # fmt: skip
        with closing(Fitting(self.run, self.prepared, self.choosing.metric.name)) as fitting:
            ((_, result),) = fitting.results(iter([unit]))
        return result, unit

    def _candidate(self, best: TrialResult) -> Candidate:
        """The best trees, with as many rounds as the limits on size and throughput allow."""
        limits, outputs = self.choosing.limits(), self.prepared.target.outputs
        params = {name: value for name, value in best.candidate.params.items() if name != "target_transform"}
        most = rounds_within(replace(best.candidate, params=params), limits.batch_s, outputs)
        leaves = int(params.get("num_leaves", 31))
        most = min(most, limits.bytes / (LEAF_BYTES * leaves * outputs), float(params.get("n_estimators", 5000)))
        return Candidate(family="trees", params={**params, "n_estimators": max(LEAST_ROUNDS, int(most))})

    def _compared(self, ensemble: Ensemble, trial: TrialResult, answers: Mapping[int, np.ndarray]) -> Ensemble:
        """What the student loses, on rows that neither it nor its teachers' answers for them were trained on."""
        fold = self.prepared.splitter.folds()[0].valid[0]
        rows = self.choosing.validation((fold,))
        teachers = self.choosing.loss(rows.target(), answers[fold], rows.weight())
        sign = -1.0 if self.choosing.metric.greater_is_better else 1.0
        student: dict[str, Any] = {
            "score": sign * trial.loss, "teachers_score": sign * teachers, "rounds": trial.folds[0].rounds,
            "loses": (trial.loss - teachers) / max(abs(teachers), 1e-12),
        }  # fmt: skip
        text = (
            f"One model was trained on the answers of {len(ensemble.members)}: {self.choosing.metric.name} "
            f"{student['score']:.5g} in the place of {student['teachers_score']:.5g}, a loss {student['loses']:+.2%}."
        )
        finding = Finding(code="distilled", severity="info", text=text, evidence=student)
        told = {**ensemble.told, "kind": "distilled", "models": 1, "student": student}
        return Ensemble(((trial, trial.folds[0], 1.0),), trial.loss, None, told, (*ensemble.findings, finding))


def _not_distilled(why: str) -> Finding:
    return Finding(
        code="not_distilled", severity="warning", text=f"The ensemble was not distilled: {why}.",
        hint="The package has the ensemble itself.",
    )  # fmt: skip


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
