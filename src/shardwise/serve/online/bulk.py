"""Large requests: a thread of their own, so that they never stand in the way of single rows."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from shardwise.serve.online.metrics import Metrics
from shardwise.serve.online.problems import overloaded, too_late

R = TypeVar("R")
MOST_WAITING = 8
_GUESS_S = 1.0


class Bulk:
    """Runs one piece of work after the other; `MOST_WAITING` may wait. Used by the thread of the event loop alone.

    `metrics` None: of what is no traffic nothing is counted.
    """

    def __init__(self, metrics: Metrics | None, name: str = "bulk") -> None:
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._count = 0

    async def run(self, work: Callable[[], R], deadline_s: float, *, finish: bool = False) -> R:
        """What `work()` returns or raises; `Problem` where too many wait, or when the time is up before its end.

        `finish`: work that has begun is waited for, however late, since what it does is not undone.
        """
        if self._count > MOST_WAITING:
            if self._metrics is not None:
                self._metrics.refused("bulk")
            raise overloaded(f"{self._count} large requests", self._count * _GUESS_S)
        self._change(1)
        begun = self._pool.submit(work)
        task = asyncio.wrap_future(begun)
        task.add_done_callback(self._done)
        try:
            return await asyncio.wait_for(asyncio.shield(task), deadline_s)
        except TimeoutError:
            # if it has not begun; a cancelled `task` would tell the pool a turn of the loop later
            if not begun.cancel() and finish:
                return await asyncio.shield(task)
            raise too_late(deadline_s) from None
        except asyncio.CancelledError:  # nobody waits any more
            begun.cancel()
            raise

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _change(self, by: int) -> None:
        self._count += by
        if self._metrics is not None:
            self._metrics.bulk_waiting(self._count)

    def _done(self, task: "asyncio.Future[R]") -> None:
        self._change(-1)
        if not task.cancelled():
            task.exception()  # looked at, also where nobody waits any more
