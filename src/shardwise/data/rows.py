"""Model-ready rows on disk, the reading side: what models iterate, memory-mapped.

`RowsWriter` (in `rows_writer`, where the layout is described) writes them; `DiskRows` reads the floats of the folds
that are asked for, `BinnedRows` the codes. The order of the rows is: partition, then block, then fold; within a block
the order of the partition.
"""

import copy
import json
import mmap
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from shardwise.core.errors import DataError, OverBudget, context
from shardwise.core.schema import Feature
from shardwise.core.state import dump_state, load_state
from shardwise.core.units import format_size
from shardwise.data.bins import Binner
from shardwise.data.chunk import Chunk, joined, sliced, taken
from shardwise.data.limits import Limit
from shardwise.data.reading import READING
from shardwise.data.rows_order import Piece, Shuffle, places, spread
from shardwise.data.rows_writer import FORMAT, MANIFEST, PREFIX, PartitionWriter, RowsWriter, partition_index
from shardwise.stats.hashes import mix
from shardwise.store.files import write_atomic

__all__ = ["BINNER", "BinnedRows", "Chunk", "DiskRows", "PartitionWriter", "Rows", "RowsWriter", "keep_binner"]

BINNER = "binner.state"  # in a folder of codes: what they mean
SHUFFLE_ROWS = 65_536  # rows that a shuffled reader holds at most ...
SHUFFLE_BYTES = 64 * 2**20  # ... and their size
_SHARE_SEED = 7
LEAST_PARTITIONS = 9  # from which a share of them is drawn, and not of the rows


class Rows(Protocol):
    """Model-ready rows on disk, iterated again and again; nothing is copied until somebody asks for it."""

    @property
    def features(self) -> Sequence[Feature]: ...

    @property
    def n_rows(self) -> int: ...

    def chunks(self) -> Sequence[Chunk]:
        """Memory-mapped pieces, always in the same order."""
        ...

    def batches(self, batch_rows: int, seed: int | None = None) -> Iterator[Chunk]:
        """Bounded batches in row order, or shuffled as a pure function of `seed`."""
        ...

    def places(self, batch_rows: int, seed: int) -> Iterator[np.ndarray]:
        """Of the shuffled batches of this seed the places of the rows, int64, in the order of the chunks."""
        ...

    def in_memory(self, limit_bytes: int) -> Chunk:
        """All rows as one chunk in memory; raises `OverBudget` above the limit."""
        ...

    def target(self) -> np.ndarray:
        """Float64 `(rows,)` in the order of the chunks."""
        ...

    def weight(self) -> np.ndarray | None:
        """Float32 `(rows,)` in the order of the chunks; None when no row has one."""
        ...


class _Block(NamedTuple):
    """Rows `start` to `stop` of the files of a partition, all of one fold."""

    partition: int
    start: int
    stop: int
    fold: int


class DiskRows:
    """The rows of some folds (and partitions; None: all) of a folder that `RowsWriter` filled.

    Picklable: a reference, the files are mapped anew in each process. Raises `DataError` when the files were written
    for another number of features, or by another format version.
    """

    def __init__(
        self,
        folder: str | Path,
        features: Sequence[Feature],
        folds: Sequence[int],
        *,
        partitions: Sequence[int] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.features = tuple(features)
        self.folds = tuple(folds)
        self._partitions = None if partitions is None else frozenset(partitions)
        self.limit: Limit | None = None
        self._blocks, self._has_weights, self._version = self._plan()

    def _plan(self) -> tuple[tuple[_Block, ...], bool, tuple[object, ...]]:
        blocks: list[_Block] = []
        weighted, version = False, []
        for path in sorted(self.folder.glob(f"{PREFIX}*/{MANIFEST}")):
            index = partition_index(path.parent.name)
            if index is None or (self._partitions is not None and index not in self._partitions):
                continue
            with context(path=str(path)):
                manifest = self._checked(path)
                ends = np.cumsum([0, *(rows for _, rows in manifest["blocks"])]).tolist()
                spans = zip(manifest["blocks"], pairwise(ends), strict=True)
                blocks += [_Block(index, *span, fold) for (fold, _), span in spans if fold in self.folds]
                weighted |= manifest["weighted"]
                status = path.stat()
                version.append((index, status.st_ino, status.st_mtime_ns))
        return tuple(blocks), weighted, tuple(version)

    def _checked(self, path: Path) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise DataError(f"rows of format {manifest['format']} cannot be read, only {FORMAT}", hint="Encode again.")
        if manifest["features"] != len(self.features):
            raise DataError(
                f"the rows have {manifest['features']} features, {len(self.features)} are expected",
                hint="Encode again.",
            )
        return manifest

    def limited(self, limit: Limit | None) -> Self:
        """The same rows, with less weight for those beyond the limit."""
        other = copy.copy(self)
        other.limit = limit
        return other

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for two readers of the same rows, also when the files were written again in between."""
        return (str(self.folder.resolve()), tuple(sorted(self.folds)), self._version, self.limit)

    @property
    def _weighted(self) -> bool:
        return self._has_weights or self.limit is not None

    @cached_property
    def n_rows(self) -> int:
        return sum(block.stop - block.start for block in self._blocks)

    @cached_property
    def _maps(self) -> dict[tuple[int, str], np.ndarray]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_maps"}

    def _map(self, partition: int, kind: str) -> np.ndarray:
        if (partition, kind) not in self._maps:
            path = self.folder / f"{PREFIX}{partition:06d}" / f"{kind}.npy"
            with context(path=str(path)):
                self._maps[partition, kind] = np.asarray(np.load(path, mmap_mode="r"))
        return self._maps[partition, kind]

    def _column(self, block: _Block, kind: str) -> np.ndarray:
        return self._map(block.partition, kind)[block.start : block.stop]

    def _weights(self, block: _Block) -> np.ndarray | None:
        """Partitions without weights count 1 where others have some."""
        if not self._weighted:
            return None
        y = self._column(block, "y")
        if (self.folder / f"{PREFIX}{block.partition:06d}" / "weight.npy").exists():
            weight = self._column(block, "weight")
        else:
            weight = np.ones(len(y), np.float32)
        return weight if self.limit is None else weight * self.limit.weight(y)

    def _chunk(self, block: _Block) -> Chunk:
        width = len(self.features)
        flat = self._map(block.partition, "X")[block.start * width : block.stop * width]
        X = flat.reshape(width, block.stop - block.start).T
        return Chunk(X, self._column(block, "y"), self._weights(block))

    def chunks(self) -> Sequence[Chunk]:
        """Memory-mapped, one for each block, in the order of the rows."""
        return [self._chunk(block) for block in self._blocks]

    def target(self) -> np.ndarray:
        """Float64 `(rows,)`."""
        return self._gathered(np.empty(self.n_rows), lambda block: self._column(block, "y"))

    def weight(self) -> np.ndarray | None:
        """Float32 `(rows,)`; None when no row has a weight."""
        if not self._weighted:
            return None
        return self._gathered(np.empty(self.n_rows, np.float32), self._weights)

    def group(self) -> np.ndarray | None:
        """Uint64 `(rows,)`, equal for rows of one group; None where rows do not belong to any."""
        partitions = {block.partition for block in self._blocks}
        if not all((self.folder / f"{PREFIX}{number:06d}" / "group.npy").exists() for number in partitions):
            return None
        return self._gathered(np.empty(self.n_rows, np.uint64), lambda block: self._column(block, "group"))

    def _gathered(self, out: np.ndarray, read: Callable[[_Block], np.ndarray | None]) -> np.ndarray:
        """One value for each row, in order; pages that were read are given back, as they would count as memory."""
        start = 0
        for block in self._blocks:
            values = read(block)
            assert values is not None
            out[start : start + len(values)] = values
            start += len(values)
            self._release(block.partition)
        return out

    def _release(self, partition: int) -> None:
        """Unmap the pages of a partition that are in memory; they are read again when somebody looks."""
        for (number, _), values in self._maps.items():
            mapped = getattr(values.base, "_mmap", None)
            if number == partition and mapped is not None:
                mapped.madvise(mmap.MADV_DONTNEED)

    def in_memory(self, limit_bytes: int) -> Chunk:
        """All rows as one column-major chunk in memory; raises `OverBudget` above the limit."""
        size = self.n_rows * (4 * len(self.features) + 12)
        if size > limit_bytes:
            raise OverBudget(
                f"{self.n_rows:,} rows take {format_size(size)} in memory, {format_size(limit_bytes)} are allowed",
                hint="Read them in batches, or allow more memory.",
            )
        X = np.empty((len(self.features), self.n_rows), np.float32)
        start = 0
        with READING.running():
            for chunk in self.chunks():
                X[:, start : start + len(chunk.y)] = chunk.X.T
                start += len(chunk.y)
            return Chunk(X.T, self.target(), self.weight())

    def batches(self, batch_rows: int, seed: int | None = None) -> Iterator[Chunk]:
        """Column-major batches of at most `batch_rows` rows; each row comes exactly once.

        Without a seed: views, in row order. With one: pieces of 1024 rows in random order go through a shuffle
        buffer of 65,536 rows (or 64 MiB); all batches but the last have `batch_rows` rows.
        """
        if seed is None:
            for chunk in self.chunks():
                for start in range(0, len(chunk.y), batch_rows):
                    yield sliced(chunk, start, start + batch_rows)
            return
        shuffle = Shuffle(pile_rows=self._pile_rows, batch_rows=batch_rows, read=self._piece, join=joined, take=taken)
        yield from READING.each(shuffle.batches(self.block_rows(), seed))

    def places(self, batch_rows: int, seed: int) -> Iterator[np.ndarray]:
        """Of the shuffled `batches` of this seed the places of the rows, int64, in the order of the chunks."""
        return places(self.block_rows(), seed, pile_rows=self._pile_rows, batch_rows=batch_rows)

    def block_rows(self) -> list[int]:
        """Rows of each block, which is a chunk."""
        return [block.stop - block.start for block in self._blocks]

    @property
    def _pile_rows(self) -> int:
        return min(SHUFFLE_ROWS, SHUFFLE_BYTES // (4 * len(self.features) + 12))

    def _piece(self, piece: Piece) -> Chunk:
        return sliced(self._chunk(self._blocks[piece.block]), piece.start, piece.stop)


class BinnedRows(DiskRows):
    """The rows of some folds as codes: chunks have X uint8 `(rows, binned features)`.

    `features` are those that have bins, in the order of the columns of X; `binner` tells what the codes mean. `share`
    below 1 leaves rows out, by a hash of their place: the same ones at each reading.
    """

    def __init__(
        self,
        folder: str | Path,
        features: Sequence[Feature],
        folds: Sequence[int],
        *,
        share: float = 1.0,
        partitions: Sequence[int] | None = None,
    ) -> None:
        with context(path=str(folder)):
            self.binner = Binner.from_state(load_state((Path(folder) / BINNER).read_bytes()))
        self.all_features = tuple(features)
        self.share = share
        super().__init__(folder, self.binner.features(features), folds, partitions=partitions)

    @property
    def source(self) -> "BinnedRows":
        """The rows of which these are a part, as far as bins are concerned."""
        return self

    def sampled(self, share: float) -> "BinnedRows":
        """About that share of the rows."""
        if share >= 1.0:
            return self
        kept = None if self._partitions is None else sorted(self._partitions)
        return BinnedRows(self.folder, self.all_features, self.folds, share=share * self.share, partitions=kept)

    def of_partitions(self, share: float, seed: int = 0) -> "BinnedRows":
        """About that share of the partitions, of which larger shares have the same and more.

        They are like the whole: in the order of the mean of their targets, any share is spread evenly over it. Of few
        partitions (fewer than `LEAST_PARTITIONS`) it is that share of the rows.
        """
        numbers = np.unique([block.partition for block in self._blocks])
        if share >= 1.0 or len(numbers) < LEAST_PARTITIONS:
            return self.sampled(share)
        ordered = numbers[np.argsort([self._mean(number) for number in numbers], kind="stable")]
        drawn = ordered[spread(len(numbers), seed)[: max(1, round(share * len(numbers)))]]
        return BinnedRows(
            self.folder, self.all_features, self.folds, share=self.share, partitions=sorted(map(int, drawn))
        )

    def _mean(self, partition: int) -> float:
        """Of the targets of a partition's rows."""
        blocks = [block for block in self._blocks if block.partition == partition]
        total = sum(float(np.sum(self._column(block, "y"))) for block in blocks)
        self._release(partition)
        return total / max(1, sum(block.stop - block.start for block in blocks))

    @property
    def key(self) -> tuple[object, ...]:
        return (*super().key, self.share)

    @cached_property
    def n_rows(self) -> int:
        return sum(self.block_rows())

    def block_rows(self) -> list[int]:
        if self.share >= 1.0:
            return super().block_rows()
        return [len(_drawn(block, self.share)) for block in self._blocks]

    def pieces(self) -> list[tuple[int, int, np.ndarray | None]]:
        """(fold, rows, places of those that the share takes; None: all) of each block."""
        return [
            (block.fold, block.stop - block.start, None if self.share >= 1.0 else _drawn(block, self.share))
            for block in self._blocks
        ]

    def block(self, number: int) -> Chunk:
        """A block as a chunk; its pages count as memory until `release`."""
        return self._chunk(self._blocks[number])

    def release(self, number: int) -> None:
        """Give the pages of a block's partition back."""
        self._release(self._blocks[number].partition)

    def _chunk(self, block: _Block) -> Chunk:
        chunk = super()._chunk(block)
        if self.share >= 1.0:
            return chunk
        chosen = _drawn(block, self.share)
        return Chunk(np.take(chunk.X.T, chosen, axis=1).T, chunk.y, chunk.weight)

    def _column(self, block: _Block, kind: str) -> np.ndarray:
        values = super()._column(block, kind)
        return values if self.share >= 1.0 else values[_drawn(block, self.share)]


def _drawn(block: _Block, share: float) -> np.ndarray:
    """Places in a block of the rows that a share takes, int64."""
    places = np.arange(block.start, block.stop, dtype=np.uint64) + np.uint64(block.partition << 40)
    return np.flatnonzero(mix(places, _SHARE_SEED) < np.uint64(share * 2**64))


def keep_binner(folder: Path, binner: Binner) -> None:
    """Write what the codes of a folder mean; the same binner gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / BINNER, dump_state(binner.state()))
