"""The order of the rows: a pure function of (seed, epoch), read in rounds from partitions larger than memory."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from shardwise.core.seeds import derive_seed
from shardwise.data.rows import Chunk, Rows

ROUND_ROWS = 2**20  # rows between two looks at the validation rows, at most
READ_ROWS = 8192  # rows read and prepared at once, about
_VISITS = 1_200_000
_LEAST_EPOCHS, _MOST_EPOCHS = 4, 60


@dataclass
class Order:
    """All rows in a new order for each epoch: pieces of partitions at random, then rows in a window (`Rows.batches`).

    An epoch has `rounds` rounds of equal size; the last may be smaller. Chunks have `read_rows` rows, a multiple of
    `batch_rows`. Rounds that are asked for one after the other are read on; another one is looked for from its epoch's
    beginning.
    """

    rows: Rows
    batch_rows: int
    seed: int
    _next: int = field(init=False, default=-1)
    _chunks: Iterator[Chunk] = field(init=False, default_factory=lambda: iter(()))

    def __post_init__(self) -> None:
        self.read_rows = read_rows(self.batch_rows)
        self._round_chunks, self.rounds = rounds_of(self.rows.n_rows, self.read_rows)

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return -(-self.rows.n_rows // self.batch_rows)

    @property
    def round_steps(self) -> int:
        """Batches of a whole round."""
        return self._round_chunks * self.read_rows // self.batch_rows

    def first_step(self, number: int) -> int:
        """Batches before the round of this number, counted from 0 over all epochs."""
        epoch, place = divmod(number, self.rounds)
        return epoch * self.steps + place * self.round_steps

    def round(self, number: int) -> Iterator[Chunk]:
        """The chunks of a round, counted from 0 over all epochs."""
        epoch, place = divmod(number, self.rounds)
        if number != self._next or place == 0:
            self._chunks = self.rows.batches(self.read_rows, derive_seed(self.seed, "epoch", epoch))
            for _ in islice(self._chunks, place * self._round_chunks):
                pass  # read and passed by
        self._next = -1  # until the round is at its end
        yield from islice(self._chunks, self._round_chunks)
        self._next = number + 1


def read_rows(batch_rows: int) -> int:
    """Rows of a chunk: whole batches."""
    return max(1, READ_ROWS // batch_rows) * batch_rows


def rounds_of(n_rows: int, chunk_rows: int) -> tuple[int, int]:
    """(chunks of a round, rounds of an epoch)."""
    chunks = -(-n_rows // chunk_rows)
    of_round = max(1, min(chunks, ROUND_ROWS // chunk_rows))
    return of_round, -(-chunks // of_round)


def all_rounds(n_rows: int, epochs: int | None, batch_rows: int | None) -> int:
    """Rounds of a whole training; None: as many epochs, and rows of a step, as are usual."""
    return (epochs or usual_epochs(n_rows)) * rounds_of(n_rows, read_rows(batch_rows or usual_batch(n_rows)))[1]


def usual_batch(n_rows: int) -> int:
    """Rows of a step: about 64 steps an epoch, 16 to 256 rows; more where there are many."""
    most = 256 if n_rows < 100_000 else 512 if n_rows < 1_000_000 else 1024
    return int(min(most, 2 ** max(4, round(math.log2(max(1, n_rows / 64))))))


def usual_epochs(n_rows: int) -> int:
    """As many as give about 1.2 million row visits, 4 to 60."""
    return int(min(_MOST_EPOCHS, max(_LEAST_EPOCHS, -(-_VISITS // n_rows))))
