"""A lock object with an end, for stores that cannot create an object only where none stands.

    1. who finds no lock, or one whose end has passed, writes its own
    2. it waits `settle_s`, and reads: of several that wrote at once, the last one finds its own token
    3. it works, and removes the lock; of a writer that died the end passes

What it guarantees: one writer at a time, as long as a write becomes visible within `settle_s`, clocks of the writers
differ by less than half of `lease_s`, and none of them stands still between its last look at the clock and its write.
It guarantees nothing beyond: a store with conditional writes does.
"""

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from shardwise.core.errors import DataError
from shardwise.core.units import format_duration

_LOOK_S = 0.2


class _Objects(Protocol):
    def read(self, path: str) -> bytes: ...
    def replace(self, path: str, content: bytes) -> None: ...
    def remove_file(self, path: str) -> None: ...


@dataclass(frozen=True)
class Lease:
    """`lease_s` until a dead writer's lock ends, `settle_s` until a write is seen by all, `wait_s` of patience."""

    lease_s: float = 30.0
    settle_s: float = 1.0
    wait_s: float = 120.0

    @contextmanager
    def held(self, objects: _Objects, path: str) -> Iterator[None]:
        """Hold the lock object `path`; raises `DataError` when others hold it for `wait_s`, or it took too long."""
        token = secrets.token_hex(8)
        until = self._acquire(objects, path, token)
        try:
            if time.time() > until - self.lease_s / 2:
                raise DataError("the lock of the registry ended before it was of use", hint="Try again.", path=path)
            yield
        finally:
            if _read(objects, path).get("token") == token:
                objects.remove_file(path)

    def _acquire(self, objects: _Objects, path: str, token: str) -> float:
        patience = time.monotonic() + self.wait_s
        while True:
            if _read(objects, path).get("until", 0.0) < time.time():
                until = time.time() + self.lease_s
                objects.replace(path, json.dumps({"token": token, "until": until}).encode())
                time.sleep(self.settle_s)
                if _read(objects, path).get("token") == token:
                    return until
            if time.monotonic() > patience:
                hint = "Wait for it, or remove the lock object if nobody writes."
                waited = format_duration(self.wait_s)
                raise DataError(f"another writer holds the registry after {waited}", hint=hint, path=path)
            time.sleep(_LOOK_S)


def _read(objects: _Objects, path: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(objects.read(path))
    except KeyError:
        return {}
    return content
