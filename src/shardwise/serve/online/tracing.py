"""Predictions as spans of OpenTelemetry (https://opentelemetry.io/docs/specs/otel/trace/), sent to a collector by OTLP.

A span for each prediction, which goes on with the trace that the client's `traceparent` names
(https://www.w3.org/TR/trace-context/), and below it one for each of its stages: read, wait, predict, write, as in the
metrics. A call only notes when its stages began and ended; spans are made of that at its end, and a thread sends them.
Sampling, and more of the resource, is told by OpenTelemetry's own variables (OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME).
"""

import logging
import threading
import time
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shardwise.core.errors import ConfigError
from shardwise.serve.online.call import Call
from shardwise.serve.online.http import Request
from shardwise.serve.online.journal import Journal

_PATH = "/v1/traces"  # of OTLP over HTTP
_TIMEOUT_S = 5.0
_FAILED = 500  # status from which a span is one of an error
_OF_W3C = ("traceparent", "tracestate")


class Spans:
    """Makes spans of calls that have ended, and has them sent."""

    def __init__(self, exporter: SpanExporter, journal: Journal) -> None:
        _tell_failures(journal)
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("shardwise")
        self._propagator = TraceContextTextMapPropagator()

    @classmethod
    def to(cls, url: str, journal: Journal) -> "Spans":
        """To a collector at `http://host:4318`; raises `ConfigError` for what is no such address."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{url!r} is no address of a collector", hint="Write --traces http://localhost:4318")
        endpoint = url if parts.path not in ("", "/") else url.rstrip("/") + _PATH
        return cls(OTLPSpanExporter(endpoint=endpoint, timeout=_TIMEOUT_S), journal)

    def ended(self, call: Call, endpoint: str, status: int) -> None:
        """Make the spans of a call that ends now."""
        trace = call.trace
        assert trace is not None
        now_s = time.perf_counter()
        epoch_ns = time.time_ns() - int(now_s * 1e9)
        carrier = {
            name: call.headers[name.encode()].decode("latin1") for name in _OF_W3C if name.encode() in call.headers
        }
        span = self._tracer.start_span(
            endpoint, self._propagator.extract(carrier), SpanKind.SERVER, _attributes(call, status),
            start_time=epoch_ns + int(trace.began_s * 1e9),
        )  # fmt: skip
        if span.is_recording():
            parent = set_span_in_context(span)
            for name, began_s, ended_s in trace.stages:
                stage = self._tracer.start_span(name, parent, start_time=epoch_ns + int(began_s * 1e9))
                stage.end(epoch_ns + int(ended_s * 1e9))
            if status >= _FAILED:
                span.set_status(Status(StatusCode.ERROR))
        span.end(epoch_ns + int(now_s * 1e9))

    def close(self) -> None:
        """Send what waits, unless the collector does not answer for some seconds."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(_TIMEOUT_S)


def _resource() -> Resource:
    """What the variables of OpenTelemetry say, by the name of shardwise unless they have another."""
    named = Resource.create()
    if str(named.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        return named.merge(Resource({SERVICE_NAME: "shardwise"}))
    return named


def _attributes(call: Call, status: int) -> dict[str, str | int]:
    """Of https://opentelemetry.io/docs/specs/semconv/, and the version that answered."""
    told: dict[str, str | int] = {"shardwise.request_id": call.id}
    if isinstance(call, Request):
        told |= {"http.request.method": call.method, "url.path": call.path, "http.response.status_code": status}
    else:
        told |= {"rpc.system": "grpc", "shardwise.status": status}
    if call.trace is not None and call.trace.served is not None:
        served = call.trace.served
        told |= {"shardwise.model": served.name, "shardwise.version": served.version, "shardwise.rows": call.trace.rows}
    return told


class _Teller(logging.Handler):
    def __init__(self, journal: Journal) -> None:
        super().__init__(logging.WARNING)
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        self._journal.tell("traces_failed", error=record.getMessage())


def _tell_failures(journal: Journal) -> None:
    """What the library says goes to the journal."""
    logger = logging.getLogger("opentelemetry")
    logger.handlers, logger.propagate = [_Teller(journal)], False
