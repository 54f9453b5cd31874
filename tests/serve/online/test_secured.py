"""One server with keys, TLS, gRPC and traces, in two workers: who may come in, and what a collector hears of it."""

import http.server
import json
import ssl
import threading
from urllib.parse import urlparse

import pytest
from tests.serve.online.servers import PATIENCE_S, make_certificate, serving, until
from tests.serve.online.test_server import ROW

from shardwise.core.target import Task

grpc = pytest.importorskip("grpc", reason="the extra `serve-grpc` is not installed")
httpx = pytest.importorskip("httpx")
collected = pytest.importorskip(
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="the extra `traces` is not installed"
)
messages = pytest.importorskip("shardwise.serve.online.rpc_messages").MESSAGES
SERVICE = "/inference.GRPCInferenceService"
KEY, WRONG = "right-0123456789abcdef", "wrong-0123456789abcdef"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(http.server.ThreadingHTTPServer):
    """Hears spans by OTLP over HTTP, as OpenTelemetry's own collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Listener)
        self.spans: list = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Listener(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        request = collected.ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
        assert self.path == "/v1/traces"
        for resource in request.resource_spans:
            self.server.spans += [span for scope in resource.scope_spans for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def collector():
    with Collector() as opened:
        thread = threading.Thread(target=opened.serve_forever, daemon=True)
        thread.start()
        yield opened
        opened.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`cert`, `key` and `keys`."""
    place = make_certificate(tmp_path_factory.mktemp("secured"))
    (place / "keys").write_text(f"# of the tests\n{KEY}\n")
    return place


@pytest.fixture(scope="module")
def server(packages, folder, collector):
    doors = ("--tls-cert", folder / "cert", "--tls-key", folder / "key", "--api-key-file", folder / "keys")
    more = ("--grpc-port", "0", "--traces", collector.url, "--workers", "2", "--poll", "100ms")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")  # milliseconds
        with serving(f"m={packages[Task.BINARY]}", *map(str, (*doors, *more))) as running:
            running.wait_for("serving", 2)
            yield running


@pytest.fixture(scope="module")
def client(server, folder):
    trusted = ssl.create_default_context(cafile=folder / "cert")
    with httpx.Client(base_url=server.url, verify=trusted, timeout=PATIENCE_S) as opened:
        yield opened


@pytest.fixture(scope="module")
def channel(server, folder):
    trusted = grpc.ssl_channel_credentials((folder / "cert").read_bytes())
    with grpc.secure_channel(server.wait_for("serving")["grpc"], trusted) as opened:
        yield opened


def test_health_is_told_to_all(client, channel):
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v2/health/ready").status_code == 200
    for method in ("ServerLive", "ServerReady"):
        assert channel.unary_unary(f"{SERVICE}/{method}")(b"", timeout=PATIENCE_S) == b"\x08\x01"


@pytest.mark.parametrize("path", ["/predict", "/v2/models/m/infer", "/v2/models/m", "/metrics", "/openapi.json", "/no"])
@pytest.mark.parametrize(("given", "code"), [(None, "key_missing"), (WRONG, "key_unknown")])
def test_nothing_else_is_told_without_a_key(client, path, given, code):
    headers = {} if given is None else {"authorization": f"Bearer {given}"}
    answer = client.request("POST" if path.endswith(("infer", "predict")) else "GET", path, headers=headers)
    told = answer.json()
    assert (answer.status_code, told["code"]) == (401, code)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "x-api-key" in told["hint"]


@pytest.mark.parametrize("method", ["ModelInfer", "ModelReady", "ModelMetadata", "ServerMetadata"])
@pytest.mark.parametrize("given", [(), (("authorization", f"Bearer {WRONG}"),)])
def test_nothing_else_is_told_over_grpc_without_a_key(channel, method, given):
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(f"{SERVICE}/{method}")(b"", metadata=given, timeout=PATIENCE_S)
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED


def infer_of_row() -> bytes:
    values = {
        "x": ("fp64", [0.25]),
        "z": ("fp32", [0.5]),
        "town": ("bytes", [b"Ulm"]),
        "day": ("bytes", [b"2024-05-06"]),
    }
    inputs = [{"name": name, "datatype": kind.upper(), "shape": [1], "contents": {f"{kind}_contents": data}}
              for name, (kind, data) in values.items()]  # fmt: skip
    return messages["ModelInferRequest"](model_name="m", inputs=inputs).SerializeToString()


def test_a_key_lets_in_and_spans_go_on_with_the_trace_of_the_client(client, channel, collector):
    parent = f"00-{TRACE}-{PARENT}-01"
    answer = client.post("/predict", json=ROW, headers={"x-api-key": KEY, "traceparent": parent})
    assert answer.status_code == 200, answer.text
    words = (("authorization", f"Bearer {KEY}"), ("traceparent", parent))
    channel.unary_unary(f"{SERVICE}/ModelInfer")(infer_of_row(), metadata=words, timeout=PATIENCE_S)

    def heard():
        return [span for span in collector.spans if span.trace_id.hex() == TRACE]

    until(lambda: {"predict", "grpc_infer"} <= {span.name for span in heard() if span.parent_span_id.hex() == PARENT},
          "the collector hears of it")  # fmt: skip
    for whole in [span for span in heard() if span.parent_span_id.hex() == PARENT]:
        stages = [span for span in heard() if span.parent_span_id == whole.span_id]
        assert [stage.name for stage in stages if stage.name != "wait"] == ["read", "predict", "write"]
        assert all(whole.start_time_unix_nano <= stage.start_time_unix_nano <= stage.end_time_unix_nano
                   <= whole.end_time_unix_nano for stage in stages)  # fmt: skip
        told = {attribute.key: attribute.value for attribute in whole.attributes}
        assert (told["shardwise.model"].string_value, told["shardwise.rows"].int_value) == ("m", 1)


def test_who_does_not_speak_tls_gets_nothing_and_harms_nobody(server, client):
    place = urlparse(server.url)
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://{place.netloc}/v2/health/live", timeout=PATIENCE_S)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/v2/health/live", timeout=PATIENCE_S)  # which does not trust the certificate
    assert client.get("/v2/health/live").status_code == 200


def test_keys_are_followed_and_never_told(server, client, folder):
    new = "new-0123456789abcdef0"
    (folder / "keys").write_text(f"{KEY}\n{new}\n")
    server.wait_for("keys_changed", 2)
    assert client.post("/predict", json=ROW, headers={"x-api-key": new}).status_code == 200
    (folder / "keys").write_text("")
    server.wait_for("keys_refused", 2)
    assert client.post("/predict", json=ROW, headers={"x-api-key": new}).status_code == 200
    told = json.dumps(server.lines)
    assert all(word not in told for word in (KEY, WRONG, new))


def test_all_workers_end_in_peace(server):
    assert server.end() == 0
    assert len([line for line in server.events if line["event"] == "ended"]) == 2
