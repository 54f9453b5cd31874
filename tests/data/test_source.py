"""Sources of which a file cannot be opened: an error that names it and the way on, or a dataset without it."""

import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from shardwise.core.errors import DataError, SchemaError
from shardwise.data.dataset import open_dataset
from shardwise.data.options import ReadOptions
from shardwise.data.source import Losses, estimate_rows, first_batch, is_corrupt, scan, suggest_skipping, tell_losses

TABLE = pa.table({"x": list(range(100)), "y": [0.5] * 100})
SKIP = ReadOptions(skip_corrupt=True)


def write_parquet(path: Path) -> None:
    pq.write_table(TABLE, path)


def write_arrow(path: Path) -> None:
    feather.write_feather(TABLE, path)


@pytest.fixture(params=["parquet", "arrow"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Three files, of which the second is cut in half."""
    for name in "abc":
        path = tmp_path / f"{name}.{request.param}"
        (write_parquet if request.param == "parquet" else write_arrow)(path)
        if name == "b":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return tmp_path


def test_a_file_that_cannot_be_opened_is_named_with_the_way_on(folder: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_dataset(folder)
    suggest_skipping(caught.value)
    suggest_skipping(caught.value)
    assert "b." in str(caught.value)
    assert str(caught.value).count("--skip-corrupt") == 1


def test_the_others_are_read_where_that_is_asked_for(folder: Path) -> None:
    dataset = open_dataset(folder, options=SKIP)
    rows = [value for _, batch in scan(dataset) for value in batch.column("x").to_pylist()]
    assert rows == 2 * list(range(100))
    assert dataset.report["corrupt_files"]["files"] == 1
    told = list(tell_losses(dataset, Losses()))
    assert len(told) == 1
    assert "1 file(s) cannot be read" in told[0][0]
    assert "b." in told[0][0]
    assert told[0][1]["paths"] == dataset.report["corrupt_files"]["paths"]


def test_without_any_file_that_can_be_opened_it_is_an_error(folder: Path) -> None:
    for path in folder.iterdir():
        if path.stem != "b":
            path.unlink()
    with pytest.raises(DataError, match=r"b\."):
        open_dataset(folder, options=SKIP)


def test_what_is_left_out_is_part_of_the_identity_of_the_data(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet")
    usual, skipping = open_dataset(tmp_path), open_dataset(tmp_path, options=SKIP)
    assert usual.fingerprint != skipping.fingerprint
    assert "skip_corrupt" not in usual.describe()["options"]


def test_a_changed_file_and_another_schema_are_never_corrupt() -> None:
    changed = DataError("the file has changed since the dataset was planned", hint="Start again.")
    other = SchemaError("there is no column 'z'")
    assert not is_corrupt(changed)
    assert not is_corrupt(other)
    suggest_skipping(changed)
    assert changed.hint == "Start again."


def test_rows_of_text_are_estimated_by_the_first_batch(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y\n" + "".join(f"{i},{i % 7}\n" for i in range(20_000)))
    dataset = open_dataset(tmp_path / "t.csv")
    first = first_batch(dataset, 100)
    assert first is not None
    assert first.num_rows == 100
    assert estimate_rows(dataset) == pytest.approx(20_000, rel=0.3)


@pytest.mark.parametrize("name", ["csv", "jsonl"])
@pytest.mark.parametrize("first", [0, 3, 30])
def test_a_short_first_file_does_not_stand_for_all(tmp_path: Path, first: int, name: str) -> None:
    line = "{i},{f}\n" if name == "csv" else '{{"x": {i}, "y": {f}}}\n'
    head = "x,y\n" if name == "csv" else ""
    rows = [first, *[700] * 11, 9_000]
    for number, count in enumerate(rows):
        lines = "".join(line.format(i=i % 1000, f=i / 7) for i in range(count))
        (tmp_path / f"{number:02}.{name}").write_text(head + lines)
    assert estimate_rows(open_dataset(tmp_path)) == pytest.approx(sum(rows), rel=0.3)


def test_the_rows_of_a_few_short_files_are_counted(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.csv").write_text("x\n" + "1\n" * 10**number)
    assert estimate_rows(open_dataset(tmp_path)) == 1111


def test_long_rows_of_text_are_estimated_beyond_the_first_block(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y\n" + "".join(f"{i},{'ab' * 4_000}\n" for i in range(2_000)))
    assert estimate_rows(open_dataset(tmp_path / "t.csv")) == pytest.approx(2_000, rel=0.1)


def test_what_cannot_be_read_does_not_count(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.csv").write_text("x,y\n" + "1,2\n" * 1000)
    dataset, broken = open_dataset(tmp_path, options=SKIP), tmp_path / "a.csv"
    planned = broken.stat()
    broken.write_text(broken.read_text()[:-4] + '1,"\n')  # a quote that is never closed
    os.utime(broken, ns=(planned.st_atime_ns, planned.st_mtime_ns))
    assert estimate_rows(dataset) == 3_000
    with pytest.raises(DataError, match="--skip-corrupt"):
        estimate_rows(replace(dataset, reader=replace(dataset.reader, options=ReadOptions())))
