"""Spans: what they are made of, whose trace they go on with, and a collector that is not there."""

import asyncio
import io
import json
import time

import pytest
from tests.serve.online.servers import PATIENCE_S

from shardwise.core.errors import ConfigError
from shardwise.serve.online.call import Call, Trace
from shardwise.serve.online.journal import Journal

tracing = pytest.importorskip("shardwise.serve.online.tracing", reason="the extra `traces` is not installed")
exporters = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def ended(status: int = 200, **headers: str) -> list:
    """The spans of a call of two stages, its own last."""
    exporter = exporters.InMemorySpanExporter()
    spans = tracing.Spans(exporter, Journal(io.StringIO()))
    now = time.perf_counter()
    trace = Trace(now - 0.5, [("read", now - 0.5, now - 0.4), ("predict", now - 0.3, now - 0.1)], rows=3)
    told = {name.encode(): text.encode() for name, text in headers.items()}
    spans.ended(Call(id="mine", headers=told, came_s=0.0, deadline_s=1.0, trace=trace), "grpc_infer", status)
    spans.close()
    return list(exporter.get_finished_spans())


def test_stages_lie_within_their_call_at_their_times():
    read, predict, whole = ended()
    assert [read.name, predict.name, whole.name] == ["read", "predict", "grpc_infer"]
    assert read.parent.span_id == predict.parent.span_id == whole.context.span_id
    assert whole.parent is None
    assert round((read.end_time - read.start_time) / 1e9, 3) == 0.1
    assert round((predict.start_time - read.end_time) / 1e9, 3) == 0.1
    assert whole.start_time <= read.start_time <= predict.end_time <= whole.end_time
    assert whole.attributes["shardwise.request_id"] == "mine"
    assert whole.resource.attributes["service.name"] == "shardwise"


def test_the_trace_of_the_client_goes_on_and_what_it_does_not_sample_is_not_told():
    whole = ended(traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="of=them")[-1]
    assert (f"{whole.context.trace_id:032x}", f"{whole.parent.span_id:016x}") == (TRACE, PARENT)
    assert whole.context.trace_state["of"] == "them"
    assert ended(traceparent=f"00-{TRACE}-{PARENT}-00") == []
    assert len(ended(traceparent="nonsense")) == 3


@pytest.mark.parametrize(("status", "failed"), [(200, False), (422, False), (500, True), (504, True)])
def test_what_the_server_failed_at_is_an_error(status, failed):
    assert (ended(status)[-1].status.status_code.name == "ERROR") is failed


def test_a_collector_that_is_not_there_is_told_and_not_waited_for(monkeypatch):
    monkeypatch.setattr(tracing, "_TIMEOUT_S", 0.3)
    told = io.StringIO()
    spans = tracing.Spans.to("http://127.0.0.1:1", Journal(told))
    spans.ended(Call(id="mine", headers={}, came_s=0.0, deadline_s=1.0, trace=Trace()), "predict", 200)
    asyncio.run(asyncio.wait_for(asyncio.to_thread(spans.close), PATIENCE_S))
    assert json.loads(told.getvalue().splitlines()[0])["event"] == "traces_failed"


@pytest.mark.parametrize("url", ["localhost:4318", "grpc://localhost:4317", "http://", ""])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ConfigError, match="collector"):
        tracing.Spans.to(url, Journal(io.StringIO()))
