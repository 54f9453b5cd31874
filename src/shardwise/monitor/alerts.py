"""Where findings go: a log, a webhook. An alert never stands in the way of what it is about."""

import json
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from shardwise.core.errors import ConfigError
from shardwise.core.plain import finite

_WAITING = 100  # alerts that may wait for a webhook
_TRIES = 4
_TIMEOUT_S = 5.0
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
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
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
        """Send what waits, without further tries."""
        self._ended.set()
        self._queue.put(None)
        self._thread.join()

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
            except OSError as error:
                reason = f"the webhook cannot be reached: {error}"
            else:
                return
        self._lost(alert, reason)

    def _post(self, body: bytes) -> None:
        request = urllib.request.Request(self._url, body, {"content-type": "application/json"})  # noqa: S310 - checked
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            answer.read(1)


def open_alerts(places: Sequence[str], tell: Callable[..., None]) -> list[Alerts]:
    """`log`, or URLs; raises `ConfigError` for others."""

    def lost(alert: Alert, reason: str) -> None:
        tell("alert_lost", reason=reason, **alert)

    return [LogAlerts(tell) if place == "log" else WebhookAlerts(place, lost) for place in places]
