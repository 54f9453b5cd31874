"""A real browser, driven by its own protocol over two pipes (https://chromedevtools.github.io/devtools-protocol/)."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE_S = 60.0
_INTO_PLACE = "import os, sys; [os.dup2(int(sys.argv[n]), n + 2) for n in (1, 2)]; os.execv(sys.argv[3], sys.argv[3:])"


class Tab:
    """One page; `problems` are what its console and its policy complained of."""

    def __init__(self, writing: int, reading: int) -> None:
        self._writing, self._reading = writing, reading
        self._buffer, self._number, self._session = b"", 0, None
        self.problems: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict:
        self._number += 1
        told = {"id": self._number, "method": method, "params": params}
        told |= {} if self._session is None else {"sessionId": self._session}
        os.write(self._writing, json.dumps(told).encode() + b"\0")
        while True:
            heard = self._heard()
            if heard.get("id") == self._number:
                assert "error" not in heard, (method, heard["error"])
                return heard["result"]

    def _heard(self) -> dict:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._reading], [], [], PATIENCE_S)
            assert ready, "the browser says nothing"
            part = os.read(self._reading, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        heard = json.loads(message)
        if heard.get("method") == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(heard["params"]["exceptionDetails"]))
        if heard.get("method") == "Log.entryAdded" and heard["params"]["entry"]["level"] == "error":
            self.problems.append(heard["params"]["entry"]["text"])
        return heard

    def go(self, url: str, width: int = 1280, height: int = 900) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an expression, awaited."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, script: str, what: str = "") -> None:
        """Wait until an expression is true; while it cannot be evaluated, what it asks for is not there yet."""
        end = time.monotonic() + PATIENCE_S
        while not self.run(f"(() => {{ try {{ return Boolean({script}) }} catch {{ return false }} }})()"):
            assert time.monotonic() < end, f"{what or script}\n{self.run('document.body.innerText')}\n{self.problems}"
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """A key of the keyboard: Tab, Enter, Escape, or a character."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        kind = "keyDown" if text else "rawKeyDown"
        self.call("Input.dispatchKeyEvent", type=kind, key=key, text=text, windowsVirtualKeyCode=codes.get(key, 0))
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=codes.get(key, 0))

    def write(self, text: str) -> None:
        """Into what has the focus."""
        self.call("Input.insertText", text=text)

    def picture(self, path: Path) -> None:
        """The whole page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(found["data"]))


@contextlib.contextmanager
def browsing(folder: Path) -> Iterator[Tab]:
    """A browser with its profile in a folder."""
    assert CHROMIUM is not None
    reads, our_writing = os.pipe()
    our_reading, writes = os.pipe()
    theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (reads, writes)]  # clear of the places 3 and 4
    for end in (reads, writes):
        os.close(end)
    command = [sys.executable, "-c", _INTO_PLACE, *map(str, theirs), CHROMIUM, *FLAGS, f"--user-data-dir={folder}"]
    process = subprocess.Popen(
        command, pass_fds=theirs, env={**os.environ, "HOME": str(folder)}, stderr=subprocess.DEVNULL
    )
    for end in theirs:
        os.close(end)
    try:
        yield Tab(our_writing, our_reading)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        for end in (our_writing, our_reading):
            os.close(end)
