"""Where findings go: a log, a webhook. An alert never stands in the way of what it is about."""

import json
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import urlsplit

from shardwise.core.errors import ConfigError
from shardwise.core.plain import finite

_WAITING = 100  # alerts that may wait for a webhook
_TRIES = 4
_TIMEOUT_S = 5.0
_PATIENCE_S = 5.0  # at the end, for what waits
_PAUSE_S = 0.5  # before the second try, and twice as long each time after
Alert = Mapping[str, Any]


class Alerts(Protocol):
    """Takes alerts: JSON values with `model`, `version`, `findings`, `suggestion`."""

    def send(self, alert: Alert) -> None: ...

    def close(self) -> None: ...


class LogAlerts:
    """To a function that writes lines, such as `Journal.tell`."""

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell

    def send(self, alert: Alert) -> None:
        self._tell("alert", **alert)

    def close(self) -> None:
        """Nothing is held."""


class WebhookAlerts:
    """POST of JSON to a URL, by a thread of its own; tried again after failures of the network and of the server.

    What does not fit the queue, or fails for good, is told to `lost`.
    """

    def __init__(self, url: str, lost: Callable[[Alert, str], None]) -> None:
        if not _is_address(url):
            raise ConfigError(f"{url!r} is no webhook", hint="Give a URL such as https://example.org/hook.")
        self._url, self._lost = url, lost
        self._queue: queue.Queue[Alert | None] = queue.Queue(_WAITING)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="webhook", daemon=True)
        self._thread.start()

    def send(self, alert: Alert) -> None:
        try:
            self._queue.put_nowait(alert)
        except queue.Full:
            self._lost(alert, f"{_WAITING} alerts wait already")

    def close(self) -> None:
        """Send what waits, for a bounded time: a webhook that hangs holds nobody up. What is left over is lost."""
        until_s = time.monotonic() + _PATIENCE_S
        with suppress(queue.Full):
            self._queue.put(None, timeout=_PATIENCE_S)
        self._thread.join(max(0.0, until_s - time.monotonic()))
        self._ended.set()
        with suppress(queue.Empty):
            while True:
                alert = self._queue.get_nowait()
                if alert is not None:
                    self._lost(alert, f"the webhook had not taken it after {_PATIENCE_S:g} s")
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(_PATIENCE_S)  # a request may be under way

    def _work(self) -> None:
        while (alert := self._queue.get()) is not None:
            self._deliver(alert)

    def _deliver(self, alert: Alert) -> None:
        body, pause_s, reason = json.dumps(finite(alert), default=str).encode(), _PAUSE_S, ""
        for number in range(_TRIES):
            if number and self._ended.wait(pause_s):
                break
            pause_s *= 2 if number else 1
            try:
                self._post(body)
            except urllib.error.HTTPError as error:
                reason = f"the webhook answered {error.code}"
                if error.code < 500 and error.code != 429:
                    break
            except Exception as error:  # over an answer that is no HTTP the client stumbles in any way
                reason = f"the webhook cannot be reached: {error!r}"
            else:
                return
        self._lost(alert, reason)

    def _post(self, body: bytes) -> None:
        request = urllib.request.Request(self._url, body, {"content-type": "application/json"})  # noqa: S310 - checked
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            answer.read(1)


def _is_address(url: str) -> bool:
    try:
        parts, _ = urlsplit(url), urlsplit(url).port
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and " " not in url  # others are to be escaped
    return plain and parts.scheme in ("http", "https") and bool(parts.hostname)


def open_alerts(places: Sequence[str], tell: Callable[..., None]) -> list[Alerts]:
    """`log`, or URLs; raises `ConfigError` for others."""

    def lost(alert: Alert, reason: str) -> None:
        tell("alert_lost", reason=reason, **alert)

    return [LogAlerts(tell) if place == "log" else WebhookAlerts(place, lost) for place in places]
