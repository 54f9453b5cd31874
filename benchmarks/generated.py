"""A table of any size from a seed: 28 columns of all kinds, with nulls and a target that is hard but not random.

Columns: `x0` .. `x16` float32 (`x0` to `x3` with nulls, `x4` to `x6` heavy-tailed, `x7` whole numbers); `low0` ..
`low4` strings of 2 to 200 categories; `high0` .. `high2` strings of ten thousand to a million, some of them frequent;
`seen` and `changed` timestamps; `target` 0 or 1, which depends on some of each kind.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sklearn.metrics import roc_auc_score

TARGET = "target"
CHUNK_ROWS = 250_000  # made at once, and the rows of a row group
NUMBERS = 17
LOW = (2, 5, 12, 50, 200)
HIGH = (10_000, 100_000, 1_000_000)
WIDE_NUMBERS = 20
TEST_CHUNK = 100_000  # chunks from here on are in no table
HOT_KEY = "key-hot"
NULL_SHARE = 0.05
SPAN_S = 3 * 365 * 86_400


def write_table(folder: Path, rows: int, *, files: int = 4, seed: int = 0) -> Path:
    """Write `rows` rows as Parquet files into `folder`, with one chunk in memory at a time; the folder.

    The same seed gives the same rows, and a long table begins with the rows of a shorter one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    per_file = -(-rows // files)
    for number in range(files):
        pieces = _pieces(number * per_file, min(rows, (number + 1) * per_file), seed)
        with pq.ParquetWriter(folder / f"part-{number:03}.parquet", chunk(0, seed).schema, compression="zstd") as out:
            for piece in pieces:
                out.write_table(piece)
    return folder


def write_wide(
    folder: Path, rows: int, *, files: int = 8, hot_share: float = 0.0, compression: str = "zstd", target: bool = False
) -> Path:
    """Write `rows` rows of 30 columns (20 float32, 5 + 3 categories, 2 timestamps), and the target on request.

    With a `hot_share`, so many rows have the same key in `high0`. Returns the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    per_file = -(-rows // files)
    schema = _wide_chunk(0, hot_share, target=target).schema
    for number in range(files):
        with pq.ParquetWriter(folder / f"part-{number:03}.parquet", schema, compression=compression) as out:
            start, stop = number * per_file, min(rows, (number + 1) * per_file)
            while start < stop:
                piece = _wide_chunk(start // CHUNK_ROWS, hot_share, target=target)
                piece = piece.slice(start % CHUNK_ROWS, stop - start)
                out.write_table(piece)
                start += piece.num_rows
    return folder


def write_wide_test(path: Path, rows: int) -> float:
    """Write labelled rows that no shorter table has; the AUC of the true probabilities, which no model can beat."""
    numbers = range(TEST_CHUNK, TEST_CHUNK + -(-rows // CHUNK_ROWS))
    pq.write_table(pa.concat_tables([chunk(i, 0, numbers=WIDE_NUMBERS) for i in numbers]).slice(0, rows), path)
    drives = [_draw(np.random.default_rng([0, i]), WIDE_NUMBERS).drive for i in numbers]
    y = pq.read_table(path, columns=[TARGET])[TARGET].to_numpy()
    return float(roc_auc_score(y, np.concatenate(drives)[:rows]))


def _wide_chunk(number: int, hot_share: float, *, target: bool) -> pa.Table:
    table = chunk(number, 0, numbers=WIDE_NUMBERS)
    table = table if target else table.drop_columns([TARGET])
    if hot_share:
        hot = np.random.default_rng([1, number]).random(CHUNK_ROWS) < hot_share
        place = table.schema.get_field_index("high0")
        table = table.set_column(place, "high0", pc.if_else(pa.array(hot), HOT_KEY, table["high0"]))
    return table


def _pieces(start: int, stop: int, seed: int) -> Iterator[pa.Table]:
    """Rows `start` to `stop`, cut where chunks end."""
    while start < stop:
        offset = start % CHUNK_ROWS
        piece = chunk(start // CHUNK_ROWS, seed).slice(offset, stop - start)
        yield piece
        start += piece.num_rows


def chunk(number: int, seed: int, *, numbers: int = NUMBERS) -> pa.Table:
    """Rows `number * CHUNK_ROWS` to `(number + 1) * CHUNK_ROWS` of the endless table."""
    rng = np.random.default_rng([seed, number])
    drawn = _draw(rng, numbers)
    target = np.asarray(rng.random(CHUNK_ROWS) < 1 / (1 + np.exp(-drawn.drive)), np.int8)
    columns: dict[str, Any] = _numbers(rng, drawn.x)
    columns |= {f"low{i}": _strings("c", codes) for i, codes in enumerate(drawn.low)}
    columns |= {f"high{i}": _strings("key-", codes) for i, codes in enumerate(drawn.high)}
    columns["seen"] = _times(rng, drawn.seen)
    columns["changed"] = _times(rng, drawn.seen + rng.exponential(30 * 86_400, CHUNK_ROWS).astype(np.int64))
    return pa.table({**columns, TARGET: target})


class _Drawn(NamedTuple):
    """Values before nulls and labels; `drive` is the log-odds of the target."""

    x: np.ndarray
    low: list[np.ndarray]
    high: list[np.ndarray]
    seen: np.ndarray

    @property
    def drive(self) -> np.ndarray:
        """A bent, an interacting, two categorical parts, and the hour of the day."""
        x, hour = self.x, self.seen % 86_400 / 3600
        drive = 1.5 * np.sin(2 * x[0]) + x[1] * x[2] + 0.8 * (x[4] > 0.5)
        drive = drive + _effect(self.low[3]) + _effect(self.high[0])
        return np.asarray(drive + 0.7 * np.cos(2 * np.pi * hour / 24) - 0.5)


def _draw(rng: np.random.Generator, numbers: int) -> _Drawn:
    x = rng.normal(size=(numbers, CHUNK_ROWS)).astype(np.float32)
    low = [rng.integers(0, size, CHUNK_ROWS) for size in LOW]
    high = [(size * rng.random(CHUNK_ROWS) ** 3).astype(np.int64) for size in HIGH]
    return _Drawn(x, low, high, rng.integers(0, SPAN_S, CHUNK_ROWS))


def _effect(codes: np.ndarray) -> np.ndarray:
    """A number between -1 and 1 for each category, always the same."""
    return np.asarray(np.sin(codes * 12.9898 + 78.233))


def _numbers(rng: np.random.Generator, x: np.ndarray) -> dict[str, pa.Array]:
    shown = x.copy()
    shown[4:7] = np.exp(2 * x[4:7])
    shown[7] = np.round(10 * x[7])
    masks = [rng.random(CHUNK_ROWS) < NULL_SHARE if i < 4 else None for i in range(len(x))]
    return {f"x{i}": pa.array(shown[i], mask=mask) for i, mask in enumerate(masks)}


def _strings(prefix: str, codes: np.ndarray) -> pa.Array:
    return pc.binary_join_element_wise(prefix, pc.cast(pa.array(codes), pa.string()), "")


def _times(rng: np.random.Generator, seconds: np.ndarray) -> pa.Array:
    times = np.datetime64("2021-01-01", "us") + seconds.astype("timedelta64[s]")
    return pa.array(times, mask=rng.random(CHUNK_ROWS) < NULL_SHARE)
