"""Summaries: numbers gathered in one pass over batches, merged across partitions."""

from typing import Any, Protocol, Self

import pyarrow as pa

from shardwise.core.state import State


class Summary(Protocol):
    """A mergeable statistic.

    Laws, held by the conformance kit: merge(A, B) = the summary of A then B (within the stated error), merging with an
    empty one changes nothing, and `from_state(state())` gives the same result.
    """

    def update(self, batch: pa.RecordBatch) -> None: ...

    def merge(self, other: Self) -> None: ...

    def result(self) -> Any: ...

    def state(self) -> State:
        """All that is needed to go on, as `core.state` saves it."""
        ...

    @classmethod
    def from_state(cls, state: State) -> Self: ...
