"""Live monitoring: what the server reads and answers, in windows, against the training of the version that answered.

Requests only append to lists, which are bounded; a thread of its own makes sketches of them and judges, so that the
loop that answers waits for the interpreter's lock at most. Each process watches what it answers itself.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from shardwise.core.findings import Finding
from shardwise.monitor.alerts import Alerts
from shardwise.monitor.concept import ConceptMonitor, missing_library
from shardwise.monitor.judge import UNREAD, DriftConfig, DriftMonitor, suggested
from shardwise.monitor.service import ServiceMonitor, Traffic
from shardwise.monitor.windows import Reference, Window, shown_answers
from shardwise.serve.online.kept import Sketched
from shardwise.serve.online.live import Models, Served
from shardwise.serve.online.rows import Row
from shardwise.serve.online.settings import ServeConfig
from shardwise.serve.online.training_types import as_trained, sketched_schema

_LOOK_S = 1.0
_KEPT = 50  # findings that are shown, and windows
_MOST_BYTES = 64_000_000  # of a window: 5,000 rows of 300 columns; one with longer rows ends sooner
_FAILED = 500  # status from which a request has failed


class Told(Protocol):
    """Where figures go: `metrics.Metrics`."""

    def drifted(self, model: str, sizes: Mapping[str, float]) -> None: ...

    def found(self, model: str, findings: Sequence[Finding]) -> None: ...


class Watch:
    """Of one live version. Any thread may record; one thread closes windows."""

    def __init__(self, served: Served, config: ServeConfig) -> None:
        self.served = served
        self._config = config
        self.reference = Reference.of(served.predictor.package)
        self._drift = None if self.reference is None else DriftMonitor(self.reference, DriftConfig())
        inputs = served.predictor.package.inputs
        self._schema = inputs if self.reference is None else sketched_schema(inputs, self.reference)
        self._buffer, self._since_s = self._empty(), time.monotonic()
        self.windows = 0
        self.rows = 0
        self.last: dict[str, Any] = {}
        self.history: deque[dict[str, Any]] = deque(maxlen=_KEPT)  # the greatest PSI of each window, and whose it is
        self.findings: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._labels: ConceptMonitor | None = None

    def _empty(self) -> Sketched:
        return Sketched(self.served.predictor.columns, self._config.window_rows, _MOST_BYTES)

    def record(self, rows: Sequence[Row], scores: np.ndarray) -> None:
        """Rows of Python values that were answered; those beyond a window are not kept."""
        self._buffer.add(rows, scores)

    def record_table(self, table: pa.Table, scores: np.ndarray) -> None:
        """The same for a table."""
        self._buffer.add_table(table, scores)

    def is_due(self) -> bool:
        """Whether the window is full, or its time is over."""
        over = time.monotonic() - self._since_s >= self._config.window_s
        return self._buffer.is_full or (over and self._buffer.rows > 0)

    def close(self) -> list[Finding]:
        """Judge what came since the last window, and begin the next."""
        buffer, self._buffer, self._since_s = self._buffer, self._empty(), time.monotonic()
        findings: list[Finding] = []
        window, unread = (None, {}) if self._drift is None else self._sketched(buffer)
        if window is not None and self._drift is not None:
            findings = [*_unread(unread, self._schema, window.rows), *self._drift.close(window)]
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

    def _sketched(self, buffer: Sketched) -> tuple[Window | None, dict[str, int]]:
        """The window, and how many values of a column could not be read."""
        predictor = self.served.predictor
        window, unread = None, Counter[str]()
        for columns, scores in buffer.pieces():
            batch, lost = as_trained(columns, self._schema)
            unread.update(lost)
            answers = shown_answers(predictor.target, predictor.answer_of(scores))
            window = window or Window.empty(batch.schema, answers.schema)
            window.add(batch, answers)
        return window, unread


def _unread(unread: Mapping[str, int], schema: pa.Schema, rows: int) -> list[Finding]:
    return [
        Finding(code=UNREAD, severity="warning", columns=(name,), evidence={"what": "column", "rows": [count, rows]},
                text=f"{count:,} values of column {name!r} cannot be watched: they are not read as "
                     f"{schema.field(name).type}, and count as missing",
                hint="Send the column in the type that it has in training.")
        for name, count in unread.items()
    ]  # fmt: skip


def sizes_of(reference: Reference, window: Window) -> dict[str, float]:
    """PSI of each column, answers too."""
    return {drift.column if what == "column" else f"{what}:{drift.column}": round(drift.psi, 4)
            for what, drift in reference.compared(window) if drift.psi is not None}  # fmt: skip


class Watching:
    """The watches of all models, and the thread that closes their windows and sends what they find."""

    def __init__(self, models: Models, config: ServeConfig, metrics: Told, alerts: Sequence[Alerts]) -> None:
        self._models, self._config, self._metrics, self._alerts = models, config, metrics, alerts
        self._watches: dict[str, Watch] = {slot.live.identity: Watch(slot.live, config) for slot in models.slots}
        self.without_labels = missing_library()  # why labels are not watched, where they are not
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
        if watch is not None and self.without_labels is None:
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
                self._tell(watch, self._closed(watch))
        self._look_at_service()

    def _closed(self, watch: Watch) -> list[Finding]:
        try:
            findings = watch.close()
        except Exception as error:  # values of strangers: what was not thought of must not end the watching
            return [Finding(code="unwatched", severity="warning", text=f"a window could not be judged: {error!r}",
                            hint="This is a defect of the server.")]  # fmt: skip
        self._metrics.drifted(watch.served.name, watch.last.get("sizes", {}))
        return findings

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
        return {"labels_watched": self.without_labels is None, "models": [
            {"name": watch.served.name, "version": watch.served.version, "windows": watch.windows, "rows": watch.rows,
             "watched": watch.reference is not None, "last": watch.last, "history": list(watch.history),
             "findings": list(watch.findings)}
            for watch in list(self._watches.values())
        ]}  # fmt: skip
