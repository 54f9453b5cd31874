"""When a checkpoint within a round pays: after a while, as long as writing takes a small share of the time.

The clock decides when one is written, and never what is learned. Of several members the first one's clock counts: it
tells all at batches that all know, since to write is a work of all where the network lies in parts.
"""

import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from shardwise.models.base import FitRun

EVERY_S = 30.0  # of training, at least, between two checkpoints ...
SHARE = 0.05  # ... of which writing takes at most this
LOOK_S = 5.0  # between two words of the first member, about
MOST_BATCHES = 1000  # between them
_WORD = struct.Struct("<?I")


@dataclass
class Saving:
    """Asked after each batch by all members; `wrote` is around each checkpoint, also those at the end of a round."""

    run: FitRun
    clock: Callable[[], float] = time.monotonic
    _cost_s: float = field(init=False, default=0.0)  # of the last one
    _kept_s: float = field(init=False)  # when that was, or training began
    _looked_s: float = field(init=False)
    _ahead: int = field(init=False, default=1)  # batches until the next look
    _since: int = field(init=False, default=0)  # batches since the last one

    def __post_init__(self) -> None:
        self._kept_s = self._looked_s = self.clock()

    def due(self) -> bool:
        """Whether to write one now; the same for all members."""
        if self.run.checkpoint is None:
            return False
        self._since += 1
        if self._since < self._ahead:
            return False
        word = self._word() if self.run.leads else b""
        if self.run.member is not None and self.run.member.size > 1:
            word = self.run.member.broadcast(word if self.run.leads else None)
        due, self._ahead = _WORD.unpack(word)
        self._since = 0
        return bool(due)

    def _word(self) -> bytes:
        """Of the member that leads: whether it is time, and after how many batches it will look again."""
        now = self.clock()
        left_s = self._kept_s + max(EVERY_S, self._cost_s / SHARE) - now
        batch_s = (now - self._looked_s) / max(1, self._since)
        self._looked_s = now
        batches = min(max(left_s, 0.0), LOOK_S) / max(batch_s, 1e-9)
        return _WORD.pack(left_s <= 0.0, max(1, min(MOST_BATCHES, int(batches))))

    @contextmanager
    def wrote(self) -> Iterator[None]:
        """Inside of it a checkpoint is written."""
        began_s = self.clock()
        yield
        self._kept_s = self._looked_s = self.clock()
        self._cost_s = self._kept_s - began_s
