"""One model in the place of an ensemble: trees that learn its answers.

It learns from all folds but one, as its teachers' models of that evaluation answer these rows; on the fold that
neither they nor it have learned it is stopped early, scored against the labels, and compared with them on the
same rows. Answers out of fold are learned no better, and come from models that had the labels of the fold that is
held out: a student of noise (600 rows) had an AUC of .85 there and .50 on new rows, and one of 6,000 rows of adult
lost .78 of what it lost on new rows.
"""

import io
import math
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from shardwise.choosing import CORES, FAR, USUAL_THROUGHPUT, Choosing, Ensemble
from shardwise.core.candidate import Candidate
from shardwise.core.findings import Finding
from shardwise.core.units import format_duration
from shardwise.data.rows import DiskRows
from shardwise.data.rows_soft import soft_path
from shardwise.ensemble.select import Limits
from shardwise.models.families import load_model
from shardwise.models.pace import rounds_within
from shardwise.models.params import parse_params
from shardwise.models.trees_params import TreesParams
from shardwise.split.base import Fold
from shardwise.stats.metrics import perfect_loss
from shardwise.store.files import write_atomic
from shardwise.store.ledger import unit_key
from shardwise.train.fitting import Fitting
from shardwise.train.passes import FLOATS
from shardwise.train.prepare import Prepared
from shardwise.train.result import FoldResult, TrialResult
from shardwise.train.run import FORMAT, Run
from shardwise.train.trainer import FitUnit

ANSWERING_SHARE = 0.5  # of the time that is left, at most, to ask the teachers
LEAF_BYTES = 90  # of a saved tree, about
LEAST_ROUNDS = 20
TRIES = 3  # fits of a student, each smaller than the one before


@dataclass(frozen=True)
class _Asked:
    """The evaluation whose teachers are asked: its number and folds, the rows that are trained on, where the answers
    lie, the teachers' loss on the fold that they have not learned, and what asking takes, about, as they took there."""

    number: int
    evaluation: Fold
    rows: Path
    folder: Path
    loss: float
    takes_s: float


@dataclass(frozen=True)
class Distilling:
    """Makes a student of an ensemble; `trials` are all of the run, of which the best trees give the params."""

    run: Run
    prepared: Prepared
    choosing: Choosing
    trials: Sequence[TrialResult]

    def student(self, teachers: Ensemble, left_s: float) -> Ensemble | str:
        """The student as an ensemble of one; why there is none, where there is none.

        The limits of the run hold for it, and not for its teachers: where it does not keep them it is trained anew, for
        fewer rounds. What it does not keep even then is a finding.
        """
        best = next((trial for trial in self.trials if trial.candidate.family == "trees"), None)
        if (why := self._cannot(teachers, best)) or best is None:
            return why or "no trees were trained"
        if (asked := self._asked(teachers)) is None:
            return f"{self.choosing.metric.name} is not defined on any fold"
        deadline = time.monotonic() + max(left_s, 0.0)
        if asked.takes_s > ANSWERING_SHARE * left_s:
            takes, left = format_duration(asked.takes_s), format_duration(max(left_s, 0.0))
            return f"to ask its models about all rows takes some {takes}, and {left} are left"
        self._answer(teachers, asked)
        candidate, trial = self._candidate(best), None
        for _ in range(TRIES):
            result = self._fitted(asked, candidate, deadline)
            if not result.folder:
                if trial is None:
                    return result.failed or "the time was up"
                break
            trial = TrialResult(number=result.trial, candidate=candidate, folds=(result,), complete=False)
            rounds = self._rounds(trial)
            if rounds >= result.rounds:
                break
            candidate = replace(candidate, params={**candidate.params, "n_estimators": rounds})
        assert trial is not None
        return self._compared(teachers, trial, asked)

    def _rounds(self, trial: TrialResult) -> int:
        """As many as keep the limits, judging by a student that was trained; those that it has where it keeps them."""
        limits, cost, has = self._limits(), self.choosing.cost(trial), trial.folds[0].rounds
        shares = [limits.bytes / max(cost.bytes, 1.0), limits.batch_s / max(cost.batch_s, 1e-12)]
        shares.append((limits.alone_s / max(cost.alone_s, 1e-12)) ** 2)  # a part of it does not go with the rounds
        return has if min(shares) >= 1.0 else min(has, max(LEAST_ROUNDS, int(has * max(0.0, min(shares)))))

    def _limits(self) -> Limits:
        """Those of the run; a throughput that nobody asked for leaves the student half of its time, where encoding a
        row takes more."""
        limits = self.choosing.limits()
        if self.run.config.min_throughput is None:
            limits = replace(limits, batch_s=max(limits.batch_s, CORES / USUAL_THROUGHPUT / 2))
        return limits

    def _cannot(self, ensemble: Ensemble, best: TrialResult | None) -> str:
        evaluations = self.prepared.splitter.folds()
        known = {fold for evaluation in evaluations for fold in evaluation.valid}
        if len(ensemble.members) < 2:
            return "it is one model already"
        if not all(trial.complete for trial, _, _ in ensemble.members):
            return "its best trial was ended before all folds were done"
        if len(ensemble.members[0][0].folds) < len(evaluations):
            return "a fold has no rows to validate on"
        if not all(set(evaluation.train) <= known for evaluation in evaluations):
            return "rows that are trained on are not all kept as numbers; it takes --folds"
        if any(len(evaluation.valid) != 1 for evaluation in evaluations):
            return "evaluations of several folds are not handled"
        if best is None:
            return "no trees were trained, which could learn its answers"
        return ""

    def _asked(self, ensemble: Ensemble) -> "_Asked | None":
        """The first evaluation on whose fold the metric is defined; None where there is none."""
        joint = ensemble.joint
        for number, evaluation in enumerate(self.prepared.splitter.folds()):
            models, rows = [trial.folds[number] for trial in joint.trials], self.choosing.validation(evaluation.valid)
            answers = joint.combine(self.choosing.out_of_fold(model) for model in models)
            loss = self.choosing.loss(rows.target(), answers, rows.weight())
            if math.isfinite(loss):
                trained = sum(self.prepared.fold_rows.get(fold, 0) for fold in evaluation.train)
                takes_s = trained * sum(model.predict_s / max(1, model.valid_rows) for model in models)
                key = unit_key(FORMAT, "answers", ensemble.team.key, number)
                folder = self.run.folder / "teachers" / key
                return _Asked(number, evaluation, self.prepared.fold_rows_folders[number], folder, loss, takes_s)
        return None

    def _answer(self, ensemble: Ensemble, asked: "_Asked") -> None:
        """Write what the teachers' models say of the rows of each fold that is trained on; what is there already is
        left as it is."""
        joint = ensemble.joint
        models = [trial.folds[asked.number] for trial in joint.trials]
        asked.folder.mkdir(parents=True, exist_ok=True)
        for fold in asked.evaluation.train:
            path = soft_path(asked.folder, fold)
            if path.exists():
                continue
            rows = DiskRows(asked.rows / FLOATS, self.prepared.recipe.features, (fold,))
            write_atomic(path, _npy(joint.combine(self._predicted(model, rows) for model in models)))

    def _predicted(self, model: FoldResult, rows: DiskRows) -> np.ndarray:
        loaded = load_model(self.run.model(model.folder))
        return np.concatenate([loaded.predict(chunk.X) for chunk in rows.chunks()])

    def _fitted(self, asked: "_Asked", candidate: Candidate, deadline: float) -> FoldResult:
        number = 1 + max(trial.number for trial in self.trials)
        unit = FitUnit(
            trial=number, candidate=candidate, number=asked.number, fold=asked.evaluation, rows=asked.rows,
            key=unit_key(FORMAT, "student", asked.folder.name, candidate.to_json()), deadline=deadline,
            forgiving=True, teacher=asked.folder,
        )  # fmt: skip
        with closing(Fitting(self.run, self.prepared, self.choosing.metric.name)) as fitting:
            ((_, result),) = fitting.results(iter([unit]))
        return result

    def _candidate(self, best: TrialResult) -> Candidate:
        """The best trees, with as many rounds as the limits on size and throughput allow, by arithmetic."""
        limits, outputs = self._limits(), self.prepared.target.outputs
        params = {name: value for name, value in best.candidate.params.items() if name != "target_transform"}
        most = rounds_within(replace(best.candidate, params=params), limits.batch_s, outputs)
        own = parse_params(TreesParams, "trees", params)
        most = min(most, limits.bytes / (LEAF_BYTES * own.num_leaves * outputs), float(own.n_estimators))
        return Candidate(family="trees", params={**params, "n_estimators": max(LEAST_ROUNDS, int(most))})

    def _compared(self, ensemble: Ensemble, trial: TrialResult, asked: "_Asked") -> Ensemble | str:
        """What the student loses, on rows that neither it nor its teachers have learned; one that the clock has cut and
        that loses much is none."""
        teachers = asked.loss
        above = abs(teachers - perfect_loss(self.choosing.metric.name))
        if trial.folds[0].cut and trial.loss - teachers > FAR * above:
            return f"there was time for {trial.folds[0].rounds} rounds alone, which are too few"
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
        over = self.choosing.over(self.choosing.cost(trial), (), "the student")
        found = (finding,) if over is None else (finding, over)
        return Ensemble(((trial, trial.folds[0], 1.0),), trial.loss, None, told, found)


def not_distilled(why: str) -> Finding:
    """That the package has the ensemble itself, and why."""
    return Finding(
        code="not_distilled", severity="warning", text=f"The ensemble was not distilled: {why}.",
        hint="The package has the ensemble itself.",
    )  # fmt: skip


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
