"""Clients that say too little: a connection whose request does not come is closed, and others are answered."""

import json
import socket
import ssl
import sys
import threading
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from tests.serve.online.servers import PATIENCE_S, make_certificate, until
from tests.serve.online.test_server import ROW

from shardwise.core.errors import ConfigError
from shardwise.core.target import Task
from shardwise.registry.references import open_registry
from shardwise.serve.online import app as online_app
from shardwise.serve.online import protocol
from shardwise.serve.online.assembly import Assembly, optional
from shardwise.serve.online.server import _server, check_certificate, listen
from shardwise.serve.online.settings import ServeConfig

httpx = pytest.importorskip("httpx")


@contextmanager
def patient(package, **config):
    """Host and port of a server in this process that waits a quarter of a second for the head of a request."""
    config = {"header_s": 0.25, **config}
    assembly = Assembly([f"m={package}"], open_registry("nowhere"), ServeConfig(**config))
    server, sock = _server(assembly, lambda _: None), listen("127.0.0.1", 0)
    sock.listen()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    host, port = sock.getsockname()
    thread.start()
    yield host, port
    server.drain()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assembly.close()
    sock.close()


@pytest.fixture
def place(packages):
    with patient(packages[Task.BINARY]) as opened:
        yield opened


@pytest.mark.parametrize("said", [b"", b"G", b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-le"])
def test_a_head_that_does_not_come_ends_the_connection(place, said):
    with socket.create_connection(place, timeout=PATIENCE_S) as slow:
        slow.sendall(said)
        assert httpx.get(f"http://{place[0]}:{place[1]}/v2/health/live", timeout=PATIENCE_S).status_code == 200
        assert slow.recv(1000) == b""


def answers(place, *parts: bytes) -> bytes:
    """All that is said until the connection is closed, whatever is sent meanwhile."""
    with socket.create_connection(place, timeout=PATIENCE_S) as raw:
        for part in parts:
            raw.sendall(part)
        return b"".join(iter(lambda: raw.recv(100_000), b""))


@pytest.fixture(scope="module")
def steady(packages):
    """A server that has time enough for the rest of a body."""
    with patient(packages[Task.BINARY], header_s=PATIENCE_S, max_json_bytes=1000) as opened:
        yield opened


HUGE = b"u" * 8_000_000


@pytest.mark.parametrize("way", ["length", "chunked"])
def test_who_still_sends_a_body_that_was_refused_hears_of_it(steady, way):
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    if way == "length":
        said = (head + b"content-length: %d\r\n\r\n" % len(HUGE), HUGE)
    else:
        said = (head + b"transfer-encoding: chunked\r\n\r\n%x\r\n" % len(HUGE), HUGE, b"\r\n0\r\n\r\n")
    for _ in range(3):
        told = answers(steady, *said)
        assert told.startswith(b"HTTP/1.1 413 ")
        assert told.endswith(b"}")
        assert b'"body_too_large"' in told


def test_a_connection_goes_on_after_a_body_that_was_refused(steady):
    with httpx.Client(base_url=f"http://{steady[0]}:{steady[1]}", timeout=PATIENCE_S) as client:
        for _ in range(3):
            assert client.post("/predict", content=HUGE).status_code == 413
            assert client.post("/predict", json=ROW).status_code == 200


def test_a_body_that_was_refused_may_not_drip_for_ever(packages):
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 900000000\r\n\r\nu"
    with patient(packages[Task.BINARY]) as place:
        assert answers(place, head).startswith(b"HTTP/1.1 413 ")


def test_no_more_of_a_body_that_was_refused_is_read_than_a_bounded_part(steady, monkeypatch):
    monkeypatch.setattr(protocol, "MOST_UNREAD_BYTES", 1_000_000)
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 900000000\r\n\r\n"
    with socket.create_connection(steady, timeout=PATIENCE_S) as raw:
        raw.sendall(head)
        with pytest.raises(ConnectionError):
            raw.sendall(HUGE * 10)


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        (b"BLAH\r\n\r\n", 400, "malformed_request"),
        (b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcd", 400,
         "malformed_request"),
        (b"GET /v2 HTTP/1.1\r\nhost: x\r\nx-more: " + HUGE, 431, "head_too_large"),
        (b"GET /v2 HTTP/1.1\r\n" + b"x-more: " * 1_000_000, 431, "head_too_large"),
    ],
)  # fmt: skip
def test_a_head_that_is_none_is_a_problem_as_others_are(steady, said, status, code):
    head, _, body = answers(steady, said).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"content-type: application/json" in head
    told = json.loads(body)
    assert (told["code"], bool(told["hint"])) == (code, True)


def test_a_body_that_is_lost_to_an_upgrade_is_told(steady):
    """As Java's client asks by itself."""
    body = json.dumps(ROW).encode()
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n"
    for how in (b"content-length: %d\r\n\r\n" % len(body) + body, b"transfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n"):
        answer = answers(steady, head + how)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b'"upgrade_refused"' in answer
    headers = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c"}
    answer = httpx.get(f"http://{steady[0]}:{steady[1]}/v2", headers=headers, timeout=PATIENCE_S)
    assert answer.status_code == 200  # without a body nothing is lost


def test_a_connection_is_kept_for_the_next_request(place):
    with httpx.Client(base_url=f"http://{place[0]}:{place[1]}", timeout=PATIENCE_S) as client:
        first = client.get("/v2/health/live").extensions["network_stream"].get_extra_info("client_addr")
        threading.Event().wait(0.6)  # longer than a head may take
        assert client.get("/v2/health/live").extensions["network_stream"].get_extra_info("client_addr") == first


def test_connections_beyond_the_most_are_refused_and_those_before_them_go_on(packages, monkeypatch):
    monkeypatch.setattr(online_app, "REFUSED_S", 0.01)
    with ExitStack() as held:
        host, port = held.enter_context(patient(packages[Task.BINARY], most_connections=2))
        three = [
            held.enter_context(httpx.Client(base_url=f"http://{host}:{port}", timeout=PATIENCE_S)) for _ in range(3)
        ]
        for client in three:
            assert client.get("/v2/health/live").status_code == 200
        assert [client.post("/predict", json=ROW).status_code for client in three] == [200, 200, 429]
        three[0].close()
        until(lambda: three[2].post("/predict", json=ROW).status_code == 200, "there is room again")
        assert three[1].post("/predict", json=ROW).status_code == 200


def test_a_handshake_of_tls_that_does_not_come_ends_the_connection(packages, tmp_path):
    files = make_certificate(tmp_path)
    secure = patient(packages[Task.BINARY], tls_cert=str(files / "cert"), tls_key=str(files / "key"))
    with secure as place, socket.create_connection(place, timeout=PATIENCE_S) as slow:
        slow.sendall(b"\x16\x03")
        trusted = ssl.create_default_context(cafile=files / "cert")
        url = f"https://{place[0]}:{place[1]}/v2/health/live"
        assert httpx.get(url, verify=trusted, timeout=PATIENCE_S).status_code == 200
        assert slow.recv(1000) == b""


@pytest.mark.parametrize("spoil", ["cert", "key", "both"])
def test_a_certificate_that_cannot_be_used_is_told(tmp_path, spoil):
    files = make_certificate(tmp_path)
    for name in ("cert", "key") if spoil == "both" else (spoil,):
        (files / name).write_text("no")
    with pytest.raises(ConfigError, match="cannot be used"):
        check_certificate(ServeConfig(tls_cert=str(files / "cert"), tls_key=str(files / "key")))
    with pytest.raises(ConfigError, match="both"):
        ServeConfig(tls_cert="cert")


@pytest.mark.parametrize(("module", "library"), [("rpc", "grpc"), ("tracing", "opentelemetry.sdk.trace")])
def test_an_extra_that_is_missing_is_named(monkeypatch, module, library):
    monkeypatch.delitem(sys.modules, f"shardwise.serve.online.{module}", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match="--this") as raised:
        optional(module, "--this", "that")
    assert "shardwise[serve,that]" in raised.value.hint


def test_binary_tensors_may_be_as_large_as_arrow(packages):
    count, texts = 40, b"".join(len(text).to_bytes(4, "little") + text for text in [b"Ulm" * 100] * 40)
    days = b"".join(b"\x0a\x00\x00\x00" + b"2024-05-06" for _ in range(count))
    tails = {"x": np.zeros(count), "z": np.zeros(count, np.float32), "town": texts, "day": days}
    kinds = {"x": "FP64", "z": "FP32", "town": "BYTES", "day": "BYTES"}
    inputs = [{"name": name, "shape": [count], "datatype": kinds[name],
               "parameters": {"binary_data_size": len(bytes(tail))}} for name, tail in tails.items()]  # fmt: skip
    head = json.dumps({"inputs": inputs}).encode()
    body = head + b"".join(map(bytes, tails.values()))
    assert len(head) < 1000 < len(body)
    with patient(packages[Task.BINARY], max_json_bytes=1000, max_arrow_bytes=20_000) as (host, port):
        url = f"http://{host}:{port}/v2/models/m/infer"

        def told(content: bytes, length: int):
            headers = {"inference-header-content-length": str(length)}
            answer = httpx.post(url, content=content, headers=headers, timeout=PATIENCE_S)
            return answer.status_code, answer.json().get("code")

        assert told(body, len(head)) == (200, None)
        assert told(body, len(body)) == (413, "body_too_large")  # all of it as JSON
        assert told(body + b"u" * 20_000, len(head)) == (413, "body_too_large")
        assert httpx.post(url, content=body, timeout=PATIENCE_S).status_code == 413
