"""Work units: what is journalled is not done again."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from shardwise.compute.base import Executor, stream
from shardwise.store.ledger import Ledger

T = TypeVar("T")
Work = Callable[[T], Mapping[str, Any]]


def run_units(
    ledger: Ledger,
    executor: Executor,
    work: Work[T],
    items: Iterable[T],
    *,
    key: Callable[[T], str],
    final: Callable[[Mapping[str, Any]], bool] = lambda _record: True,
) -> Iterator[tuple[T, Mapping[str, Any]]]:
    """Each item with its record, in order: from the journal where it is there, else worked out and journalled.

    Lazy: an item is drawn only when a slot is free. A record that is not `final` is handed on and not journalled: that
    unit will be worked again by who asks again. Raises the first error of a task.
    """
    pending: dict[int, tuple[T, str]] = {}  # drawn, and sent to the executor
    known: dict[int, tuple[T, Mapping[str, Any]]] = {}  # drawn, and found in the journal
    drawn = 0

    def missing() -> Iterator[T]:
        nonlocal drawn
        for item in items:
            unit = key(item)
            record = ledger.get(unit)
            position, drawn = drawn, drawn + 1
            if record is None:
                pending[position] = (item, unit)
                yield item
            else:
                known[position] = (item, record)

    position = 0
    for outcome in stream(executor, work, missing(), ordered=True, retries=2):
        while position in known:
            yield known.pop(position)
            position += 1
        item, unit = pending.pop(position)
        record = outcome.unwrap()
        if final(record):
            ledger.put(unit, record)
        yield item, record
        position += 1
    while position in known:
        yield known.pop(position)
        position += 1
