"""Alerts reach a real HTTP server, are tried again, and are told when they are lost."""

import json
import socket
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from shardwise.core.errors import ConfigError
from shardwise.monitor import alerts
from shardwise.monitor.alerts import open_alerts


@pytest.fixture
def hook():
    """A server that answers with the codes in `answers`, then 200; what came is in `came`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            server.came.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(server.answers.pop(0) if server.answers else 200)
            self.end_headers()

        def log_message(self, *words):
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.came, server.answers = [], []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def told():
    return []


@pytest.fixture
def send(told, monkeypatch):
    monkeypatch.setattr(alerts, "_PAUSE_S", 0.01)

    def sent(place, *contents, close=True):
        [opened] = open_alerts([place], lambda event, **details: told.append((event, details)))
        for content in contents:
            opened.send(content)
        if close:
            opened.close()
        return opened

    return sent


def url(server):
    return f"http://127.0.0.1:{server.server_address[1]}/hook"


def test_each_alert_arrives_in_order(hook, send, told):
    send(url(hook), {"number": 1}, {"number": 2})
    assert hook.came == [{"number": 1}, {"number": 2}]
    assert told == []


def test_numbers_that_are_none_are_null(hook, send, told):
    send(url(hook), {"p": float("nan"), "range": (0.5, float("inf"))})
    assert hook.came == [{"p": None, "range": [0.5, None]}]


def test_a_server_that_fails_is_asked_again(hook, send, told):
    hook.answers = [503, 500]
    opened = send(url(hook), {"number": 1}, close=False)
    while len(hook.came) < 3:
        opened._thread.join(0.01)
    opened.close()
    assert hook.came == [{"number": 1}] * 3
    assert told == []


def test_what_is_refused_or_not_reached_is_told(hook, send, told):
    hook.answers = [400]
    send(url(hook), {"number": 1})
    send("http://127.0.0.1:1/", {"number": 2})
    assert [(event, details["number"]) for event, details in told] == [("alert_lost", 1), ("alert_lost", 2)]
    assert "answered 400" in told[0][1]["reason"]
    assert "cannot be reached" in told[1][1]["reason"]


def test_the_log_gets_the_alert(send, told):
    send("log", {"number": 1})
    assert told == [("alert", {"number": 1})]


@contextmanager
def raw_hook(reply):
    """The URL of a server that answers each request with these bytes; None: with none, while it stands."""
    held = []

    def work():
        with suppress(OSError):
            while True:
                connection = listening.accept()[0]
                held.append(connection)
                connection.recv(65_536)
                if reply is not None:
                    connection.sendall(reply)
                    connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=work)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/hook"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in held:
            connection.close()


@pytest.mark.parametrize(
    "reply",
    [b"HELLO\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500,
     b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz",
     b"HTTP/1.1 302 Found\r\nlocation: http://[bad/\r\ncontent-length: 0\r\n\r\n"],
)  # fmt: skip
def test_a_webhook_that_answers_nonsense_is_told_and_asked_for_the_next_alert(reply, send, told):
    with raw_hook(reply) as place:
        send(place, {"number": 1}, {"number": 2})
    assert [(event, details["number"]) for event, details in told] == [("alert_lost", 1), ("alert_lost", 2)]


def test_a_webhook_that_hangs_holds_up_no_end(send, told, monkeypatch):
    monkeypatch.setattr(alerts, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(alerts, "_TIMEOUT_S", 300.0)
    with raw_hook(None) as place:
        send(place, *({"number": number} for number in range(alerts._WAITING + 5)))
    assert len(told) >= alerts._WAITING
    assert {event for event, _ in told} == {"alert_lost"}


def test_what_fails_at_first_is_sent_at_the_end(hook, send, told):
    hook.answers = [503, 500]
    send(url(hook), {"number": 1})
    assert hook.came == [{"number": 1}] * 3
    assert told == []


BAD_URLS = [
    "http://[::1",
    "http://a b/",
    "http://x/a b",
    "http://x/\u00e9",
    "http://x:99999/",
    "http://x:y/",
    "http://:80/",
]


@pytest.mark.parametrize("place", ["logs", "ftp://x/y", "http://", *BAD_URLS])
def test_other_places_are_refused(place, send):
    with pytest.raises(ConfigError, match="no webhook"):
        send(place)
