"""Where records of CSV end: line breaks outside quoted cells, found without parsing.

A quote opens a cell only as its first character, and a quoted cell ends at a quote that is not doubled (RFC 4180). So
the number of such quotes before a line break tells whether it lies inside a cell: it does when the number is odd.
Quotes elsewhere (`5" pipe`) are plain characters and do not count.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Positions = np.ndarray[tuple[int], np.dtype[np.int64]]
Bools = np.ndarray[tuple[int], np.dtype[np.bool_]]
_QUOTE, _LF, _CR = 0x22, 0x0A, 0x0D


@dataclass
class QuoteScanner:
    """Follows a stream of bytes that begins at the start of a record; `inside`: the last byte is in a quoted cell."""

    delimiter: int
    newline: int = _LF
    inside: bool = False
    _before: int = _LF  # the byte before the next chunk
    _closed: bool = False  # that byte is a quote which ended a cell

    def record_ends(self, chunk: bytes) -> Positions:
        """Positions in `chunk` just behind the line breaks that end a record, int64, ascending."""
        breaks = np.flatnonzero(np.frombuffer(chunk, dtype=np.uint8) == self.newline)
        before = self.inside
        toggles = self._advance(chunk)
        if len(toggles) == 0:
            return breaks[:0] if before else breaks + 1
        outside = (np.searchsorted(toggles, breaks) + before) % 2 == 0
        ends: Positions = breaks[outside] + 1
        return ends

    def last_record_end(self, chunk: bytes) -> int:
        """The last of `record_ends`; 0 when there is none."""
        before = self.inside
        toggles = self._advance(chunk)
        end = len(chunk)
        while (end := chunk.rfind(bytes([self.newline]), 0, end)) >= 0:
            if (int(np.searchsorted(toggles, end)) + before) % 2 == 0:
                return end + 1
        return 0

    def _advance(self, chunk: bytes) -> Positions:
        """Take note of `chunk`; positions of the quotes in it that open or close a cell."""
        if _QUOTE in chunk:
            toggles = self._toggles(np.frombuffer(chunk, dtype=np.uint8))
        else:
            toggles = np.empty(0, dtype=np.int64)
        if chunk:
            self.inside = bool((len(toggles) + self.inside) % 2)
            self._before = chunk[-1]
            self._closed = not self.inside and len(toggles) > 0 and int(toggles[-1]) == len(chunk) - 1
        return toggles

    def _toggles(self, content: np.ndarray) -> Positions:
        quotes: Positions = np.flatnonzero(content == _QUOTE)
        # taken in turns, each opening quote must stand at the start of a cell or double a closing one
        openers = quotes[int(self.inside) :: 2]
        starts = self._starts(content, openers)
        if not starts.all() and not (starts | _follow(quotes, self._closed)[int(self.inside) :: 2]).all():
            starts = self._starts(content, quotes)
            quotes = quotes[self._walk(starts.tolist(), _follow(quotes, self._closed).tolist())]
        return quotes

    def _starts(self, content: np.ndarray, quotes: Positions) -> Bools:
        """Whether the byte before each quote ends a cell."""
        ends_cell = np.zeros(256, dtype=bool)
        ends_cell[[self.delimiter, _LF, _CR]] = True
        starts: Bools = ends_cell[content[quotes - 1]]
        if len(quotes) and quotes[0] == 0:
            starts[0] = ends_cell[self._before]
        return starts

    def _walk(self, starts: Sequence[bool], doubled: Sequence[bool]) -> Bools:
        """The same, quote by quote, for text with stray quotes."""
        inside, closed = self.inside, self._closed
        counts = np.zeros(len(starts), dtype=bool)
        for i, (at_start, after_quote) in enumerate(zip(starts, doubled, strict=True)):
            if inside:
                inside, closed, counts[i] = False, True, True
            elif at_start or (after_quote and closed):
                inside, closed, counts[i] = True, False, True
            else:
                closed = False
        return counts


def _follow(quotes: Positions, closed: bool) -> Bools:
    """Whether each quote stands right behind another; the first: behind one that `closed` a cell in the last chunk."""
    return np.concatenate([[bool(quotes[0] == 0) and closed], np.diff(quotes) == 1])


def safe_points(chunks: Iterable[bytes], scanner: QuoteScanner, step: int) -> Iterator[int]:
    """Ends of records in a stream, one for about each `step` bytes, ascending; bounded memory."""
    offset, wanted = 0, step
    for chunk in chunks:
        ends = scanner.record_ends(chunk) + offset
        offset += len(chunk)
        while len(ends) and wanted <= ends[-1]:
            point = int(ends[np.searchsorted(ends, wanted)])
            yield point
            wanted = max(wanted + step, point + 1)
