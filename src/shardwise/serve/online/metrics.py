"""What a server tells Prometheus (https://prometheus.io/docs/concepts/data_model/), and nothing of single rows."""

from collections import Counter as Counter_
from collections.abc import Mapping, Sequence
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from shardwise.core.findings import Finding
from shardwise.serve.cache.base import Counters
from shardwise.serve.online.live import Models, Served
from shardwise.serve.online.ui.history import Totals

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 16_384, 131_072, 1_048_576)
PREDICTIONS = ("predict", "infer", "grpc_infer")  # endpoints
_WAITING = ("shardwise_waiting_rows", "shardwise_bulk_waiting")
_STAGES = ("read", "wait", "predict", "write")
_CACHE = {"hits": "keys that were found", "misses": "keys that were not", "evictions": "entries that had to go",
          "errors": "failures of nodes", "dropped": "puts that were given up"}  # fmt: skip


class Metrics:
    """The figures of one process, or with `folder` of all workers that write there."""

    def __init__(self, folder: str | None = None) -> None:
        self._folder = folder
        self._registry = CollectorRegistry()
        self._requests = self._counter("requests", "Requests by endpoint and status", "endpoint", "status")
        self._request_s = self._histogram("request_seconds", "From the head of a request to its answer", "endpoint")
        stages = self._histogram("stage_seconds", "Read and understand, wait, predict, write", "stage")
        self._stages = {stage: stages.labels(stage) for stage in _STAGES}
        self._group = Histogram(
            "shardwise_group_rows", "Rows that were predicted together", buckets=_ROWS, registry=self._registry
        )
        self._waiting = self._gauge("waiting_rows", "Rows that wait or are predicted", "livesum")
        self._bulk = self._gauge("bulk_waiting", "Large requests that wait or are predicted", "livesum")
        self._refused = self._counter("refused", "Requests that were refused for load", "reason")
        self._swaps = self._counter("swaps", "New versions that came: live, or refused", "model", "outcome")
        self._live = self._gauge("live", "1 for the versions that answer", "livemax", "model", "version", "package")
        self._cache = {name: self._counter(f"cache_{name}", f"Cache: {text}") for name, text in _CACHE.items()}
        self._cached: dict[str, int] = {}
        self._psi = self._gauge("drift_psi", "PSI of the last window against training", "livemax", "model", "column")
        self._findings = self._counter("findings", "Findings of the monitoring", "model", "code")
        self._ready: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._shown: dict[str, list[tuple[str, str, str]]] = {}

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"shardwise_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, label: str) -> Histogram:
        return Histogram(f"shardwise_{name}", text, (label,), buckets=_SECONDS, registry=self._registry)

    def _gauge(self, name: str, text: str, mode: Literal["livesum", "livemax"], *labels: str) -> Gauge:
        """`mode`: how the figures of several workers become one."""
        return Gauge(f"shardwise_{name}", text, labels, registry=self._registry, multiprocess_mode=mode)

    def request(self, endpoint: str, status: int, seconds: float) -> None:
        children = self._ready.get((endpoint, status))
        if children is None:
            children = self._requests.labels(endpoint, str(status)), self._request_s.labels(endpoint)
            self._ready[endpoint, status] = children
        children[0].inc()
        children[1].observe(seconds)

    def stage(self, name: str, seconds: float) -> None:
        self._stages[name].observe(seconds)

    def waited(self, seconds: float) -> None:
        self._stages["wait"].observe(seconds)

    def predicted(self, rows: int, seconds: float) -> None:
        self._stages["predict"].observe(seconds)
        self._group.observe(rows)

    def waiting(self, rows: int) -> None:
        self._waiting.set(rows)

    def bulk_waiting(self, requests: int) -> None:
        self._bulk.set(requests)

    def refused(self, reason: str) -> None:
        self._refused.labels(reason).inc()

    def swapped(self, model: str, outcome: str) -> None:
        self._swaps.labels(model, outcome).inc()

    def show(self, models: Models) -> None:
        """Tell which versions are live now."""
        for name in models.names:
            now = [_labels(slot.live) for slot in models.slots if slot.name == name]
            for labels in self._shown.get(name, []):
                if labels not in now:
                    self._live.labels(*labels).set(0)
            for labels in now:
                self._live.labels(*labels).set(1)
            self._shown[name] = list(dict.fromkeys([*self._shown.get(name, []), *now]))

    def drifted(self, model: str, sizes: Mapping[str, float]) -> None:
        """Tell the population stability index of each column in the last window."""
        for column, psi in sizes.items():
            self._psi.labels(model, column).set(psi)

    def found(self, model: str, findings: Sequence[Finding]) -> None:
        for finding in findings:
            self._findings.labels(model, finding.code).inc()

    def count_cache(self, counters: Counters) -> None:
        """Add what happened in a cache since the last call."""
        now = counters.to_json()
        for name, counter in self._cache.items():
            counter.inc(max(0, now[name] - self._cached.get(name, 0)))
        self._cached = now

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._gathered())

    def totals(self) -> Totals:
        """Of predictions, and what waits."""
        by_class: Counter_[str] = Counter_()
        within: Counter_[float] = Counter_()
        waiting = 0.0
        for sample in (sample for family in self._gathered().collect() for sample in family.samples):
            if sample.name in _WAITING:
                waiting += sample.value
            elif sample.labels.get("endpoint") not in PREDICTIONS:
                continue
            elif sample.name == "shardwise_requests_total":
                by_class[sample.labels["status"][0]] += int(sample.value)
            elif sample.name == "shardwise_request_seconds_bucket":
                within[float(sample.labels["le"])] += int(sample.value)
        return Totals(requests=by_class.total(), rejected=by_class["4"], failed=by_class["5"], waiting=waiting,
                      within=sorted(within.items()))  # fmt: skip

    def _gathered(self) -> CollectorRegistry:
        if self._folder is None:
            return self._registry
        gathered = CollectorRegistry()
        MultiProcessCollector(gathered, path=self._folder)  # type: ignore[no-untyped-call]
        return gathered


def _labels(served: Served) -> tuple[str, str, str]:
    return served.name, served.version, served.predictor.package.hash[:12]
