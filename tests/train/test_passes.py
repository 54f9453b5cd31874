"""The pass that counts a partition, where the partition cannot be read to its end."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import shardwise
from shardwise.core.errors import DataError
from shardwise.data.dataset import Dataset, open_dataset
from shardwise.data.options import ReadOptions
from shardwise.split.hashed import HashSplitter
from shardwise.train.passes import ProfilePass

ROWS = 900


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of three row groups; the last row group of the second has a page of zeros."""
    folder = tmp_path_factory.mktemp("damaged")
    rng = np.random.default_rng(0)
    for number in range(3):
        path = folder / f"{number}.parquet"
        x = rng.normal(size=ROWS // 3)
        table = pa.table({"x": x, "z": rng.normal(size=len(x)), "y": (x > 0).astype(int)})
        pq.write_table(table, path, row_group_size=100, use_dictionary=False, compression="none")
        if number == 1:
            content = bytearray(path.read_bytes())
            start = pq.read_metadata(path).row_group(2).column(1).data_page_offset
            content[start : start + 60] = bytes(60)
            path.write_bytes(content)
    return folder


def profile_pass(dataset: Dataset, blobs: Path) -> ProfilePass:
    return ProfilePass(dataset=dataset, splitter=HashSplitter(("x",)), blobs=blobs)


def test_a_damaged_partition_is_an_error_that_names_the_way_on(damaged: Path, tmp_path: Path) -> None:
    dataset = open_dataset(damaged)
    with pytest.raises(DataError, match="--skip-corrupt") as caught:
        profile_pass(dataset, tmp_path)(dataset.partitions[1])
    assert "1.parquet" in str(caught.value)


def test_it_counts_as_without_rows_where_that_is_asked_for(damaged: Path, tmp_path: Path) -> None:
    dataset = open_dataset(damaged, options=ReadOptions(skip_corrupt=True))
    work = profile_pass(dataset, tmp_path)
    whole, lost = (work(partition) for partition in dataset.partitions[:2])
    assert (whole["rows"], whole.get("corrupt"), whole["skipped_rows"]) == (ROWS // 3, None, 0)
    assert (lost["rows"], lost["folds"]) == (0, {})
    assert "1.parquet" in lost["corrupt"]


def test_a_run_goes_on_without_it_and_counts_what_is_lost(damaged: Path, tmp_path: Path) -> None:
    """Columns that the damage does not touch are not read from it either: the features know the same rows."""
    result = shardwise.train(
        damaged, target="y", drop=("z",), trials=2, families=("linear",), skip_corrupt=True,
        runs_folder=str(tmp_path / "runs"),
    )  # fmt: skip
    assert result.rows == 2 * ROWS // 3
    (told,) = [finding for finding in result.findings if finding["code"] == "corrupt"]
    assert told["evidence"]["rows"] == ROWS // 3
    assert "1.parquet" in told["text"]
