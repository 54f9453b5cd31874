"""Work on items in order by threads of this process."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
PREFIX = "in-order"  # of the threads' names


def in_order(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Generator[Result, None, None]:
    """`work(item)` for each item, in order, on `threads` threads; at most one item more is drawn ahead.

    Worth it where the work leaves the interpreter's lock: one batch is predicted, say, while the next is encoded. After
    an error, or when the generator is closed, what has not begun does not begin, and no thread is left.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix=PREFIX) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
