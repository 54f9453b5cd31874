"""How long this process has been reading model-ready rows, for those who watch it.

A process fits one model at a time, and reads in the thread that fits; another thread may ask how long meanwhile.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class ReadingClock:
    """Adds up the seconds of `running` blocks; a block inside of another one counts once."""

    def __init__(self) -> None:
        self._total_s = 0.0
        self._since_s = 0.0
        self._depth = 0

    def seconds(self) -> float:
        """So far, a reading that is under way included."""
        total, since = self._total_s, self._since_s
        return total + (time.monotonic() - since if since else 0.0)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside of it rows are read, or brought into the form that a learner wants."""
        self._depth += 1
        if self._depth == 1:
            self._since_s = time.monotonic()
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                spent_s = time.monotonic() - self._since_s
                self._since_s, self._total_s = 0.0, self._total_s + spent_s

    def each(self, items: Iterator[T]) -> Iterator[T]:
        """The same items; drawing them is reading, what is done with them is not."""
        while True:
            with self.running():
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item


READING = ReadingClock()  # of this process
