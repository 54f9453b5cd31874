"""Clients that say too little: a connection whose request does not come is closed, and others are answered."""

import socket
import threading

import pytest
from tests.serve.online.servers import PATIENCE_S

from shardwise.core.target import Task
from shardwise.serve.online.front import Front
from shardwise.serve.online.journal import Journal
from shardwise.serve.online.live import FolderSource, Models, Slot
from shardwise.serve.online.metrics import Metrics
from shardwise.serve.online.routes import Routes
from shardwise.serve.online.server import _server, listen
from shardwise.serve.online.settings import ServeConfig
from shardwise.serve.predictor import Predictor

httpx = pytest.importorskip("httpx")


@pytest.fixture
def place(packages):
    """Host and port of a server in this process that waits a quarter of a second for the head of a request."""
    models = Models([Slot(FolderSource("m", packages[Task.BINARY]), Predictor)])
    config = ServeConfig(header_s=0.25)
    routes = Routes(models, config, Metrics())
    server, sock = _server(Front(routes, Journal()), config), listen("127.0.0.1", 0)
    sock.listen()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    host, port = sock.getsockname()
    thread.start()
    yield host, port
    server.drain()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    routes.close()
    sock.close()


@pytest.mark.parametrize("said", [b"", b"G", b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-le"])
def test_a_head_that_does_not_come_ends_the_connection(place, said):
    with socket.create_connection(place, timeout=PATIENCE_S) as slow:
        slow.sendall(said)
        assert httpx.get(f"http://{place[0]}:{place[1]}/v2/health/live", timeout=PATIENCE_S).status_code == 200
        assert slow.recv(1000) == b""


def test_a_connection_is_kept_for_the_next_request(place):
    with httpx.Client(base_url=f"http://{place[0]}:{place[1]}", timeout=PATIENCE_S) as client:
        first = client.get("/v2/health/live").extensions["network_stream"].get_extra_info("client_addr")
        threading.Event().wait(0.6)  # longer than a head may take
        assert client.get("/v2/health/live").extensions["network_stream"].get_extra_info("client_addr") == first
