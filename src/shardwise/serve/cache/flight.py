"""Single flight: of those who miss the same key at once, one computes, and the others wait for it."""

import threading
from collections.abc import Collection
from concurrent.futures import Future
from typing import Any


class SingleFlight:
    """Keys that are being computed in this process.

    Who computes never waits while a key of its own is open, so nobody waits for each other: take, compute, land, and
    only then wait for others.
    """

    def __init__(self) -> None:
        self._flying: dict[bytes, Future[Any]] = {}
        self._lock = threading.Lock()

    def take(self, keys: Collection[bytes]) -> tuple[list[bytes], dict[bytes, "Future[Any]"]]:
        """The keys that the caller is to compute, and those that others compute already."""
        with self._lock:
            others = {key: self._flying[key] for key in keys if key in self._flying}
            mine = [key for key in dict.fromkeys(keys) if key not in others]
            self._flying.update({key: Future() for key in mine})
        return mine, others

    def land(self, key: bytes, value: Any) -> None:
        """The value of a key that was taken."""
        with self._lock:
            flight = self._flying.pop(key)
        flight.set_result(value)

    def fail(self, keys: Collection[bytes], error: BaseException) -> None:
        """Those of the keys that have not landed will not."""
        for key in keys:
            with self._lock:
                flight = self._flying.pop(key, None)
            if flight is not None:
                flight.set_exception(error)
