"""Windows against a plain loop over the rows of each key."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardwise import partition
from shardwise.core.errors import ConfigError, DataError, SchemaError
from shardwise.core.windows import WindowSpec
from shardwise.data.dataset import open_dataset
from shardwise.data.windows import windows


def steps(lengths: dict[str | None, int], seed: int = 0) -> pa.Table:
    """Rows of some keys in random order; `t` counts within each, `y` is what the newest row of a window carries."""
    rng = np.random.default_rng(seed)
    keys = list(itertools.chain.from_iterable([key] * count for key, count in lengths.items()))
    t = np.concatenate([np.arange(count) for count in lengths.values()])
    table = pa.table({"id": pa.array(keys, pa.string()), "t": t, "x": rng.integers(0, 999, len(t)).astype(np.int16),
                      "z": rng.normal(size=len(t)), "y": t % 3})  # fmt: skip
    return table.take(pa.array(rng.permutation(len(t))))


def expected(table: pa.Table, spec: WindowSpec) -> list[dict[str, object]]:
    rows = table.to_pylist()
    made = []
    for key in {row["id"] for row in rows}:
        mine = sorted((row for row in rows if row["id"] == key), key=lambda row: row["t"])
        ends = range(spec.rows - 1, len(mine), spec.step) if len(mine) >= spec.rows else [len(mine) - 1]
        for end in ends:
            row = {name: mine[end][name] for name in ("id", "t", "y")}
            for column, place in itertools.product(spec.columns, range(spec.rows)):
                at = end - (spec.rows - 1 - place)
                row[f"{column}_{place}"] = mine[at][column] if at >= 0 else None
            made.append(row)
    return made


def by_key(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    return sorted(rows, key=lambda row: (str(row["id"]), row["t"]))


@pytest.mark.parametrize(("length", "step"), [(4, 2), (4, 4), (3, 5), (1, 1), (7, 1)])
def test_windows_are_those_of_a_plain_loop(length: int, step: int) -> None:
    table = steps({"a": 11, "b": 3, "c": 4, None: 6, "d": 1})
    spec = WindowSpec.read(f"x,z by id over {length} step {step} of t")
    made = windows(table, spec)
    assert by_key(made.to_pylist()) == by_key(expected(table, spec))
    assert made.schema.field("x_0").type == pa.int16()


def test_rows_that_come_later_change_no_window_that_was_there() -> None:
    whole = steps({"a": 40, "b": 17})
    spec = WindowSpec.read("x by id over 5 step 3 of t")
    early = whole.filter(pa.compute.less(whole["t"], 12))
    before = windows(early, spec).to_pylist()
    after = windows(whole, spec).to_pylist()
    assert all(row in after for row in before)


def test_files_are_written_as_a_dataset_in_which_a_key_lies_in_one_partition(tmp_path: Path) -> None:
    table = steps({f"k{i}": 5 + i for i in range(20)})
    (tmp_path / "in").mkdir()
    pq.write_table(table.slice(0, 100), tmp_path / "in" / "a.parquet")
    pq.write_table(table.slice(100), tmp_path / "in" / "b.parquet")
    line = "x,z by id over 4 step 2 of t"
    result = partition(tmp_path / "in", tmp_path / "out", "hash:id:3", window=line)
    dataset = open_dataset([str(tmp_path / "out")])
    found = [list(dataset.read(part)) for part in dataset.partitions]
    rows = [row for part in found for batch in part for row in batch.to_pylist()]
    assert by_key(rows) == by_key(expected(table, WindowSpec.read(line)))
    assert result.manifest.count == 3
    keys = [{key for batch in part for key in batch["id"].to_pylist()} for part in found]
    assert sum(map(len, keys)) == len(set().union(*keys)) == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_without_a_scheme_they_go_by_the_key(tmp_path: Path) -> None:
    pq.write_table(steps({"a": 9, "b": 9}), tmp_path / "in.parquet")
    result = partition(tmp_path / "in.parquet", tmp_path / "out", window="x by id over 3 of t")
    assert result.manifest.by == ('hash:"id"',)
    assert result.manifest.rows == 6


def test_what_cannot_be_cut_is_told(tmp_path: Path) -> None:
    table = steps({"a": 9})
    pq.write_table(table.append_column("x_1", table["x"]), tmp_path / "in.parquet")
    for line, error, message in (
        ("w by id over 3 of t", SchemaError, "no column 'w'"),
        ("x by id over 3 of t", SchemaError, "a column 'x_1', as windows would"),
        ("x by id over 0 of t", ConfigError, "rows 0"),
        ("x by x over 3 of t", ConfigError, "'x' twice"),
        ("x of t", ConfigError, "says no windows"),
    ):
        with pytest.raises(error, match=message):
            partition(tmp_path / "in.parquet", tmp_path / "out", window=line)
    nulls = table.set_column(1, "t", pa.nulls(9, pa.int64()))
    with pytest.raises(DataError, match="'t' has nulls"):
        windows(nulls, WindowSpec.read("z by id over 3 of t"))
    assert not (tmp_path / "out").exists()
