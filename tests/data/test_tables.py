"""Tables in memory become datasets."""

import datetime as dt
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from shardwise.core.errors import DataError, SchemaError
from shardwise.data.dataset import from_table
from shardwise.testing.readers import rows_of, sample_table

COLUMNS = {"x": [1, 2, 3], "text": ["a", None, "é🎉"], "day": [dt.date(2024, 1, 1), None, dt.date(2024, 1, 3)]}


@pytest.mark.parametrize(
    "make",
    [
        pa.table,
        lambda columns: pa.table(columns).to_reader(),
        lambda columns: pa.record_batch(columns),
        pl.DataFrame,
        lambda columns: pa.table(columns).to_pandas(types_mapper=pd.ArrowDtype),
        lambda columns: columns,
    ],
    ids=["table", "reader", "batch", "polars", "pandas", "dict"],
)
def test_every_kind_of_table(tmp_path: Path, make: Any) -> None:
    dataset = from_table(make(COLUMNS), str(tmp_path))
    assert rows_of(dataset).to_pydict() == COLUMNS
    assert dataset.rows == 3


def test_pandas_types(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "category": pd.Categorical(["a", "b", None]),
            "grade": pd.Categorical([3, 1, 3]),
            "mixed": [1, "x", None],
            "float": [1.5, np.nan, 2.0],
            "when": pd.to_datetime(["2024-01-01", None, "2024-01-02"]).tz_localize("Europe/Rome"),
            "span": pd.to_timedelta([1, 2, 3], unit="min"),
            7: [True, False, True],
        },
        index=[5, 6, 7],
    )
    read = rows_of(from_table(frame, str(tmp_path)))
    assert read.column_names == ["category", "grade", "mixed", "float", "when", "span", "7"]
    assert read["category"].to_pylist() == ["a", "b", None]
    assert read["grade"].to_pylist() == ["3", "1", "3"]
    assert read["mixed"].to_pylist() == ["1", "x", None]
    assert read["float"].to_pylist() == [1.5, None, 2.0]
    assert read.schema.field("when").type.tz == "Europe/Rome"
    assert read["span"].to_pylist() == [60.0, 120.0, 180.0]


def test_polars_categories_and_record_arrays(tmp_path: Path) -> None:
    frame = pl.DataFrame({"c": pl.Series(["a", "b", "a"], dtype=pl.Categorical)})
    assert rows_of(from_table(frame, str(tmp_path)))["c"].to_pylist() == ["a", "b", "a"]
    records = np.array([(1, 2.5), (3, 4.5)], dtype=[("i", "i4"), ("f", "f8")])
    assert rows_of(from_table(records, str(tmp_path))).to_pydict() == {"i": [1, 3], "f": [2.5, 4.5]}


def test_the_same_table_gives_the_same_dataset(tmp_path: Path) -> None:
    first, again = from_table(sample_table(), str(tmp_path)), from_table(sample_table(), str(tmp_path))
    assert first.fingerprint == again.fingerprint
    assert from_table(sample_table(seed=1), str(tmp_path)).fingerprint != first.fingerprint
    assert len(os.listdir(tmp_path)) == 2


def test_large_tables_have_several_partitions(tmp_path: Path) -> None:
    table = pa.table({"x": np.arange(300_000)})
    dataset = from_table(table, str(tmp_path), target_bytes=1_000_000)
    assert len(dataset.partitions) > 1
    assert rows_of(dataset).equals(table)


@pytest.mark.parametrize(
    ("table", "kind", "words"),
    [
        (pa.table({"x": pa.array([], pa.int64())}), DataError, "no rows"),
        ([1, 2], DataError, "list is no table"),
        ({"x": [1], "y": [1, 2]}, SchemaError, "different lengths"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), SchemaError, "used twice: 'a'"),
        (pd.DataFrame({"x": [{"a": 1}, "b"]}), SchemaError, "'x' holds a dict"),
        (pa.table({"x": [[1]]}), SchemaError, "'x' is nested"),
    ],
)
def test_what_is_no_table_is_refused_and_leaves_nothing(tmp_path: Path, table: Any, kind: type, words: str) -> None:
    with pytest.raises(kind, match=words):
        from_table(table, str(tmp_path / "folder"))
    assert list(tmp_path.rglob("*.arrow")) == []
