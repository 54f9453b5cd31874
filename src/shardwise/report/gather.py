"""From what a run knows to what its report tells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shardwise.core.config import RunConfig
from shardwise.registry.manifest import Manifest, libraries
from shardwise.report.columns import MOST_COLUMNS
from shardwise.report.data import CUT, ReportData
from shardwise.stats.metrics import Metric
from shardwise.train.prepare import Prepared
from shardwise.train.result import FoldResult, TrialResult, rank
from shardwise.train.run import Run


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run ended: its trials, the chosen members, and the opened test."""

    metric: Metric
    trials: Sequence[TrialResult]
    members: Sequence[tuple[TrialResult, FoldResult, float]]
    told: Mapping[str, Any]
    y: np.ndarray
    prediction: np.ndarray
    test_metrics: Mapping[str, Any]
    package_hash: str
    decision: Sequence[float] = ()
    looks: int = 1
    gaps: Sequence[Mapping[str, Any]] = ()


def gather(run: Run, prepared: Prepared, ending: Ending) -> ReportData:
    """The report's data of a finished run."""
    target, metric = prepared.target, ending.metric
    size = sum(file.stat().st_size for file in run.package.rglob("*") if file.is_file())
    importance = _importance(ending.members)
    return ReportData(
        title=run.folder.name, task=target.task.value, target=target.column, metric=metric.name,
        greater_is_better=metric.greater_is_better, classes=target.classes, quantile=target.quantile,
        decision=ending.decision, looks=ending.looks, members=ending.gaps,
        asked=run.config.to_json(), rows_by_fold=dict(prepared.fold_rows),
        columns=_columns(prepared, importance), columns_in_all=len(prepared.profile.columns),
        findings=[finding.to_json() for finding in prepared.findings],
        valid_score=Manifest.read(run.package).metrics["valid"].get(metric.name), trials=_trials(ending),
        curves={trial.number: _curve(trial) for trial in ending.trials if trial.folds and trial.folds[0].curve},
        anomalies=[
            {"trial": trial.number, "fold": fold.fold, **anomaly.to_json()}
            for trial in ending.trials for fold in trial.folds for anomaly in fold.anomalies
        ],
        importance=importance,
        test={"y": ending.y, "prediction": ending.prediction, "metrics": dict(ending.test_metrics)},
        stages=run.stages, workers=run.records("workers"), ceilings=_ceilings(run), reading=_reading(run, prepared),
        versions=libraries(),
        package={"path": str(run.package), "hash": ending.package_hash, "size_bytes": size}, ensemble=ending.told,
        commands=_commands(run, target.column),
    )  # fmt: skip


def _columns(prepared: Prepared, importance: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    """What is known of the columns; of more than the page has room for, only of those that it shows."""
    rejected = prepared.recipe.rejected
    rows = prepared.profile.described(_shown(prepared, importance))
    return [{**row, "rejected": rejected[row["name"]]} if row["name"] in rejected else row for row in rows]


def _shown(prepared: Prepared, importance: Sequence[tuple[str, float]]) -> list[str]:
    """The target, the columns that weigh most, those with flags and those of findings come first; as in the data."""
    columns = prepared.profile.columns
    if len(columns) <= MOST_COLUMNS:
        return list(columns)
    source = {feature.name: feature.source for feature in prepared.recipe.features}
    heavy = [prepared.target.column, *(source.get(name, name) for name, share in importance if share > 0)]
    flagged = [name for name, column in columns.items() if column.flags]
    told = [name for finding in prepared.findings for name in finding.columns]
    wanted = dict.fromkeys(name for name in (*heavy, *flagged, *told, *columns) if name in columns)
    shown = set(list(wanted)[:MOST_COLUMNS])
    return [name for name in columns if name in shown]


def _trials(ending: Ending) -> list[dict[str, Any]]:
    """In their order, with their places and the scores of the same folds."""
    places = {trial.number: place for place, trial in enumerate(rank(ending.trials))}
    folds = sorted({fold.fold for trial in ending.trials for fold in trial.folds})
    chosen = {trial.number for trial, _, _ in ending.members}
    return [
        {**_trial(trial, ending.metric, folds, trial.number in chosen), "place": places.get(trial.number)}
        for trial in ending.trials
    ]


def _trial(trial: TrialResult, metric: Metric, folds: Sequence[int], is_chosen: bool) -> dict[str, Any]:
    sign = -1.0 if metric.greater_is_better else 1.0
    found = {fold.fold: sign * fold.loss for fold in trial.folds if np.isfinite(fold.loss)}
    cut = any(fold.cut for fold in trial.folds)
    rests = any(fold.rests for fold in trial.folds)
    why = "in the package" if is_chosen else "ended by the ceiling" if cut else ""
    return {
        "number": trial.number, "family": trial.candidate.family, "params": dict(trial.candidate.params),
        "score": sign * trial.loss, "fold_scores": [found.get(fold) for fold in folds], "seconds": trial.seconds,
        "rounds": max((fold.rounds for fold in trial.folds), default=0),
        "status": CUT if not trial.complete else "rests on a rung" if rests else "done", "why": why,
    }  # fmt: skip


def _curve(trial: TrialResult) -> list[tuple[float, float | None, float | None]]:
    """The curve of the first fold: one line says how training went."""
    return [(step, None, loss) for step, loss in trial.folds[0].curve]


def _importance(members: Sequence[tuple[TrialResult, FoldResult, float]]) -> list[tuple[str, float]]:
    """Weighted mean over the members, largest first."""
    shares: dict[str, float] = {}
    for _, fold, weight in members:
        for name, share in fold.importance.items():
            shares[name] = shares.get(name, 0.0) + weight * share
    return sorted(shares.items(), key=lambda item: (-item[1], item[0]))


def _ceilings(run: Run) -> dict[str, Any]:
    return {
        "memory_bytes": {"limit": run.watch.limit_bytes, "peak": run.watch.peak_bytes},
        "time_s": {"limit": run.deadline.limit_s, "used": run.deadline.used_s()},
        "samples": list(run.watch.samples),
    }


def _reading(run: Run, prepared: Prepared) -> list[dict[str, Any]]:
    """How each partition was read, with the path of its file."""
    paths = {partition.index: partition.path for partition in prepared.dataset.partitions}
    return [{**record, "path": paths.get(record["partition"], "")} for record in run.access.to_json()]


def _commands(run: Run, target: str) -> dict[str, str]:
    searched = (run.config.sampler, run.config.pruner) != (RunConfig.sampler, RunConfig.pruner)
    again = f"{'tune' if searched else 'train'} {' '.join(run.config.data)} --target {target} --run {run.folder.name}"
    return {
        "predict": f"shardwise predict {run.package} DATA --out predictions.parquet",
        "evaluate on new labelled data": f"shardwise evaluate {run.package} DATA",
        "go on with this run": f"shardwise {again} --time +5m",
    }
