"""Work units, passes over partitions among them: what is journalled is not done again."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from shardwise.compute.base import NOT_YET, Executor, NotYet, stream
from shardwise.core.schema import schema_to_json
from shardwise.core.target import Target
from shardwise.data.access import AccessCounter
from shardwise.data.base import Partition
from shardwise.data.dataset import Dataset
from shardwise.split.base import Splitter
from shardwise.store.ledger import Ledger, unit_key
from shardwise.train.run import FORMAT, Run

SMALL_BYTES = 64_000_000  # a pass over less takes no longer than to start workers

T = TypeVar("T")
Record = Mapping[str, Any]
Work = Callable[[T], Record]


def run_units(
    ledger: Ledger,
    executor: Executor,
    work: Work[T],
    items: Iterable[T | NotYet],
    *,
    key: Callable[[T], str],
    ahead: int = 0,
    final: Callable[[Record], bool] = lambda _record: True,
    serves: Callable[[T, Record], bool] = lambda _item, _record: True,
    instead: Callable[[T, BaseException], T | None] = lambda _item, _error: None,
    failed: Callable[[T, BaseException], Record | None] = lambda _item, _error: None,
    look: Callable[[], None] = lambda: None,
) -> Iterator[tuple[T, Record]]:
    """Each item with its record, in order: from the journal where it is there, else worked out and journalled.

    Lazy: an item is drawn only when a slot is free, at most `ahead` past those that are not handed on yet. A record
    that is not `final` is handed on and not journalled: who asks again has that unit worked again, as is one of the
    journal that no more `serves` its item. `instead` may replace an item whose task failed, and `look` is called
    meanwhile (see `stream`). What failed in the end may have a record, by `failed`, handed on and not journalled. Items
    may be `NOT_YET`: more come when records were handed on. Raises the first error for which `failed` has none.
    """
    queue = _Queue(ledger, iter(items), key, serves)
    while not queue.over:
        outcomes = stream(
            executor, work, queue.missing(), ordered=True, retries=2, ahead=ahead, instead=instead, look=look
        )
        for outcome in outcomes:
            yield from queue.known()
            item, unit = queue.first()
            record = None if outcome.error is None else failed(item, outcome.error)
            if record is None:
                record = outcome.unwrap()
                if final(record):
                    ledger.put(unit, record)
            yield item, record
        waiting = bool(queue.drawn)
        yield from queue.known()
        if not waiting:  # what is asked for again and again will not come
            return


@dataclass
class _Queue(Generic[T]):
    """Items in order that were drawn and are not handed on yet, each with its record where it is journalled."""

    ledger: Ledger
    items: Iterator[T | NotYet]
    key: Callable[[T], str]
    serves: Callable[[T, Record], bool]
    drawn: deque[tuple[T, str, Record | None]] = field(default_factory=deque)
    over: bool = False

    def missing(self) -> Iterator[T | NotYet]:
        """Draw; what is not journalled has to be worked."""
        for item in self.items:
            if isinstance(item, NotYet):
                yield NOT_YET
                continue
            unit = self.key(item)
            known = self.ledger.get(unit)
            if known is not None and not self.serves(item, known):
                known = None
            self.drawn.append((item, unit, known))
            if known is None:
                yield item
        self.over = True

    def known(self) -> Iterator[tuple[T, Record]]:
        """Hand on those at the head that are journalled."""
        while self.drawn and (known := self.drawn[0][2]) is not None:
            yield self.drawn.popleft()[0], known

    def first(self) -> tuple[T, str]:
        """Take the one at the head, which is worked now."""
        item, unit, _ = self.drawn.popleft()
        return item, unit


def run_pass(
    run: Run, work: Work[Partition], dataset: Dataset, name: str, *parts: Any
) -> Iterator[tuple[Partition, Record]]:
    """Run a pass over all partitions, in their order; partitions that are journalled are not read again.

    `parts` are JSON values: all that decides the result beside the partition. Readings are counted in `run.access`;
    `run.taken_over` has the partitions that the run's parent has read, and this one not.
    """
    schema = schema_to_json(dataset.schema)

    def key(partition: Partition) -> str:
        place = [partition.path, partition.start, partition.stop, partition.index, partition.fingerprint]
        return unit_key(FORMAT, name, place, schema, list(parts))

    executor = run.executor_for_pass(parts=len(dataset.partitions), large=dataset.size_bytes > SMALL_BYTES)
    units = run_units(run.ledger, executor, work, dataset.partitions, key=key, ahead=executor.slots)
    for partition, record in units:
        if run.parent is not None and key(partition) in run.parent.units:
            run.taken_over.setdefault(name, set()).add(partition.index)
        else:
            run.access.merge(AccessCounter.from_json(record["access"]))
        yield partition, record


def split_key(splitter: Splitter, target: Target) -> list[Any]:
    """What decides which rows a pass takes for what."""
    return [splitter.to_json(), target.to_json()]
