"""Work units: what is journalled is not done again."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from shardwise.compute.base import Executor, stream
from shardwise.store.ledger import Ledger

T = TypeVar("T")
Record = Mapping[str, Any]
Work = Callable[[T], Record]


def run_units(
    ledger: Ledger,
    executor: Executor,
    work: Work[T],
    items: Iterable[T],
    *,
    key: Callable[[T], str],
    ahead: int = 0,
    final: Callable[[Record], bool] = lambda _record: True,
) -> Iterator[tuple[T, Record]]:
    """Each item with its record, in order: from the journal where it is there, else worked out and journalled.

    Lazy: an item is drawn only when a slot is free, at most `ahead` past those that are not handed on yet. A record
    that is not `final` is handed on and not journalled: that unit will be worked again by who asks again. Raises the
    first error of a task.
    """
    drawn: deque[tuple[T, str, Record | None]] = deque()  # in order; with the record where it is journalled

    def missing() -> Iterator[T]:
        for item in items:
            unit = key(item)
            drawn.append((item, unit, ledger.get(unit)))
            if drawn[-1][2] is None:
                yield item

    for outcome in stream(executor, work, missing(), ordered=True, retries=2, ahead=ahead):
        while (known := drawn[0][2]) is not None:
            yield drawn.popleft()[0], known
        item, unit, _ = drawn.popleft()
        record = outcome.unwrap()
        if final(record):
            ledger.put(unit, record)
        yield item, record
    for item, _, known in drawn:
        assert known is not None
        yield item, known
