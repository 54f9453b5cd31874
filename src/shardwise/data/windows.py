"""Windows of grouped time series: consecutive rows of a key become one row, with a column for each value.

The rows are partitioned by their key first, so that all rows of a key lie in one file; each file is sorted, cut, and
what comes out is partitioned like any data. A window knows nothing of the rows after it: columns that are not in the
window are those of its newest row. Where a key has fewer rows than a window, it has one, and what is missing at its
beginning is null. Windows are counted from the first row of a key, so that rows which come later change none of them.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shardwise.core.errors import DataError, SchemaError
from shardwise.core.events import Advanced, Events, Said, StageStarted
from shardwise.core.names import nearest_column
from shardwise.core.windows import WindowSpec
from shardwise.data.dataset import Dataset, ReadOptions
from shardwise.data.partition import PartitionOptions, PartitionResult, check_out, create, open_source
from shardwise.store.files import scratch_folder

SCRATCH = ".windows"
EXPANDED = 6  # bytes in memory for one as stored, about; sorting holds the rows twice
_GROUP_ROWS = 16_384


def create_windows(
    sources: Sequence[str], out: str, spec: WindowSpec, options: PartitionOptions, *,
    reading: ReadOptions | None = None, events: Events | None = None,
) -> PartitionResult:  # fmt: skip
    """Write the windows of `sources` into the new folder `out`, by the key unless `options` say otherwise.

    All rows of a key must fit into memory. Raises `SchemaError` for columns that are not there, `DataError` for a time
    that is null, and what `create` raises.
    """
    events = events or Events()
    folder = check_out(out, sources, overwrite=options.overwrite)
    dataset = open_source(sources, options, reading)
    check_columns(dataset, spec)
    keys = ",".join(f'"{name}"' for name in spec.key)
    by_key = replace(options, by=(f"hash:{keys}:{_parts(dataset, spec, options)}",), count=None, overwrite=False)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(folder.parent, SCRATCH) as scratch:
        whole = create(sources, str(scratch / "keys"), by_key, reading=reading, events=events)
        (scratch / "windows").mkdir()
        events.emit(StageStarted(stage="windows", total=len(whole.manifest.files)))
        for file in whole.manifest.files:
            rows = pq.read_table(scratch / "keys" / file.path)
            _write(windows(rows, spec), scratch / "windows" / file.path)
            events.emit(Advanced(stage="windows", rows=file.rows))
        events.emit(Said(text=_advice(spec)))
        asked = options if options.by else replace(options, by=(f"hash:{keys}",))
        return create([str(scratch / "windows")], out, asked, events=events)


def check_columns(dataset: Dataset, spec: WindowSpec) -> None:
    """Raise `SchemaError` for columns that are not there, and for names that windows would give twice."""
    names = dataset.schema.names
    for name in spec.reads:
        if name not in names:
            raise SchemaError(f"the data has no column {name!r}", hint=nearest_column(name, names))
    made = {spec.name(column, place) for column in spec.columns for place in range(spec.rows)}
    both = sorted(made & set(names))
    if both:
        raise SchemaError(f"the data has a column {both[0]!r}, as windows would", hint="Rename it.")


def windows(rows: pa.Table, spec: WindowSpec) -> pa.Table:
    """The windows of all rows of some keys, in the order of the keys and then of the time.

    >>> spec = WindowSpec.read("x by id over 2 of t")
    >>> rows = pa.table({"id": ["a", "a", "a", "b"], "t": [3, 1, 2, 1], "x": [30, 10, 20, 7]})
    >>> windows(rows, spec).to_pydict()
    {'id': ['a', 'b'], 't': [2, 1], 'x_0': [10, None], 'x_1': [20, 7]}
    """
    if rows.column(spec.time).null_count:
        raise DataError(f"column {spec.time!r} has nulls", hint="Windows need the time of each row.", column=spec.time)
    rows = rows.sort_by([(name, "ascending") for name in (*spec.key, spec.time)]).combine_chunks()
    first, ends = _ends(rows, spec)
    kept = rows.drop_columns(list(spec.columns)).take(pa.array(ends))
    for column in spec.columns:
        values = rows.column(column)
        for place in range(spec.rows):
            at = ends - (spec.rows - 1 - place)
            kept = kept.append_column(spec.name(column, place), values.take(pa.array(at, mask=at < first)))
    return kept


def _ends(rows: pa.Table, spec: WindowSpec) -> tuple[np.ndarray, np.ndarray]:
    """Of each window of sorted rows: the first row of its key, and its own last row, int64."""
    new = np.zeros(rows.num_rows, dtype=bool)
    new[:1] = True
    for name in spec.key:
        encoded = pc.dictionary_encode(rows.column(name), null_encoding="encode").unify_dictionaries()
        indices = np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])
        new[1:] |= indices[1:] != indices[:-1]
    starts = np.flatnonzero(new)
    stops = np.append(starts[1:], rows.num_rows)[: len(starts)]
    counts = 1 + np.maximum(0, stops - starts - spec.rows) // spec.step
    first = np.repeat(starts, counts)
    number = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    return first, np.minimum(first + spec.rows - 1 + number * spec.step, np.repeat(stops, counts) - 1)


def _parts(dataset: Dataset, spec: WindowSpec, options: PartitionOptions) -> int:
    """Files such that the rows of one, and their windows, fit into a quarter of the memory."""
    wider = EXPANDED * (1 + -(-spec.rows // spec.step))
    return max(1, -(-dataset.size_bytes * wider * 4 // options.room_bytes))


def _advice(spec: WindowSpec) -> str:
    group = f" --group {spec.key[0]}" if len(spec.key) == 1 else ""
    return f"To train on them: --families rnn --sequence '{spec.sequence}'{group}. Windows of a key belong together."


def _write(made: pa.Table, path: Path) -> None:
    pq.write_table(made, path, compression="lz4", row_group_size=_GROUP_ROWS)
