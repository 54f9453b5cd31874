"""What is made of the models' mean before it is an answer: calibration, decision, intervals and sets.

All of it is learned from out-of-fold predictions of the chosen ensemble. Of the sealed test no label is touched: some
of its rows tell how far fold models are from the ensemble, and once it is opened it counts how often intervals and sets
hold the truth.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shardwise.core.findings import Finding
from shardwise.core.target import Target, canonical_label
from shardwise.data.chunk import thinned
from shardwise.data.rows import DiskRows
from shardwise.models.families import load_model
from shardwise.split.base import TEST, Splitter
from shardwise.split.grouped import GroupSplitter
from shardwise.split.temporal import TemporalSplitter
from shardwise.stats.apart import Apart
from shardwise.stats.calibrators import Calibrator
from shardwise.stats.conformal import Conformal, held_by_part
from shardwise.stats.intervals import share_ends
from shardwise.stats.metrics import Metric, Pairs, Ranked, loss_of
from shardwise.stats.paired import Gain
from shardwise.stats.parts import group_parts
from shardwise.stats.recalibration import choose_calibrator, choose_decision
from shardwise.train.passes import FLOATS
from shardwise.train.prepare import Prepared
from shardwise.train.result import FoldResult, TrialResult
from shardwise.train.run import Run
from shardwise.train.validation import joint_units, joint_weight, validation_rows

PARTS = 5  # of a hold-out, where there are no folds
LEAST_UNSEEN, MOST_UNSEEN = 100, 2000  # rows on which fold models are compared with what predicts
LEVEL = 0.9  # confidence level that the report tells of


@dataclass(frozen=True)
class Joint:
    """Trials that answer together; `combine` makes one prediction of one of each, in their order."""

    trials: Sequence[TrialResult]
    combine: Callable[[Iterable[np.ndarray]], np.ndarray]

    def folds(self) -> dict[int, list[FoldResult]]:
        """By the number of each fold that all trials have, in order: their results of it, as the trials are ordered."""
        each = [{result.fold: result for result in trial.folds} for trial in self.trials]
        return {number: [results[number] for results in each] for number in sorted(set.intersection(*map(set, each)))}


@dataclass(frozen=True)
class Team:
    """Models that predict together: `combine` makes one prediction of those of all. `key` holds all that decides it."""

    members: Sequence[FoldResult]
    combine: Callable[[Iterable[np.ndarray]], np.ndarray]
    key: str


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """Labels `(rows,)`, predictions of models that have not seen the row, weights (None: all 1), and the fold of each
    row, or a fifth of the only one. `units` are codes of the groups whose rows depend on each other."""

    y: np.ndarray
    prediction: np.ndarray
    weight: np.ndarray | None
    parts: np.ndarray
    units: np.ndarray | None = None

    @property
    def pairs(self) -> Pairs:
        """All rows, which all have a label and a weight above 0; of weights the mean is 1, as smoothing counts rows."""
        weight = np.ones(len(self.y)) if self.weight is None else self.weight / np.mean(self.weight, dtype=np.float64)
        return Pairs(self.y, self.prediction, weight)


@dataclass(frozen=True, kw_only=True)
class PostProcess:
    """How a mean of predictions becomes an answer. `gain` is by how much the loss falls, out of fold; `findings` tell
    what was chosen and why."""

    target: Target
    calibrator: Calibrator | None = None
    conformal: Conformal | None = None
    gain: float = 0.0
    findings: tuple[Finding, ...] = ()

    def apply(self, prediction: np.ndarray) -> np.ndarray:
        """Calibrated predictions; the decision is the target's."""
        return prediction if self.calibrator is None else self.calibrator.apply(prediction)


def out_of_fold(
    run: Run, prepared: Prepared, joint: Joint, metric: Metric, crossed: np.ndarray | None = None
) -> OutOfFold:
    """What trials together predict for the rows on which they were validated; `crossed`, where it is known for all of
    them: by what was learned without the row from the predictions of the trials.

    Of a forward chain, of which the last fold alone is in the package, the folds before count too.
    """
    folds = prepared.splitter.folds()
    ys, predictions, known, parts = [], [], [], []
    for number, results in joint.folds().items():
        features, valid = prepared.recipe.features, folds[number].valid
        rows = validation_rows(prepared.rows, features, valid, prepared.target, metric.name)
        if not rows.n_rows:
            continue
        ys.append(rows.target())
        predictions.append(joint.combine(np.load(run.model(each.folder).parent / "valid.npy") for each in results))
        known.append(rows)
        parts.append(np.full(len(ys[-1]), number))
    if not ys:
        return OutOfFold(y=np.empty(0), prediction=np.empty(0), weight=None, parts=np.empty(0))
    y, together = np.concatenate(ys), np.concatenate(predictions)
    if crossed is not None and crossed.shape == together.shape:
        together = crossed
    units = joint_units(known)
    fifths = _fifths(len(y), units, isinstance(prepared.splitter, TemporalSplitter))
    return OutOfFold(
        y=y, prediction=together, weight=joint_weight(known), units=units,
        parts=np.concatenate(parts) if len(ys) > 1 else fifths,
    )  # fmt: skip


def _fifths(rows: int, units: np.ndarray | None, in_time: bool) -> np.ndarray:
    """Of a single fold: whole groups, stretches of time, or every fifth row."""
    if units is not None:
        return group_parts(units, PARTS)
    return np.arange(rows) * PARTS // max(rows, 1) if in_time else np.arange(rows) % PARTS


def unseen(run: Run, prepared: Prepared, joint: Joint, team: Team, left_s: float) -> Apart | None:
    """What the models of each fold, and the team, answer to some rows of the sealed test, whose labels are not read.

    None where a single fold answers, where too few rows are sealed, or where they would take longer than `left_s`.
    """
    folds = joint.folds()
    rows = DiskRows(prepared.rows / FLOATS, prepared.recipe.features, (TEST,))
    sealed = rows.n_rows
    step = -(-sealed // MOST_UNSEEN)
    row_s = 2 * sum(trial.predict_row_s for trial in joint.trials)  # the team takes no longer than all fold models
    alone = len(folds) < 2 or isinstance(prepared.splitter, TemporalSplitter)
    if alone or sealed < LEAST_UNSEEN or sealed / step * row_s > left_s:
        return None
    X = np.asfortranarray(np.concatenate([chunk.X for chunk in thinned(rows.chunks(), step)]))

    def answers(members: Iterable[FoldResult]) -> Iterator[np.ndarray]:
        return (load_model(run.model(result.folder)).predict(X) for result in members)

    each = np.stack([joint.combine(answers(results)) for results in folds.values()])
    return Apart(each, team.combine(answers(team.members)))


def postprocess(
    splitter: Splitter, target: Target, metric: Metric, rows: OutOfFold, apart: Apart | None = None
) -> PostProcess:
    """Calibrate, decide and rank the scores of intervals and sets, each where it helps rows it was not learned from.

    `apart` tells what fold models and the ensemble answer to rows that none has seen.
    """
    if not len(rows.y):
        return PostProcess(target=target)
    findings: list[Finding] = []
    calibrator, pairs, before = None, rows.pairs, rows.pairs
    if target.task.is_classification:
        calibrator, crossed, told = choose_calibrator(pairs, rows.parts, rows.units)
        pairs = Pairs(pairs.y, crossed, pairs.weight)
        if calibrator is not None:
            findings.append(_calibrated(target, told))
        decision, weighted, found = choose_decision(metric, target, pairs, rows.parts, rows.units)
        if found is not None and decision:
            target = replace(target, decision=decision)
            findings.append(_decides(target, metric, found))
    after = Pairs(pairs.y, weighted, pairs.weight) if target.decision else pairs
    gain = _loss(metric, target, before) - _loss(metric, target, after)
    if isinstance(metric, Ranked) or not np.isfinite(gain):
        gain = 0.0  # a calibration keeps ranks; those of parts with one each do not compare
    conformal = Conformal.fit(target, pairs.y, pairs.prediction, rows.parts)
    if conformal is not None and apart is not None:
        conformal = conformal.moved(apart if calibrator is None else apart.mapped(calibrator.apply))
    if conformal is not None and isinstance(splitter, TemporalSplitter | GroupSplitter):
        findings.append(_not_exchangeable(splitter, target, pairs, rows.parts))
    return PostProcess(target=target, calibrator=calibrator, conformal=conformal, gain=gain, findings=tuple(findings))


def _loss(metric: Metric, target: Target, pairs: Pairs) -> float:
    return loss_of(metric.name, metric.of(pairs, target.quantile))


def _calibrated(target: Target, told: Mapping[str, Any]) -> Finding:
    kind, before = told["chosen"], told["before"]
    return Finding(
        code="calibrated", severity="info", columns=(target.column,), evidence=dict(told),
        text=f"Probabilities are calibrated ({kind}): log loss {before:.5g} before, {told[kind]:.5g} then, on "
        "out-of-fold rows that the calibration was not learned from.",
    )  # fmt: skip


def _decides(target: Target, metric: Metric, found: Gain) -> Finding:
    names = [canonical_label(label) for label in target.classes]
    if len(names) == 2:
        rule = f"{names[1]!r} is predicted above a probability of {target.decision[0]:.4g}"
    else:
        rule = "the class of the greatest weighted probability is predicted; rarer classes weigh more"
    return Finding(
        code="decision", severity="info", columns=(target.column,),
        evidence={"weights": dict(zip(names, target.decision, strict=True)), **found.to_json()},
        text=f"For {metric.name}, {rule}: {found.champion:.5g} by the greatest probability, {found.challenger:.5g} so, "
        "on out-of-fold rows that this was not chosen on.",
    )  # fmt: skip


def _not_exchangeable(splitter: Splitter, target: Target, pairs: Pairs, parts: np.ndarray) -> Finding:
    """That coverage is not guaranteed where later times or new groups are predicted, and how far off it was."""
    temporal = isinstance(splitter, TemporalSplitter)
    held: dict[int, float] = {}
    if len(splitter.folds()) > 1:
        held = held_by_part(target, pairs.y, pairs.prediction, parts, level=LEVEL, ahead=temporal)
    why = "later rows may differ" if temporal else "rows of new groups may differ"
    text = f"Intervals and sets promise coverage for rows like those of the training, and {why}."
    evidence: dict[str, Any] = {"level": LEVEL}
    if held:
        by = "earlier folds" if temporal else "the other folds"
        low, high = min(held.values()), max(held.values())
        text += f" At {LEVEL:.0%}, by the scores of {by}, they held the truth in {low:.1%} to {high:.1%} of a fold."
        evidence |= {"lowest": low, "highest": high}
    far = bool(held) and min(held.values()) < LEVEL - 0.05
    return Finding(
        code="not_exchangeable", severity="warning" if far else "info", text=text, evidence=evidence,
        hint="Watch the coverage on new labels; train again when it falls.",
    )  # fmt: skip


def coverage(
    chosen: PostProcess, y: np.ndarray, prediction: np.ndarray, units: np.ndarray | None = None
) -> dict[str, Any]:
    """Share of the opened test's rows that the intervals or sets hold at `LEVEL`, with its 95 % interval; their mean
    `width`, or the mean `size` of the sets. Empty where there are none. `units` are codes of groups of rows."""
    if chosen.conformal is None or not len(y) or (chosen.conformal.rows + 1) * (1.0 - LEVEL) < 2:
        return {}
    holds = chosen.conformal.holds(y, prediction, LEVEL).astype(np.float64)
    held = float(holds.mean())
    low, high = share_ends(holds, units)
    content: dict[str, Any] = {"level": LEVEL, "value": held, "low": low, "high": high, "rows": len(y)}
    if chosen.target.task.is_classification:
        return {**content, "size": float(chosen.conformal.sets(prediction, LEVEL).sum(axis=1).mean())}
    ends = chosen.conformal.interval(prediction, LEVEL)
    return {**content, "width": float((ends[1] - ends[0]).mean())}


def coverage_findings(found: Mapping[str, Any]) -> list[Finding]:
    """What `coverage` found, as it is told; a warning where the test holds less than was promised, beyond chance."""
    if not found:
        return []
    what = f"in sets of {found['size']:.3g} classes" if "size" in found else f"in intervals {found['width']:.4g} wide"
    short = found["high"] < found["level"]
    text = (
        f"At a confidence level of {found['level']:.0%}, {found['value']:.1%} of the test rows "
        f"({found['low']:.1%} to {found['high']:.1%}) have their truth {what} on average."
    )
    hint = "The test differs from the rows of the training: do not rely on the promised coverage." if short else ""
    severity = "warning" if short else "info"
    return [Finding(code="coverage", severity=severity, text=text, evidence=dict(found), hint=hint)]
