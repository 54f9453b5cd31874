"""When the deadline is reached and the main thread is deep in a library: end with the best package so far."""

import json
import os
import shlex
import sys
import threading
import time
from pathlib import Path
from typing import Any

from shardwise.cli import print_json
from shardwise.compute.clock import Guard
from shardwise.core.events import Event, FirstModel, RunOpened, Scored
from shardwise.core.units import format_duration

GRACE_S = 0.4
GRACE_SHARE = 0.01
LOOK_S = 0.1


class LastResort:
    """A listener that ends the process when a run is late by 1 % (at least 0.4 s), whatever it is doing.

    A run ends in time by itself (one that has ended before, and only tells its result, is left alone); this is for a
    machine that stalls. Nothing is lost: what was journalled is there, the package on disk is whole, and the same
    command with more time goes on. A run that was stopped before its first model and is started again gets that model,
    however late: to end it at once, each time again, would leave nothing ever.

    There is no time to register the package: where a `name` is given under which that was asked for, the command that
    does so is told, and the exit code is 3.
    """

    def __init__(
        self, out: str | None, *, as_json: bool, name: str | None = None, registry: str | None = None
    ) -> None:  # fmt: skip
        self._out = out
        self._as_json = as_json
        self._name = name
        self._registry = registry
        self._stdout = sys.stdout  # as it is before chatter goes elsewhere
        self._guard: Guard | None = None
        self._over = threading.Event()
        self._again = False
        self._trials = 0
        self._least_s: float | None = None
        self._best: dict[str, Any] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunOpened) and event.limit_s is not None and not event.finished:
            self._again = event.again
            package = Path(self._out) if self._out else Path(event.folder) / "package"
            left_s = event.limit_s - event.used_s + max(GRACE_S, GRACE_SHARE * event.limit_s)
            self._guard = Guard(time.monotonic() + left_s, lambda: self._end(package))

        if isinstance(event, FirstModel):
            self._least_s = event.seconds
        if isinstance(event, Scored):
            self._trials += 1
            if event.best:
                self._best = {"metric": event.metric, "valid_score": event.score}

    def __enter__(self) -> "LastResort":
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._guard is not None:
            self._guard.cancel()

    def _end(self, package: Path) -> None:
        found, family = _facts(package)
        if found is None and self._again:
            print("shardwise: the time is up; the first model is still trained, as there is none.", file=sys.stderr)
            while found is None and not self._over.wait(LOOK_S):
                found, family = _facts(package)
        if self._over.is_set():
            return  # the run has ended meanwhile
        if found is None:
            more = self._more(", or the same command again, which then trains it, however late")
            print(f"shardwise: the time was up before the first model was trained. {more}", file=sys.stderr)
        elif self._as_json:
            # sealed rows are so still: there is no score of them
            facts = {"score": {}, **self._best, "trials": self._trials}
            if self._name is not None:
                facts["not_registered"] = self._registering(package)
            print_json({"package": str(package), "cut": True, **found, **facts}, self._stdout)
        else:
            test = "that of the run so far" if found["metrics"].get("test") else "not scored on sealed rows"
            print(f"time was up; the best package so far is {package} ({test})", file=self._stdout)
        if found is not None and family == "baseline":
            print(f"shardwise: there was time for the baseline alone. {self._more()}", file=sys.stderr)
        if found is not None and self._name is not None:
            print(f"shardwise: not registered: {self._registering(package)}", file=sys.stderr)
        self._stdout.flush()
        sys.stderr.flush()
        os._exit(0 if found is not None and self._name is None else 3)

    def _registering(self, package: Path) -> str:
        """The command that makes the package a version of the name."""
        where = ["--registry", self._registry] if self._registry else []
        return shlex.join(["shardwise", "models", "register", self._name or "", str(package), *where])

    def _more(self, otherwise: str = "") -> str:
        """The next step, with the least time that gives a model, as far as it is known."""
        known = f"{format_duration(self._least_s)} or " if self._least_s is not None else ""
        return f"Give {known}more --time{otherwise}."


def _facts(package: Path) -> tuple[dict[str, Any] | None, str]:
    """Task and metrics of a package, None when there is none, and the family of its best candidate."""
    manifest = package / "manifest.json"
    if not manifest.exists():
        return None, ""
    content = json.loads(manifest.read_text(encoding="utf8"))
    facts = {"task": content["target"]["task"], "metrics": content["metrics"]}
    return facts, content["lineage"]["candidate"]["family"]
