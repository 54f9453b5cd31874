"""Live monitoring: what the server reads and answers, in windows, against the training of the version that answered.

Requests only append to lists, which are bounded; a thread of its own makes sketches of them and judges, so that the
loop that answers waits for the interpreter's lock at most. Each process watches what it answers itself.
"""

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from shardwise.core.findings import Finding
from shardwise.monitor.alerts import Alerts
from shardwise.monitor.concept import ConceptMonitor
from shardwise.monitor.judge import DriftConfig, DriftMonitor, suggested
from shardwise.monitor.service import ServiceMonitor, Traffic
from shardwise.monitor.windows import Reference, Window, shown_answers
from shardwise.serve.online.live import Models, Served
from shardwise.serve.online.settings import ServeConfig

_LOOK_S = 1.0
_KEPT = 50  # findings that are shown, and windows
_FAILED = 500  # status from which a request has failed
Row = Mapping[str, Any]


class Told(Protocol):
    """Where figures go: `metrics.Metrics`."""

    def drifted(self, model: str, sizes: Mapping[str, float]) -> None: ...

    def found(self, model: str, findings: Sequence[Finding]) -> None: ...


@dataclass(slots=True)
class _Buffer:
    """What came since the last window; `rows` and `tables` of the version alone that the watch is about."""

    rows: list[tuple[Sequence[Row], np.ndarray]] = field(default_factory=list)
    tables: list[tuple[pa.Table, np.ndarray]] = field(default_factory=list)
    count: int = 0
    since_s: float = field(default_factory=time.monotonic)


class Watch:
    """Of one live version. Any thread may record; one thread closes windows."""

    def __init__(self, served: Served, config: ServeConfig) -> None:
        self.served = served
        self._config = config
        self.reference = Reference.of(served.predictor.package)
        self._drift = None if self.reference is None else DriftMonitor(self.reference, DriftConfig())
        self._buffer = _Buffer()
        self.windows = 0
        self.rows = 0
        self.last: dict[str, Any] = {}
        self.history: deque[dict[str, Any]] = deque(maxlen=_KEPT)  # the greatest PSI of each window, and whose it is
        self.findings: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._labels: ConceptMonitor | None = None

    def record(self, rows: Sequence[Row], scores: np.ndarray) -> None:
        """Rows of Python values that were answered; those beyond a window are not kept."""
        buffer = self._buffer
        room = self._config.window_rows - buffer.count
        if room > 0:
            buffer.rows.append((rows[:room], scores[:room]))
            buffer.count += min(room, len(rows))

    def record_table(self, table: pa.Table, scores: np.ndarray) -> None:
        """The same for a table."""
        buffer = self._buffer
        room = self._config.window_rows - buffer.count
        if room > 0:
            buffer.tables.append((table.slice(0, room), scores[:room]))
            buffer.count += min(room, table.num_rows)

    def is_due(self) -> bool:
        """Whether the window is full, or its time is over."""
        buffer = self._buffer
        over = time.monotonic() - buffer.since_s >= self._config.window_s
        return buffer.count >= self._config.window_rows or (over and buffer.count > 0)

    def close(self) -> list[Finding]:
        """Judge what came since the last window, and begin the next."""
        buffer, self._buffer = self._buffer, _Buffer()
        findings: list[Finding] = []
        window = None if self._drift is None else self._sketched(buffer)
        if window is not None and self._drift is not None:
            findings = self._drift.close(window)
            self.rows += window.rows
            sizes = sizes_of(self._drift.reference, window)
            self.last = {"rows": window.rows, "sizes": sizes}
            worst = max(sizes, key=lambda name: sizes[name], default=None)
            self.history.append({"rows": window.rows, "column": worst, "psi": None if worst is None else sizes[worst]})
            self.findings.extend(finding.to_json() for finding in findings)
        self.windows += 1  # last: who sees it sees the rest as well
        return findings

    def label(self, y: np.ndarray, scores: np.ndarray) -> list[Finding]:
        """Labels as they arrive, as `Target.encode` gives them, with the scores of their rows."""
        if self._labels is None:
            spread = 1.0 if self.reference is None else self.reference.spread
            self._labels = ConceptMonitor(self.served.predictor.target, spread)
        findings = self._labels.add(y, scores)
        self.findings.extend(finding.to_json() for finding in findings)
        return findings

    def _sketched(self, buffer: _Buffer) -> Window | None:
        predictor = self.served.predictor
        window = None
        inputs = predictor.package.inputs
        batches = [(batch_of(rows, inputs), scores) for rows, scores in _joined(buffer.rows)]
        tables = [(table.select(predictor.columns).combine_chunks(), scores) for table, scores in buffer.tables]
        batches += [(_as_trained(table, inputs), scores) for table, scores in tables]
        for batch, scores in batches:
            if batch is None or not batch.num_rows:
                continue
            answers = shown_answers(predictor.target, predictor.answer_of(scores))
            window = window or Window.empty(batch.schema, answers.schema)
            window.add(batch, answers)
        return window


def _joined(parts: Sequence[tuple[Sequence[Row], np.ndarray]]) -> list[tuple[Sequence[Row], np.ndarray]]:
    """All rows together: a batch of many rows is cheap, many of one row are not."""
    if not parts:
        return []
    return [([row for rows, _ in parts for row in rows], np.concatenate([scores for _, scores in parts]))]


def batch_of(rows: Sequence[Row], schema: pa.Schema) -> pa.RecordBatch:
    """Rows of Python values in the types of training; a value that cannot be read as its column's type is missing."""
    columns = [_column([row[field.name] for row in rows], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):  # such as a date that JSON has as text
        return pa.array([_cell(value, kind) for value in values], kind)


def _cell(value: Any, kind: pa.DataType) -> Any:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    for own in (plain, None):
        try:
            return pa.scalar(value, own).cast(plain).as_py()
        except (pa.ArrowException, OverflowError, UnicodeEncodeError, ValueError):
            continue
    return None


def _as_trained(table: pa.Table, schema: pa.Schema) -> pa.RecordBatch | None:
    """One batch in the types of training; None where a column does not fit them."""
    try:
        return table.cast(pa.schema([schema.field(name) for name in table.column_names])).to_batches()[0]
    except (pa.ArrowException, ValueError, IndexError):
        return None


def sizes_of(reference: Reference, window: Window) -> dict[str, float]:
    """PSI of each column, answers too."""
    return {drift.column if what == "column" else f"{what}:{drift.column}": round(drift.psi, 4)
            for what, drift in reference.compared(window) if drift.psi is not None}  # fmt: skip


class Watching:
    """The watches of all models, and the thread that closes their windows and sends what they find."""

    def __init__(self, models: Models, config: ServeConfig, metrics: Told, alerts: Sequence[Alerts]) -> None:
        self._models, self._config, self._metrics, self._alerts = models, config, metrics, alerts
        self._watches: dict[str, Watch] = {slot.live.identity: Watch(slot.live, config) for slot in models.slots}
        self._service = ServiceMonitor()
        self._requests: list[tuple[int, float]] = []
        self._since_s = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="monitor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; alerts that wait are sent."""
        self._ended.set()
        self._thread.join()
        for place in self._alerts:
            place.close()

    # -- what requests call -------------------------------------------------------------------------------------------

    def record(self, served: Served, rows: Sequence[Row], scores: np.ndarray) -> None:
        watch = self._watches.get(served.identity)
        if watch is not None:
            watch.record(rows, scores)

    def record_table(self, served: Served, table: pa.Table, scores: np.ndarray) -> None:
        watch = self._watches.get(served.identity)
        if watch is not None:
            watch.record_table(table, scores)

    def request(self, status: int, seconds: float) -> None:
        """A prediction that was asked for, and what became of it."""
        if len(self._requests) < self._config.window_rows:
            self._requests.append((status, seconds))

    # -- what the thread does -----------------------------------------------------------------------------------------

    def label(self, served: Served, y: np.ndarray, scores: np.ndarray) -> None:
        watch = self._watches.get(served.identity)
        if watch is not None:
            self._tell(watch, watch.label(y, scores))

    def look(self) -> None:
        """Follow versions that were swapped, and close the windows that are due."""
        now = {slot.live.identity: slot.live for slot in self._models.slots}
        for identity, served in now.items():
            if identity not in self._watches:
                self._watches[identity] = Watch(served, self._config)
        self._watches = {identity: watch for identity, watch in self._watches.items() if identity in now}
        for watch in self._watches.values():
            if watch.is_due():
                findings = watch.close()
                self._metrics.drifted(watch.served.name, watch.last.get("sizes", {}))
                self._tell(watch, findings)
        self._look_at_service()

    def _look_at_service(self) -> None:
        full = len(self._requests) >= self._config.window_rows
        if not full and time.monotonic() - self._since_s < self._config.window_s:
            return
        requests, self._requests, self._since_s = self._requests, [], time.monotonic()
        seconds = np.array([taken for status, taken in requests if status < _FAILED])
        traffic = Traffic()
        traffic.count(seconds, len(requests) - len(seconds))
        self._tell(None, self._service.close(traffic))

    def _tell(self, watch: Watch | None, findings: Sequence[Finding]) -> None:
        if not findings:
            return
        name = "server" if watch is None else watch.served.name
        told = [finding.to_json() for finding in findings]
        self._metrics.found(name, findings)
        alert = {"model": name, "version": "" if watch is None else watch.served.version, "findings": told,
                 "suggestion": "" if watch is None else suggested(findings)}  # fmt: skip
        for place in self._alerts:
            place.send(alert)

    def _work(self) -> None:
        while not self._ended.wait(min(_LOOK_S, self._config.window_s)):
            self.look()

    def to_json(self) -> dict[str, Any]:
        """What is known now, for people and pages."""
        return {"models": [
            {"name": watch.served.name, "version": watch.served.version, "windows": watch.windows, "rows": watch.rows,
             "watched": watch.reference is not None, "last": watch.last, "history": list(watch.history),
             "findings": list(watch.findings)}
            for watch in list(self._watches.values())
        ]}  # fmt: skip
