"""New data against the training of a package: drift by windows, quality where labels are there, and what to do."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from shardwise.core.errors import ConfigError, PackageError, context
from shardwise.core.events import Advanced, Events
from shardwise.core.findings import Finding
from shardwise.data.dataset import Dataset
from shardwise.monitor.concept import ConceptMonitor
from shardwise.monitor.drift import compare_profiles
from shardwise.monitor.judge import DriftConfig, DriftMonitor, suggested
from shardwise.monitor.windows import Reference, Window, shown_answers
from shardwise.serve.evaluate import encode_labels, unknown_labels
from shardwise.serve.pieces import PredictOptions, as_trained, read_pieces, until_types_hold, working_on
from shardwise.serve.predictor import Predictor
from shardwise.stats.evaluation import Evaluation
from shardwise.stats.metrics import default_metric, metric_named

LEAST_LABELS = 100  # before quality is judged
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """`window_rows` rows are a window; `detector` watches labels where there are any, None: none does."""

    window_rows: int = 10_000
    drift: DriftConfig = field(default_factory=DriftConfig)
    detector: str | None = "adwin"

    def __post_init__(self) -> None:
        if self.window_rows < self.drift.least_rows:
            hint = f"Give at least {self.drift.least_rows}: fewer tell nothing."
            raise ConfigError(f"a window of {self.window_rows} rows", hint=hint)


@dataclass(frozen=True, kw_only=True)
class Closed:
    """A window that was judged: its rows, the partitions that they came from, and what was found."""

    number: int
    rows: int
    partitions: tuple[str, ...]
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        return {"number": self.number, "rows": self.rows, "partitions": list(self.partitions),
                "findings": [finding.to_json() for finding in self.findings]}  # fmt: skip


def monitor(
    predictor: Predictor, dataset: Dataset, config: MonitorConfig | None = None, *,
    options: PredictOptions | None = None, events: Events | None = None,
) -> dict[str, Any]:  # fmt: skip
    """`{"rows", "windows", "columns", "quality", "findings", "suggestion", "unjudged_rows"}` of new rows, in bounded
    memory. `unjudged_rows` are those of windows that were too small.

    Raises `PackageError` for a package without a profile, `SchemaError` for columns that are missing.
    """
    reference = Reference.of(predictor.package)
    if reference is None:
        raise PackageError("the package has no profile of the data that it was trained on", hint="Train it anew.")
    job = _Job(predictor, reference, config or MonitorConfig(), options or PredictOptions(), events or Events())
    with context(stage="monitor"):
        return until_types_hold(as_trained(dataset, predictor), job.run)


@dataclass(frozen=True)
class _Seen:
    place: str
    inputs: pa.RecordBatch
    scores: np.ndarray
    y: np.ndarray | None
    unknown: pa.Array | None = None  # labels that the model does not know, as text


@dataclass(frozen=True)
class _Job:
    predictor: Predictor
    reference: Reference
    config: MonitorConfig
    options: PredictOptions
    events: Events

    def run(self, dataset: Dataset) -> dict[str, Any]:
        self.predictor.check_columns(dataset.schema)
        target = self.predictor.target.column
        labelled = target in dataset.schema.names
        wanted = {*self.predictor.columns, *([target] if labelled else [])}
        columns = [name for name in dataset.schema.names if name in wanted]
        watched = _Watched(self)
        places = {partition.index: partition.path for partition in dataset.partitions}
        pieces = read_pieces(dataset, columns, min(self.options.batch_rows, self.config.window_rows))
        see = partial(self._seen, places, labelled)
        with working_on(pieces, see, self.options.threads, [self.predictor]) as all_seen:
            for seen in all_seen:
                watched.add(seen)
                self.events.emit(Advanced(stage="monitor", rows=seen.inputs.num_rows))
        return watched.result()

    def _seen(self, places: dict[int, str], labelled: bool, piece: tuple[int, pa.RecordBatch]) -> _Seen:
        index, batch = piece
        target = self.predictor.target
        y = unknown = None
        if labelled:
            labels = batch.column(target.column)
            y = encode_labels(target, labels)
            unknown = unknown_labels(labels, y) if target.task.is_classification else None
        return _Seen(places[index], batch.select(self.predictor.columns), self.predictor.predict(batch), y, unknown)


class _Watched:
    """What was seen so far."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._drift = DriftMonitor(job.reference, job.config.drift)
        self._windows: list[Closed] = []
        self._window: Window | None = None
        self._total: Window | None = None
        self._places: list[str] = []
        self._evaluation = Evaluation(job.predictor.target)
        self._concept: ConceptMonitor | None = None
        self._about_labels: list[Finding] = []
        self._unknown, self._examples = 0, dict[str, None]()

    def add(self, seen: _Seen) -> None:
        """Rows in their order; a window ends when it is full."""
        start, rows = 0, seen.inputs.num_rows
        if seen.unknown is not None:
            self._unknown += len(seen.unknown)
            if len(self._examples) < _SHOWN:
                self._examples.update(dict.fromkeys(seen.unknown.unique()[:_SHOWN].to_pylist()))
        while start < rows:
            held = self._window.rows if self._window else 0
            stop = min(rows, start + self._job.config.window_rows - held)
            self._part(seen, start, stop)
            start = stop
            assert self._window is not None
            if self._window.rows >= self._job.config.window_rows:
                self._close()

    def _part(self, seen: _Seen, start: int, stop: int) -> None:
        target = self._job.predictor.target
        inputs, scores = seen.inputs.slice(start, stop - start), seen.scores[start:stop]
        answers = shown_answers(target, self._job.predictor.answer_of(scores))
        if self._window is None:
            self._window = Window.empty(inputs.schema, answers.schema)
        self._window.add(inputs, answers)
        if seen.place not in self._places:
            self._places.append(seen.place)
        if seen.y is not None:
            self._labels(seen.y[start:stop], scores)

    def _labels(self, y: np.ndarray, scores: np.ndarray) -> None:
        self._evaluation.update(y, scores)
        if self._concept is None and self._job.config.detector is not None:
            spread, name = self._job.reference.spread, self._job.config.detector
            self._concept = ConceptMonitor(self._job.predictor.target, spread, name)
        if self._concept is not None:
            self._about_labels += self._concept.add(y, scores)

    def _close(self) -> None:
        window, self._window = self._window, None
        assert window is not None
        findings = (*self._drift.close(window), *self._about_labels)
        closed = Closed(
            number=len(self._windows) + 1, rows=window.rows, partitions=tuple(self._places), findings=findings
        )
        self._windows.append(closed)
        self._places, self._about_labels = [], []
        if self._total is None:
            self._total = window
        else:
            self._total.merge(window)

    def result(self) -> dict[str, Any]:
        if self._window is not None:
            self._close()
        quality, poor = self._quality()
        found = [*(finding for window in self._windows for finding in window.findings), *poor, *self._strangers()]
        least = self._job.config.drift.least_rows
        by_place: dict[str, list[Finding]] = {}
        for window in self._windows:
            for place in window.partitions:
                by_place.setdefault(place, []).extend(window.findings)
        return {
            "rows": 0 if self._total is None else self._total.rows,
            "windows": [window.to_json() for window in self._windows],
            "columns": list(self._columns()), "quality": quality,
            "findings": [finding.to_json() for finding in _first_of_each(found)],
            "suggestion": suggested(found, by_place),
            "unjudged_rows": sum(window.rows for window in self._windows if window.rows < least),
        }  # fmt: skip

    def _columns(self) -> Iterator[dict[str, Any]]:
        if self._total is not None:
            for drift in compare_profiles(self._job.reference.inputs, self._total.inputs):
                yield drift.to_json()

    def _strangers(self) -> Iterator[Finding]:
        """Labels of classes that were not there in training: their rows count for no quality."""
        labelled = self._unknown + self._evaluation.rows
        if not self._unknown or self._unknown < self._job.config.drift.least_share * labelled:
            return
        shown = ", ".join(map(repr, list(self._examples)[:_SHOWN]))
        column = self._job.predictor.target.column
        text = f"{self._unknown:,} of {labelled:,} labels in {column!r} are none that the model knows: {shown}"
        yield Finding(code="unknown_labels", severity="warning", text=text, columns=(column,),
                      evidence={"rows": [self._unknown, labelled]}, hint="Retrain with them.")  # fmt: skip

    def _quality(self) -> tuple[dict[str, Any], list[Finding]]:
        """The default metric on the labelled rows beside that of the sealed test, and a finding where it is worse."""
        if self._evaluation.rows < LEAST_LABELS:
            return {}, []
        task = self._job.predictor.target.task
        name = default_metric(task)
        now = self._evaluation.result([name])["metrics"][name]
        test = self._job.predictor.package.manifest.metrics.get("test", {}).get(name)
        told = {"metric": name, "rows": self._evaluation.rows, "now": now, "test": test}
        if not test or None in (now["low"], now["high"], test.get("low"), test.get("high")):
            return told, []
        better = metric_named(name, task).greater_is_better
        if not (now["high"] < test["low"] if better else now["low"] > test["high"]):
            return told, []
        text = f"{name} is {now['value']:.4g} on the new rows, {test['value']:.4g} on the test of the training"
        return told, [Finding(code="quality", severity="warning", text=text, evidence=told, hint="Retrain.")]


def _first_of_each(findings: list[Finding]) -> list[Finding]:
    """Of findings of one kind about one column the first."""
    first: dict[tuple[object, ...], Finding] = {}
    for finding in findings:
        first.setdefault((finding.code, finding.evidence.get("what"), finding.columns), finding)
    return list(first.values())
